"""The page's backend: it decides who may upload what, and holds the keys, which browsers never get.

Run it with the stack's outputs and AWS credentials in the environment, as `eval "$(make env)"` sets them for the laptop
stack. It is a sample: it has no users, so everybody who reaches it sees and deletes all of its photos.
"""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

_FOLDER = "web/"  # of the page's photos. With users, one each: users/<id>/
_FILES = {"/": ("index.html", "text/html; charset=utf-8"), "/app.js": ("app.js", "text/javascript; charset=utf-8")}
_LARGEST_BODY = 10_000
session: Any = boto3.Session(region_name=os.environ["AWS_DEFAULT_REGION"])
s3 = session.client("s3")


class Refused(Exception):
    """The page's request is wrong."""


def call_api(method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Call Darkroom's HTTP API, signed by this backend; returns the status and the decoded answer."""
    url = os.environ["ApiUrl"] + path
    data = json.dumps(body).encode() if body is not None else None
    headers = {"x-api-key": os.environ["ApiKey"], "Content-Type": "application/json"}
    signed = AWSRequest(method, url, headers, data)
    SigV4Auth(session.get_credentials(), "execute-api", session.region_name).add_auth(signed)
    try:
        with urlopen(Request(url, data, dict(signed.headers.items()), method=method), timeout=30) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def sign_form(wanted: dict[str, Any]) -> tuple[int, Any]:
    """Have a form signed for a new photo, or for one that is replaced. The page names the file, never the key."""
    name = str(wanted["name"]).replace("\\", "/").rpartition("/")[2][-200:]
    key = own_key(wanted["key"]) if wanted.get("key") else f"{_FOLDER}{uuid4()}/{name}"
    body: dict[str, Any] = {"key": key}
    if str(wanted.get("type", "")).startswith("image/"):  # browsers do not know the type of every photo
        body["content_type"] = wanted["type"]
    if limit := os.environ.get("MAX_BYTES"):
        body["max_bytes"] = int(limit)
    status, form = call_api("POST", "/uploads", body)
    if status == 200:
        form["key"] = key
        form["fields"].setdefault("Content-Type", "image/*")
        if endpoint := os.environ.get("AWS_ENDPOINT_URL"):  # browsers do not trust the laptop stack's certificate
            form["url"] = endpoint + urlsplit(form["url"]).path
    return status, form


def own_key(key: Any) -> str:
    """Return a key that the page names, if it is one of its photos. Raises Refused."""
    if not isinstance(key, str) or not key.startswith(_FOLDER) or ".." in key.split("/"):  # it becomes part of a path
        raise Refused
    return key


def delete_image(key: str) -> tuple[int, Any]:
    """Delete the upload; Darkroom then withdraws its renditions."""
    s3.delete_object(Bucket=os.environ["UploadsBucketName"], Key=key)
    return 200, {}


class Handler(BaseHTTPRequestHandler):
    """Serves the page and answers its requests."""

    def do_GET(self) -> None:
        """Serve a file of the page, an image's record, or the list of images."""
        path = urlsplit(self.path).path
        if path in _FILES and self.is_ours():
            name, kind = _FILES[path]
            self.send(200, (Path(__file__).parent / name).read_bytes(), kind)
        else:
            self.answer("GET", path)

    def do_POST(self) -> None:
        """Sign a form."""
        self.answer("POST", urlsplit(self.path).path)

    def do_DELETE(self) -> None:
        """Delete an image."""
        self.answer("DELETE", urlsplit(self.path).path)

    def answer(self, method: str, path: str) -> None:
        """Answer the page, and no other site's page that the person has open."""
        if not (self.is_ours() and self.is_of_the_page()):
            return self.send_json(403, {"error": {"message": "This backend answers its own page alone."}})
        key = parse_qs(urlsplit(self.path).query).get("key", [""])[0]
        try:
            match method, path:
                case "GET", "/images":
                    status, told = call_api("GET", f"/images?prefix={quote(_FOLDER, safe='')}")
                case "GET", "/image":
                    status, told = call_api("GET", f"/images/{quote(own_key(key))}")
                case "DELETE", "/image":
                    status, told = delete_image(own_key(key))
                case "POST", "/form":
                    length = min(int(self.headers.get("Content-Length", "0")), _LARGEST_BODY)
                    status, told = sign_form(json.loads(self.rfile.read(length)))
                case _:
                    status, told = 404, {"error": {"message": "There is no such path."}}
        except (Refused, ValueError, KeyError, TypeError):
            status, told = 400, {"error": {"message": "The request is not one of the page's."}}
        return self.send_json(status, told)

    def is_ours(self) -> bool:
        """Whether the page has this server's own name: another name can be led here by DNS."""
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and hosts[0].partition(":")[0] in ("127.0.0.1", "localhost")

    def is_of_the_page(self) -> bool:
        """Whether a browser sends the request from the page. Browsers set one of these headers, older ones only one."""
        own = f"http://{self.headers['Host']}"
        return self.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin" and (
            self.headers.get("Origin", own) == own
        )

    def send_json(self, status: int, told: Any) -> None:
        """Send an answer for the page's script."""
        self.send(status, json.dumps(told).encode(), "application/json")

    def send(self, status: int, body: bytes, kind: str) -> None:
        """Send an answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")  # no site shows it under its own buttons
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(os.environ.get("WEB_PORT", "8080"))
    print(f"http://localhost:{port}/", flush=True)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
