"""Time a photo from its upload to the first byte of a rendition, on the running laptop stack.

python -m benchmarks.first_byte --uploads 100
"""

from __future__ import annotations

import argparse
import json
import ssl
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import Request, urlopen
from uuid import uuid4

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.rendering.measurements import save
from local.config import PROJECT, LaptopError, LocalConfig, local_config
from local.stack import Stack, load
from operations.terminal import printable

_PHOTO = PROJECT / "samples" / "IMG_0042.JPG"
_SECONDS_BETWEEN_LOOKS = 0.05  # the API accepts 50 requests a second
_SECONDS = 120


def measure(config: LocalConfig, deployed: Stack, uploads: int, console: Console) -> dict[str, Any]:
    """Upload photos one after the other; returns p50 and p99 of each stage in ms.

    The last stage, where renditions are delivered, is the first byte by the stable address, its redirect included.
    """
    trust = ssl.create_default_context(cafile=str(config.folder / "emulator.crt"))
    taken: dict[str, list[float]] = defaultdict(list)
    for number in track(range(uploads + 1), description="Uploading", console=console, transient=True):
        stages = _upload(deployed, trust)
        for name, seconds in stages.items() if number else ():  # the first one starts the functions
            taken[name].append(seconds)
    quantiles = {name: statistics.quantiles(seconds, n=100, method="inclusive") for name, seconds in taken.items()}
    return {
        "uploads": uploads,
        "photo": f"{_PHOTO.name}, {_PHOTO.stat().st_size / 1000:.0f} kB",
        "ms": {name: {"p50": cuts[49] * 1000, "p99": cuts[98] * 1000} for name, cuts in quantiles.items()},
    }


def _upload(deployed: Stack, trust: ssl.SSLContext) -> dict[str, float]:
    stages: dict[str, float] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        begun = perf_counter()
        yield
        stages[stage] = perf_counter() - begun

    key = f"first-byte/{uuid4()}.jpg"
    with timed("together"):
        with timed("sign the form"):
            form = _call(deployed, "POST", "/uploads", {"key": key, "content_type": "image/jpeg"})
        with timed("upload to S3"):
            _post(form, trust)
        with timed("render and publish"):
            image = _rendered(deployed, key)
        rendition = image["renditions"][1]
        with timed("first byte"):
            _first_byte(rendition["url"], trust)
    if "stable_url" in rendition:
        with timed("first byte, by the stable address"):
            _first_byte(rendition["stable_url"], trust)
    deployed.s3.delete_object(Bucket=deployed.outputs["UploadsBucketName"], Key=key)
    return stages


def _rendered(deployed: Stack, key: str) -> dict[str, Any]:
    end = perf_counter() + _SECONDS
    while perf_counter() < end:
        (image,) = _call(deployed, "GET", f"/images?prefix={quote(key, safe='')}")["images"]
        if image["state"] == "READY":
            found: dict[str, Any] = image
            return found
        sleep(_SECONDS_BETWEEN_LOOKS)
    raise LaptopError(f"{key} is not rendered after {_SECONDS} s. See: make status")


def _call(deployed: Stack, method: str, path: str, body: Any = None) -> Any:
    url = deployed.outputs["ApiUrl"] + path
    data = json.dumps(body).encode() if body else None
    headers = {"x-api-key": deployed.outputs["ApiKey"], "Content-Type": "application/json"}
    request = AWSRequest(method, url, headers, data)
    SigV4Auth(deployed.signing_credentials(), "execute-api", deployed.region).add_auth(request)
    signed = Request(url, data, dict(request.headers.items()), method=method)  # noqa: S310 # loopback
    with urlopen(signed, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def _post(form: dict[str, Any], trust: ssl.SSLContext) -> None:
    border = uuid4().hex
    parts = [
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in form["fields"].items()
    ]
    head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'.encode()
    body = b"".join([*parts, head, _PHOTO.read_bytes(), f"\r\n--{border}--\r\n".encode()])
    request = Request(form["url"], body, {"Content-Type": f"multipart/form-data; boundary={border}"})  # noqa: S310
    urlopen(request, timeout=30, context=trust).close()  # noqa: S310


def _first_byte(url: str, trust: ssl.SSLContext) -> None:
    context, parts, headers = trust if url.startswith("https:") else None, urlsplit(url), {}
    if parts.netloc.partition(":")[0].endswith(".localhost"):  # Python asks the system, which may not know such names
        url, headers = urlunsplit(parts._replace(netloc=f"127.0.0.1:{parts.port}")), {"Host": parts.netloc}
    with urlopen(Request(url, headers=headers), timeout=30, context=context) as answer:  # noqa: S310
        answer.read(1)


def main() -> int:
    """Measure, print, and keep the result for docs/performance.md; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_byte", description=__doc__)
    parser.add_argument("--uploads", type=int, default=100)
    uploads = parser.parse_args().uploads
    console = Console(highlight=False)
    try:
        config = local_config()
        measured = measure(config, load(config), uploads, console)
    except LaptopError as error:
        console.print(f"[red]✗[/] {printable(str(error))}", soft_wrap=True)
        return 1
    table = Table(title=f"{uploads} uploads of {measured['photo']}, ms", title_justify="left", header_style="bold")
    for column in ("", "p50", "p99"):
        table.add_column(column, justify="right" if column else "left")
    for name, cuts in measured["ms"].items():
        table.add_row(name, f"{cuts['p50']:.0f}", f"{cuts['p99']:.0f}")
    console.print(table)
    save("first_byte", measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
