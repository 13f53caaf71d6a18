"""Uploads, deletions and undeletions, with their events in any order and with crashes in between."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from darkroom.errors import TransientFault
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.process_image import events
from functions.process_image.images import (
    ImageRecord,
    ImageVersion,
    KnownImage,
    Tombstone,
    image_key_of,
    is_rendition_of,
    rendition_key,
    upload_of,
)
from functions.process_image.ports import Result
from tests.unit.events import BUCKET, EXISTING_BUCKET
from tests.unit.fakes import (
    TWO_SIZES,
    Calls,
    Killed,
    Trouble,
    UploadedVersion,
    World,
    delete_event,
    eventbridge_event,
    marker_event,
    photo,
    plain_task,
    upload_event,
)


@pytest.fixture
def world() -> World:
    return World()


class TestAnExistingBucket:
    """One that was there before the stack, whose events come by EventBridge."""

    RECORD = f"other-buckets/{EXISTING_BUCKET}/a.jpg"

    @pytest.mark.parametrize("version_id", ["v1", None], ids=["with versions", "without"])
    def test_has_records_and_renditions_of_its_own(self, world: World, version_id: str | None) -> None:
        # given a photo of the same name in both buckets
        world.upload()
        world.upload(f"{EXISTING_BUCKET}:a.jpg", version_id or "null", data=photo("green"))
        # when both are announced
        world.deliver(upload_event())
        outcome = world.deliver(eventbridge_event(version_id=version_id))
        # then
        assert outcome.result is Result.PROCESSED
        own, other = world.record("a.jpg"), world.record(self.RECORD)
        assert (own.bucket, other.bucket) == (BUCKET, EXISTING_BUCKET)
        assert own.dominant_colour != other.dominant_colour
        assert all(is_rendition_of(self.RECORD, rendition.key) for rendition in other.renditions)
        assert not {rendition.key for rendition in own.renditions} & {rendition.key for rendition in other.renditions}

    def test_withdraws_its_own_image_alone(self, world: World) -> None:
        for where in ("a.jpg", f"{EXISTING_BUCKET}:a.jpg"):
            world.upload(where)
        world.deliver(upload_event())
        world.deliver(eventbridge_event())
        # when
        world.delete(f"{EXISTING_BUCKET}:a.jpg")
        about = {"deletion-type": "Delete Marker Created"}
        outcome = world.deliver(eventbridge_event("Object Deleted", version_id="m1", sequencer="0B", **about))
        # then
        assert outcome.result is Result.DELETED
        assert isinstance(world.images[self.RECORD].published, Tombstone)
        assert isinstance(world.images["a.jpg"].published, ImageRecord)

    def test_keeps_what_it_published_while_a_damaged_version_is_current(self, world: World) -> None:
        where = f"{EXISTING_BUCKET}:a.jpg"
        world.upload(where)
        world.deliver(eventbridge_event())
        world.upload(where, "v2", second=1, data=b"\xff\xd8\xff no photo")
        world.deliver(eventbridge_event(version_id="v2", sequencer="0B"))
        assert world.record(self.RECORD).version_id == "v1"

    def test_shares_no_image_key_with_an_upload_of_the_stacks_own_bucket(self, world: World) -> None:
        world.upload(f"{EXISTING_BUCKET}:a.jpg")
        world.deliver(eventbridge_event())
        world.upload(self.RECORD, data=photo("green"))
        world.deliver(upload_event(self.RECORD))
        assert world.record(self.RECORD).bucket == EXISTING_BUCKET
        assert world.record(f"other-buckets/{BUCKET}/{self.RECORD}").bucket == BUCKET


@given(st.sampled_from([BUCKET, EXISTING_BUCKET]), st.text(min_size=1) | st.text().map("other-buckets/".__add__))
def test_an_image_key_tells_bucket_and_key(bucket: str, key: str) -> None:
    assert upload_of(image_key_of(bucket, key, BUCKET), BUCKET) == (bucket, key)


class TestAnImageIsWithdrawn:
    def test_its_record_becomes_a_tombstone_and_its_renditions_are_deleted(self, world: World) -> None:
        # given two versions, the renditions of the first marked stale
        for second, version_id in enumerate(["v1", "v2"]):
            world.upload(version_id=version_id, second=second)
            world.deliver(upload_event(version_id=version_id))
        before = world.record()
        # when it is deleted
        world.delete()
        outcome = world.deliver(marker_event())
        # then
        assert outcome.result is Result.DELETED
        tombstone = world.images["a.jpg"].published
        assert isinstance(tombstone, Tombstone)
        assert tombstone.version_order > before.version_order
        assert world.renditions == {}
        assert world.told[-1] == events.deleted(outcome.task_id, tombstone)
        assert world.dead_letters == []

    def test_a_late_upload_event_loses_against_the_tombstone(self, world: World) -> None:
        world.upload()
        world.delete()
        world.deliver(marker_event())
        calls = Calls()
        assert world.deliver(upload_event(), calls).result is Result.SUPERSEDED
        assert "read" not in calls.made
        assert len(world.told) == 1

    def test_a_new_upload_wins(self, world: World) -> None:
        world.upload(version_id="v1")
        world.delete()
        world.deliver(marker_event())
        world.upload(version_id="v2", second=1)
        assert world.deliver(upload_event(version_id="v2")).result is Result.PROCESSED
        assert world.record().version_id == "v2"

    def test_renditions_of_keys_that_begin_alike_stay(self, world: World) -> None:
        for key in ("a.jpg", "a.jpg/b.jpg", "a.jpg2"):
            world.upload(key)
            world.deliver(upload_event(key))
        world.delete("a.jpg")
        world.deliver(marker_event())
        assert {key.rsplit("/", 2)[0] for key in world.renditions} == {"a.jpg/b.jpg", "a.jpg2"}

    def test_an_upload_that_was_read_before_it_was_deleted_is_not_published_after(self, world: World) -> None:
        world.upload()

        def delete(call: str) -> None:
            if call == "publish" and world.current():
                world.delete()
                world.deliver(marker_event())

        assert world.deliver(upload_event(), Calls(before=delete)).result is Result.DELETED
        assert isinstance(world.images["a.jpg"].published, Tombstone)
        assert world.renditions == {}

    def test_a_plain_task_withdraws_a_deleted_image_and_is_refused_for_an_unknown_one(self, world: World) -> None:
        world.upload()
        world.deliver(upload_event())
        world.delete()
        assert world.deliver(plain_task(task_id="task-1")).result is Result.DELETED
        assert world.deliver(plain_task("never.jpg", task_id="task-2")).result is Result.DEAD_LETTERED

    def test_without_versions(self, world: World) -> None:
        world.uploads["a.jpg"] = [UploadedVersion("", photo(), datetime(2026, 11, 22, tzinfo=UTC), is_versioned=False)]
        world.deliver(upload_event(version_id=None))
        world.uploads["a.jpg"] = []
        assert world.deliver(delete_event(None)).result is Result.DELETED
        assert world.renditions == {}

    @pytest.mark.parametrize("encoded", ["a+b.jpg", "a%20b.jpg"])
    def test_eventbridge_may_encode_the_key_or_not(self, world: World, encoded: str) -> None:
        for key in ("a b.jpg", encoded):
            world.upload(key)
            world.deliver(upload_event(key.replace("+", "%2B").replace("%20", "%2520").replace(" ", "+")))
        world.delete("a b.jpg")
        world.deliver(eventbridge_deletion(encoded, "m1"))
        assert isinstance(world.images["a b.jpg"].published, Tombstone)
        assert world.record(encoded)


def eventbridge_deletion(key: str, version_id: str) -> str:
    return json.dumps(
        {
            "detail-type": "Object Deleted",
            "source": "aws.s3",
            "time": "2026-11-22T09:30:00Z",
            "detail": {
                "bucket": {"name": BUCKET},
                "object": {"key": key, "version-id": version_id, "sequencer": "0B"},
                "reason": "DeleteObject",
                "deletion-type": "Delete Marker Created",
            },
        }
    )


class TestEarlierViewsNeverReplaceLaterOnes:
    """The record may look right and yet be about to be replaced: whoever deletes writes it again."""

    def test_a_tombstone_is_confirmed(self, world: World) -> None:
        # given an upload that is being published over a tombstone
        world.upload(version_id="v1")
        world.delete(marker="m1")
        world.deliver(marker_event("m1"))
        world.upload(version_id="v2", second=1)

        def delete(call: str) -> None:
            # when it is deleted in that moment, before its record replaced the tombstone
            if call == "publish" and world.current():
                world.delete(marker="m2")
                assert world.deliver(marker_event("m2")).result is Result.UNCHANGED

        world.deliver(upload_event(version_id="v2"), Calls(before=delete))
        # then it is not published
        assert isinstance(world.images["a.jpg"].published, Tombstone)
        assert world.renditions == {}

    def test_a_published_version_is_confirmed(self, world: World) -> None:
        # given a newer upload that is being published over an older one
        world.upload(version_id="v1")
        world.deliver(upload_event(version_id="v1"))
        world.upload(version_id="v2", second=1)

        def remove(call: str) -> None:
            # when the newer one is removed in that moment, so that the older one is current again
            if call == "publish" and len(world.uploads["a.jpg"]) == 2:
                world.remove("v2")
                assert world.deliver(delete_event("v2")).result is Result.UNCHANGED

        assert world.deliver(upload_event(version_id="v2"), Calls(before=remove)).result is Result.SUPERSEDED
        # then the older one stays, whole
        assert world.record().version_id == "v1"
        assert {key for key, stored in world.renditions.items() if not stored.stale} == {
            rendition.key for rendition in world.record().renditions
        }


class TestNamesWithoutImageSuffix:
    """S3 sends no event for their uploads, only for deletions; objects that are not images are skipped."""

    def test_other_objects_get_no_record(self, world: World) -> None:
        world.upload("notes", data=b"a text")
        assert world.deliver(delete_event("v0", key="notes")).result is Result.UNCHANGED
        assert (world.images, world.dead_letters, world.told) == ({}, [], [])

    def test_an_image_published_by_a_plain_task_is_withdrawn(self, world: World) -> None:
        world.upload("photo")
        world.deliver(plain_task("photo"))
        world.delete("photo")
        assert world.deliver(marker_event(key="photo")).result is Result.DELETED
        assert world.renditions == {}

    def test_an_image_deleted_while_a_plain_task_renders_it_is_withdrawn(self, world: World) -> None:
        world.upload("photo")

        def delete(call: str) -> None:
            if call == "publish" and world.current("photo"):
                world.delete("photo")
                assert world.deliver(marker_event(key="photo")).result is Result.UNCHANGED

        assert world.deliver(plain_task("photo"), Calls(before=delete)).result is Result.DELETED
        assert isinstance(world.images["photo"].published, Tombstone)


class TestOrders:
    def test_each_is_later_than_the_one_before_even_if_the_clock_went_back(self) -> None:
        late, early = datetime(2026, 11, 22, 9, 30, 1, tzinfo=UTC), datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
        first = KnownImage("a.jpg").next_order(late)
        known = KnownImage("a.jpg", published=Tombstone("a.jpg", BUCKET, first, ""))
        assert first < known.next_order(early)
        assert known.next_order(late) < known.next_order(datetime(2026, 11, 22, 9, 30, 3, tzinfo=UTC))

    def test_earlier_orders_count(self) -> None:
        known = KnownImage("a.jpg", published=Tombstone("a.jpg", BUCKET, "2026-11-22T09:30:00Z/0A00/v1", ""))
        assert known.next_order(datetime(2026, 11, 22, 9, 30, tzinfo=UTC)) > "2026-11-22T09:30:00Z/0A00/v1"


@given(image_key=st.text(min_size=1, max_size=400), other=st.text(min_size=1, max_size=400))
def test_a_rendition_belongs_to_one_image(image_key: str, other: str) -> None:
    key = rendition_key(image_key, 7, ImageVersion("v1", TWO_SIZES.fingerprint), "thumb", "webp")
    assert len(key.encode()) <= 1024
    assert is_rendition_of(image_key, key)
    assert is_rendition_of(other, key) == (other == image_key)


@dataclass
class Bucket:
    """S3 as far as one key goes: what is done to it, and the events that come of it."""

    world: World
    is_versioned: bool
    events: list[str] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: count(1))

    def upload(self, *, is_faulty: bool) -> None:
        number = next(self.numbers)
        data = f"text {number}".encode() if is_faulty else photo(f"#{number:06x}")
        moment = datetime(2026, 11, 22, 9, 30, number % 60, tzinfo=UTC)
        version = UploadedVersion(f"v{number}", data, moment, is_versioned=self.is_versioned)
        self._put(version)
        self.events.append(upload_event(version_id=self._id(version), sequencer=f"{number:04x}"))

    def delete(self) -> None:
        number = next(self.numbers)
        if self.is_versioned:
            self.world.delete(marker=f"m{number}")
            self.events.append(marker_event(f"m{number}"))
        elif self.world.current():
            self.world.uploads["a.jpg"] = []
            self.events.append(delete_event(None, sequencer=f"{number:04x}"))

    def remove(self, index: int) -> None:
        versions = self.world.uploads.get("a.jpg", [])
        if self.is_versioned and versions:
            version = versions.pop(index % len(versions))
            self.events.append(delete_event(version.version_id))

    def _put(self, version: UploadedVersion) -> None:
        kept = self.world.uploads.get("a.jpg", []) if self.is_versioned else []
        self.world.uploads["a.jpg"] = [*kept, version]

    def _id(self, version: UploadedVersion) -> str | None:
        return version.version_id if self.is_versioned else None


_WHAT_MAY_BE_RAISED = (TransientFault, Killed)
# Between which calls of a delivery other things happen.
_CALLS = ["open", "put", "publish", "withdraw", "confirm", "note fault", "list", "announce"]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), is_versioned=st.booleans())
def test_records_follow_what_s3_shows(data: st.DataObject, is_versioned: bool) -> None:
    """Uploads and deletions, deliveries that overlap, are repeated, reordered, killed and refused; then quiet."""
    world = World()
    bucket = Bucket(world, is_versioned)
    seen: list[tuple[str, str]] = []

    def act(depth: int = 0) -> None:
        before = len(bucket.events)
        kind = data.draw(st.sampled_from(["upload", "faulty", "delete", "remove", "deliver"]))
        match kind:
            case "upload" | "faulty":
                bucket.upload(is_faulty=kind == "faulty")
            case "delete":
                bucket.delete()
            case "remove":
                bucket.remove(data.draw(st.integers(0, 3)))
            case "deliver" if bucket.events:
                deliver(data.draw(st.sampled_from(bucket.events)), depth)
        if len(bucket.events) > before and data.draw(st.booleans()):
            deliver(bucket.events[before], depth)

    def deliver(body: str, depth: int) -> None:
        trouble = data.draw(st.sampled_from([None, None, None, *Trouble]))
        calls = Calls(trouble, at=data.draw(st.integers(1, 12)) if trouble else 0)
        interruptions = {data.draw(st.sampled_from(_CALLS)): data.draw(st.integers(0, 3))} if depth < 2 else {}

        def before(name: str) -> None:
            for _ in range(interruptions.pop(name, 0)):
                act(depth + 1)

        calls.before = before
        try:
            world.deliver(body, calls)
        except _WHAT_MAY_BE_RAISED:
            world.let_claims_run_out()
        look()

    def look() -> None:
        known = world.images.get("a.jpg")
        if known and known.published:
            seen.append((known.published.version_order, repr(known.published)))

    for _ in range(data.draw(st.integers(1, 8))):
        act()
    for body in data.draw(st.permutations(bucket.events)):
        for _ in range(3):
            world.let_claims_run_out()
            world.deliver(body)

    known, current = world.images.get("a.jpg"), world.current()
    live = {key for key, stored in world.renditions.items() if not stored.stale}
    assert live == (known.rendition_keys if known else set())
    if current is None:
        assert known is None or isinstance(known.published, Tombstone)
        assert world.renditions == {}
    elif current.data and current.data.startswith(b"text"):
        assert known
        assert known.fault
        assert known.fault.version.source == current.source
        if known.record:
            assert not is_versioned or known.record.version_id in {v.version_id for v in world.uploads["a.jpg"]}
        else:
            assert world.renditions == {}
    else:
        assert known
        assert isinstance(known.published, ImageRecord)
        assert known.published.version.source == current.source
        assert known.fault is None
    # a later event has a higher order, and each order belongs to one event
    assert seen == sorted(seen)
    assert len({order for order, _ in seen}) == len(set(seen))
