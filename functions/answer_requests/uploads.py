"""Requests for an upload form.

S3 enforces what the form's signed policy says: the key or the folder, the size, the content type and the time.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from functions.answer_requests.requests import LONGEST_KEY_BYTES, RequestRefused

#: As the uploads bucket announces them, in lower case; a test compares them.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".gif", ".tif", ".tiff"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif"),
)
SECONDS = (60, 3600)
_USUAL_SECONDS = 600
_LONGEST_PREFIX = 512  # the file's name has room after it
_CONTENT_TYPE = re.compile(r"image/[a-z0-9][a-z0-9.+-]{0,99}")
_FIELDS = {"key", "prefix", "content_type", "max_bytes", "expires_in"}


@dataclass(frozen=True)
class UploadForm:
    """What a form lets its bearer upload, once or more often until it expires.

    Attributes
    ----------
    key, prefix:
        The one key, or the folder in which the browser names the file. The other is empty.
    content_type:
        The one content type; empty for any that begins with ``image/``.
    """

    key: str
    prefix: str
    content_type: str
    max_bytes: int
    expires_in: int


def read_form(body: Mapping[str, Any], most_bytes: int) -> UploadForm:
    """Read the body of POST /uploads.

    Parameters
    ----------
    most_bytes:
        The largest upload that is rendered; the default of ``max_bytes``, and its limit.

    Raises
    ------
    RequestRefused
        400, with the field that is wrong and what is allowed.
    """
    if unknown := sorted(body.keys() - _FIELDS):
        raise _wrong(f"There is no field {unknown[0][:100]}", ", ".join(sorted(_FIELDS)))
    if ("key" in body) == ("prefix" in body):
        raise _wrong("The body has both key and prefix, or neither", "key or prefix")
    form = UploadForm(
        key=body.get("key", ""),
        prefix=body.get("prefix", ""),
        content_type=body.get("content_type", ""),
        max_bytes=body.get("max_bytes", most_bytes),
        expires_in=body.get("expires_in", _USUAL_SECONDS),
    )
    if "key" in body and not _is_key(form.key):
        raise _wrong(
            f"key is {_shown(form.key)}",
            f"up to {LONGEST_KEY_BYTES} bytes of printable text that end in {', '.join(IMAGE_SUFFIXES)}",
        )
    if "prefix" in body and not _is_prefix(form.prefix):
        raise _wrong(
            f"prefix is {_shown(form.prefix)}", f"up to {_LONGEST_PREFIX} bytes of printable text that end in /"
        )
    if "content_type" in body and not _is_text(form.content_type, _CONTENT_TYPE):
        raise _wrong(f"content_type is {_shown(form.content_type)}", "image/ and a name such as jpeg")
    if not _is_whole(form.max_bytes, 1, most_bytes):
        raise _wrong(f"max_bytes is {_shown(form.max_bytes)}", f"1 to {most_bytes}")
    if not _is_whole(form.expires_in, *SECONDS):
        raise _wrong(f"expires_in is {_shown(form.expires_in)}", f"{SECONDS[0]} to {SECONDS[1]} seconds")
    return form


def policy_of(form: UploadForm) -> tuple[dict[str, str], list[Any]]:
    """Return the fields that the form sends unchanged, and the conditions of its policy other than the key's."""
    fields = {"success_action_status": "201"}
    conditions: list[Any] = [{"success_action_status": "201"}, ["content-length-range", 1, form.max_bytes]]
    if form.content_type:
        fields["Content-Type"] = form.content_type
        conditions.append({"Content-Type": form.content_type})
    else:
        conditions.append(["starts-with", "$Content-Type", "image/"])
    return fields, conditions


def _is_key(key: object) -> bool:
    """Whether S3 announces an upload under this key: each suffix in the three spellings that it compares."""
    if not isinstance(key, str) or not 1 <= _bytes(key) <= LONGEST_KEY_BYTES or "${filename}" in key:
        return False
    return any(key.endswith((suffix, suffix.upper(), f".{suffix[1:].capitalize()}")) for suffix in IMAGE_SUFFIXES)


def _is_prefix(prefix: object) -> bool:
    # Without the slash, the folder of user 47 would hold those of users 470 to 479.
    if not isinstance(prefix, str) or "${filename}" in prefix:
        return False
    return prefix.endswith("/") and 1 <= _bytes(prefix) <= _LONGEST_PREFIX


def _is_text(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _bytes(text: str) -> int:
    """Count the bytes that S3 counts; lone surrogates, which it refuses, make a text too long."""
    return len(text.encode(errors="replace")) if text.isprintable() else LONGEST_KEY_BYTES + 1


def _shown(value: object) -> str:
    return repr(value)[:100]


def _wrong(message: str, allowed: str) -> RequestRefused:
    return RequestRefused(400, "BAD_REQUEST_BODY", f"{message}.", allowed)
