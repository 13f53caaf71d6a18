"""Requests and answers in the form of API Gateway's proxy integration.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
LONGEST_KEY_BYTES = 1024


class RequestRefused(Exception):
    """A request that gets an error. ``allowed`` tells what to send instead; empty if nothing would help."""

    def __init__(self, status: int, code: str, message: str, allowed: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.allowed = status, code, allowed


def path_parameter(event: Mapping[str, Any], name: str) -> str:
    """Return a parameter of the path. A REST API passes it percent-encoded, as the client sent it."""
    return unquote(event["pathParameters"][name])


def query_of(event: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the query parameters, decoded; of a repeated one the last."""
    return event.get("queryStringParameters") or {}


def json_body(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the body, a JSON object that API Gateway compared with its schema.

    Raises
    ------
    RequestRefused
        415: the content type is not JSON, and API Gateway compared nothing. 400: the body is not a JSON object.
    """
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestRefused(415, "UNSUPPORTED_MEDIA_TYPE", f"The content type is {kind}.", "application/json")
    try:
        body = json.loads(event.get("body") or "")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise RequestRefused(400, "BAD_REQUEST_BODY", "The body is not a JSON object.", "a JSON object")
    return body


def answered(status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer in JSON. No cache may keep it: it changes, and its addresses can be signed."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body, default=_number, ensure_ascii=False)}


def refused(refusal: RequestRefused) -> dict[str, Any]:
    """Return an error, in the one shape that every error of the API has."""
    error = {"code": refusal.code, "message": str(refusal)}
    return answered(refusal.status, {"error": error | ({"allowed": refusal.allowed} if refusal.allowed else {})})


def _number(value: Decimal) -> int | float:
    """Return one of DynamoDB's decimals as JSON's number."""
    return int(value) if value == int(value) else float(value)
