"""What chaos does to the uploads bucket: uploads, deletions of every kind, undeletions."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock

from darkroom.image_messages import delete_task_id, upload_task_id
from PIL import Image, ImageDraw

from local.config import PROJECT
from local.stack import Stack

_PHOTO = PROJECT / "samples" / "raccoon.jpg"
_SIZE = (400, 300)  # small: the faults concern a photo's way, not its rendering


@dataclass(frozen=True)
class Upload:
    """One accepted upload. ``error_code`` is what its dead letter must have, empty if it can be rendered."""

    key: str
    version_id: str
    task_id: str
    error_code: str = ""


class Change(StrEnum):
    """What happens to a key that was uploaded before."""

    DELETE = "keys deleted"
    UNDELETE = "keys undeleted"
    DELETE_NEWEST = "newest versions deleted"
    UPLOAD = "keys uploaded again"


# In turns; more deletions than undeletions, so that some keys stay deleted.
_TURNS = (Change.DELETE, Change.UNDELETE, Change.DELETE_NEWEST, Change.UPLOAD, Change.DELETE)


@dataclass(frozen=True)
class Deletion:
    """One accepted deletion: of a key, of its newest version, or of its delete marker."""

    change: Change
    key: str
    task_id: str


@dataclass
class Changes:
    """Changes a few keys, one change at a time, and remembers what it did."""

    deployed: Stack
    keys: Sequence[str]
    chance: random.Random
    uploads: list[Upload] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def make_one(self) -> Upload | Deletion:
        """Make the next change, to any key that allows it."""
        with self._lock:
            number = len(self.uploads) + len(self.deletions)
            wanted = _TURNS[number % len(_TURNS)]
            states = {key: _state(self.deployed, key) for key in self.keys}
            able = [key for key in self.keys if _allows(wanted, *states[key])]
            change, key = (wanted, self.chance.choice(able)) if able else (Change.UPLOAD, self.chance.choice(self.keys))
            if change is Change.UPLOAD:
                self.uploads.append(upload(self.deployed, key, numbered(small_photo(), 100_000 + number)))
                return self.uploads[-1]
            versions, marker = states[key]
            gone = {Change.UNDELETE: marker, Change.DELETE_NEWEST: next(iter(versions), "")}.get(change, "")
            self.deletions.append(_delete(self.deployed, change, key, gone))
            return self.deletions[-1]


def _state(deployed: Stack, key: str) -> tuple[Sequence[str], str]:
    """The versions of a key, the newest first, and the delete marker that hides them."""
    answer = deployed.s3.list_object_versions(Bucket=deployed.outputs["UploadsBucketName"], Prefix=key)
    hiding = [marker["VersionId"] for marker in answer.get("DeleteMarkers", []) if marker["IsLatest"]]
    return [version["VersionId"] for version in answer.get("Versions", [])], next(iter(hiding), "")


def _allows(change: Change, versions: Sequence[str], marker: str) -> bool:
    match change:
        case Change.UNDELETE:
            return bool(marker)
        case Change.UPLOAD:
            return not versions or bool(marker)
    return bool(versions) and not marker


def _delete(deployed: Stack, change: Change, key: str, version_id: str) -> Deletion:
    bucket = deployed.outputs["UploadsBucketName"]
    if version_id:
        deployed.s3.delete_object(Bucket=bucket, Key=key, VersionId=version_id)
        return Deletion(change, key, delete_task_id(bucket, key, version_id))
    marker = deployed.s3.delete_object(Bucket=bucket, Key=key)["VersionId"]
    return Deletion(change, key, delete_task_id(bucket, key, marker, is_marker=True))


def small_photo() -> Image.Image:
    """A real photo, small."""
    with Image.open(_PHOTO) as photo:
        photo.draft("RGB", _SIZE)
        return photo.resize(_SIZE)


def numbered(photo: Image.Image, number: int) -> bytes:
    """A JPEG that differs from those of other numbers."""
    copy = photo.copy()
    ImageDraw.Draw(copy).text((20, 20), str(number), fill="white", font_size=80)
    buffer = io.BytesIO()
    copy.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def upload(deployed: Stack, key: str, body: bytes, error_code: str = "") -> Upload:
    """Upload a file."""
    bucket = deployed.outputs["UploadsBucketName"]
    version_id = deployed.s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"]
    return Upload(key, version_id, upload_task_id(bucket, key, version_id), error_code)
