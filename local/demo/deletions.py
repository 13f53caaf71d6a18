"""The demo's deleted and undeleted photo: withdrawn at once, and published again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from darkroom.items import stored_renditions
from rich.console import Console
from rich.table import Table

from local.config import PROJECT
from local.outcomes import SECONDS_TO_FINISH, poll, read_items
from local.stack import Stack
from operations.terminal import printable

_PHOTO = PROJECT / "samples" / "IMG_0042.JPG"


@dataclass
class ShownDeletion:
    """A photo that is deleted: a card of the page, a row of the table, an entry of ``demo.json``.

    Attributes
    ----------
    state:
        Of its record, at the end.
    withdrawn_ms, published_again_ms:
        Milliseconds from the deletion to the tombstone without renditions, and from the undeletion to the record.
    left:
        Keys of all its renditions, of every version, at the end.
    """

    key: str
    is_undeleted: bool
    photo: Path = _PHOTO
    version_id: str = ""
    state: str = "unfinished"
    withdrawn_ms: int | None = None
    published_again_ms: int | None = None
    image: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @property
    def done(self) -> str:
        """What was done to it."""
        return "deleted, then undeleted" if self.is_undeleted else "deleted"

    @property
    def as_expected(self) -> bool:
        """Whether it was withdrawn, and is published again only if it was undeleted."""
        published = {r["key"] for r in stored_renditions(self.image)} if self.is_undeleted else set()
        expected = "READY" if self.is_undeleted else "DELETED"
        return self.withdrawn_ms is not None and self.state == expected and set(self.left) == published


def send_in(deployed: Stack) -> list[ShownDeletion]:
    """Upload two photos."""
    shown = [ShownDeletion("demo/deleted/gone.jpg", False), ShownDeletion("demo/deleted/back-again.jpg", True)]
    bucket = deployed.outputs["UploadsBucketName"]
    for row in shown:
        row.version_id = deployed.s3.put_object(Bucket=bucket, Key=row.key, Body=row.photo.read_bytes())["VersionId"]
    return shown


def delete_and_undelete(deployed: Stack, shown: Sequence[ShownDeletion], console: Console) -> None:
    """Delete both once they are published, undelete one, and fill in the outcomes."""
    s3, bucket = deployed.s3, deployed.outputs["UploadsBucketName"]
    with console.status("Deleting and undeleting ..."):
        for row in shown:
            _milliseconds(partial(_is_published, deployed, row))
        for row in shown:
            marker = s3.delete_object(Bucket=bucket, Key=row.key)["VersionId"]
            row.withdrawn_ms = _milliseconds(partial(_is_withdrawn, deployed, row))
            if row.is_undeleted:
                s3.delete_object(Bucket=bucket, Key=row.key, VersionId=marker)
                row.published_again_ms = _milliseconds(partial(_is_published, deployed, row))
            row.image, row.left = _record(deployed, row), _renditions(deployed, row)
            row.state = row.image.get("state", row.state)


def _is_published(deployed: Stack, row: ShownDeletion) -> bool:
    return _record(deployed, row).get("version_id") == row.version_id


def _is_withdrawn(deployed: Stack, row: ShownDeletion) -> bool:
    return _record(deployed, row).get("state") == "DELETED" and not _renditions(deployed, row)


def _milliseconds(is_so: Callable[[], bool]) -> int | None:
    """Milliseconds until something is so; None if it never is."""
    started = monotonic()
    came = poll(is_so, bool, seconds=SECONDS_TO_FINISH, every=0.05)
    return round((monotonic() - started) * 1000) if came else None


def _record(deployed: Stack, row: ShownDeletion) -> dict[str, Any]:
    return read_items(deployed, deployed.outputs["ImagesTableName"], "image_key", [row.key]).get(row.key, {})


def _renditions(deployed: Stack, row: ShownDeletion) -> list[str]:
    answer = deployed.s3.list_objects_v2(Bucket=deployed.outputs["RenditionsBucketName"], Prefix=f"{row.key}/")
    return [found["Key"] for found in answer.get("Contents", [])]


def tabulate(shown: Sequence[ShownDeletion]) -> Table:
    """A row for each photo."""
    table = Table(title="Deleted photos", title_justify="left", header_style="bold")
    table.add_column("photo", overflow="fold")
    table.add_column("record")
    for column in ("renditions", "withdrawn in", "published\nagain in"):
        table.add_column(column, justify="right")
    for row in shown:
        table.add_row(
            f"{printable(row.key)}\n[dim]{row.done}[/]",
            row.state,
            str(len(row.left)),
            *(f"{ms} ms" if ms is not None else "" for ms in (row.withdrawn_ms, row.published_again_ms)),
        )
    return table
