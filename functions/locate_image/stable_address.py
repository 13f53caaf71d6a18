"""From an image's stable address to its current rendition.

CloudFront's function (``template.yaml``, StableAddressFunction) sends the address as ``/<format>/<address in
base64url>``: the best format that the browser takes, and text that needs no encoding, because CloudFront's signature
does not fit a path with other characters.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote

#: By what CloudFront's function found in the Accept header: which formats to look for, the best first.
_WANTED = {
    "avif": ("image/avif", "image/webp"),
    "webp": ("image/webp",),
    "other": (),
}
_SENT = re.compile(r"/(avif|webp|other)/([A-Za-z0-9_-]+)")
_ADDRESS = re.compile(r"/i/(.+)/([a-z0-9-]{1,32})", re.DOTALL)
_LONGEST_KEY = 1024  # bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
# How long CloudFront and browsers may repeat an answer, in seconds. Unknown images may be uploaded any moment.
_KEPT = {302: 60, 404: 10, 410: 60}


@dataclass(frozen=True)
class Rendition:
    """A rendition of the record."""

    name: str
    key: str
    content_type: str


@dataclass(frozen=True)
class Published:
    """The part of a record that matters here.

    ``renditions`` are empty unless the image is published. Of those with one name, the first is for every client.
    """

    state: str
    renditions: tuple[Rendition, ...]


class Images(Protocol):
    """The images table."""

    def read(self, image_key: str) -> Published | None:
        """Read what is published under a key; None if it is unknown. Raises ServiceUnavailable."""


@dataclass(frozen=True)
class Answer:
    """A status, and for a redirect where to."""

    status: int
    location: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers."""
        headers = {"Cache-Control": f"public, max-age={_KEPT[self.status]}", "Vary": "Accept"}
        return headers | ({"Location": self.location} if self.location else {})


def locate(path: str, images: Images, delivers: Callable[[str], bool]) -> Answer:
    """Answer a request.

    Parameters
    ----------
    path:
        As CloudFront's function sends it.
    delivers:
        Whether a rendition's key is one that everybody may read.

    Returns
    -------
    Answer
        302 to the current rendition; 410 if the image is deleted; 404 if it is unknown, not published, not delivered
        or has no such rendition.

    Raises
    ------
    ServiceUnavailable
        The table did not answer.
    """
    asked = _read(path)
    if asked is None:
        return Answer(404)
    best, image_key, name = asked
    published = images.read(image_key)
    if published and published.state == "DELETED":
        return Answer(410)
    found = _pick([r for r in published.renditions if r.name == name], best) if published else None
    if found is None or not delivers(found.key):
        return Answer(404)
    return Answer(302, f"/{quote(found.key)}")


def _read(path: str) -> tuple[str, str, str] | None:
    """The format, the upload's key and the rendition's name; None if the path is no stable address."""
    sent = _SENT.fullmatch(path)
    if not sent:
        return None
    best, encoded = sent.groups()
    try:
        address = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        parts = _ADDRESS.fullmatch(address)
        image_key = unquote(parts[1], errors="strict") if parts else ""
    except ValueError:
        return None
    if not parts or len(image_key.encode()) > _LONGEST_KEY:
        return None
    return best, image_key, parts[2]


def _pick(formats: Sequence[Rendition], best: str) -> Rendition | None:
    by_type = {rendition.content_type: rendition for rendition in formats}
    return next((by_type[one] for one in _WANTED[best] if one in by_type), formats[0] if formats else None)
