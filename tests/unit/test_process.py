from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
from darkroom.errors import InProgressElsewhere, OutOfTime, ServiceUnavailable, TransientFault
from darkroom.schema import Schema
from PIL import ExifTags, Image

from functions.process_image import events
from functions.process_image.events import ImageEvent
from functions.process_image.images import Tombstone
from functions.process_image.ports import Result
from functions.process_image.process import Outcome
from functions.process_image.rendition_set import RenditionSet, RenditionSpec, rendition_set_of
from tests.unit.events import BUCKET
from tests.unit.fakes import (
    ADDRESSES,
    ONE_SIZE,
    TWO_FORMATS,
    TWO_SIZES,
    Calls,
    DeadLetter,
    Hold,
    Killed,
    Trouble,
    UploadedVersion,
    World,
    delete_event,
    marker_event,
    photo,
    plain_task,
    upload_event,
)

#: The same boxes in another order are the same rendition set.
_BOXES = (
    (("thumb", 4), ("small", 8), ("large", 9)),
    (("large", 9), ("small", 8), ("thumb", 4)),
)


def _png(name: str, side: int) -> RenditionSpec:
    return RenditionSpec(name, side, side, format="png")


@pytest.fixture
def world() -> World:
    return World()


def live_renditions(world: World) -> set[str]:
    return {key for key, stored in world.renditions.items() if not stored.stale}


def published_renditions(world: World, key: str = "a.jpg") -> set[str]:
    return {rendition.key for rendition in world.record(key).stored}


def once_before(call: str, act: Callable[[], object]) -> Callable[[str], None]:
    """For `Calls.before`: something that happens between two calls of a delivery."""
    todo = [act]

    def before(name: str) -> None:
        if name == call and todo:
            todo.pop()()

    return before


def told_of(world: World, task_id: str) -> list[ImageEvent]:
    return [event for event in world.told if event.body["task_id"] == task_id]


class TestAnUploadIsProcessed:
    def test_its_renditions_are_stored_published_and_announced(self, world: World) -> None:
        world.upload("a.jpg", "v1", data=photo(size=(48, 36)))

        outcome = world.deliver(upload_event("a.jpg", "v1"))

        assert outcome.result is Result.PROCESSED
        assert outcome.fault is None
        record = world.record("a.jpg")
        assert [(r.name, r.content_type, r.width, r.height) for r in record.renditions] == [
            ("small", "image/jpeg", 8, 6),
            ("thumb", "image/png", 4, 3),
        ]
        assert {r.key: (r.content_type, r.bytes) for r in record.renditions} == {
            key: (stored.content_type, len(stored.body)) for key, stored in world.renditions.items()
        }
        assert world.told == [events.ready(outcome.task_id, record, ADDRESSES)]
        assert world.tasks[outcome.task_id].outcome is Result.PROCESSED
        assert world.dead_letters == []

    def test_renditions_that_are_equal_are_one_object_that_each_of_their_entries_names(self, world: World) -> None:
        world.upload(data=photo(size=(6, 6)))
        sets = [rendition_set_of(tuple(_png(*box) for box in sizes)) for sizes in _BOXES]
        for number, rendition_set in enumerate((*sets, TWO_SIZES)):
            outcome = world.deliver(plain_task(task_id=str(number)), rendition_set=rendition_set)
            renditions = world.record().renditions
            assert {r.key for r in renditions} == live_renditions(world)
            assert outcome.bytes_out == sum(len(o.body) for o in world.renditions.values() if not o.stale)
            if rendition_set in sets:
                keys = {r.name: r.key.rpartition("/")[2] for r in renditions}
                assert keys == {"thumb": "thumb.png", "small": "large.png", "large": "large.png"}

    def test_its_record_describes_the_upload(self, world: World) -> None:
        version = world.upload("a.jpg", "v1", data=photo(size=(48, 36)))
        world.deliver(upload_event("a.jpg", "v1"))

        record = world.record("a.jpg")
        assert (record.image_key, record.bucket, record.version_id) == ("a.jpg", BUCKET, "v1")
        assert (record.format, record.width, record.height, record.frames) == ("jpeg", 48, 36, 1)
        assert (record.bytes, record.uploaded_at) == (len(version.data or b""), "2026-11-22T09:30:00+00:00")
        assert record.dominant_colour.startswith("#")
        assert record.placeholder

    def test_its_outcome_counts_the_bytes_on_both_sides(self, world: World) -> None:
        version = world.upload()
        outcome = world.deliver(upload_event())
        assert outcome.bytes_in == len(version.data or b"")
        assert outcome.bytes_out == sum(len(stored.body) for stored in world.renditions.values())
        assert outcome.summary() == {"task_id": outcome.task_id, "result": "Processed"}

    def test_an_eventbridge_key_that_turns_out_to_be_encoded_is_found(self, world: World) -> None:
        world.upload("a b.jpg", "v1")
        event = {
            "detail-type": "Object Created",
            "source": "aws.s3",
            "detail": {"bucket": {"name": BUCKET}, "object": {"key": "a+b.jpg", "version-id": "v1"}},
        }
        assert world.deliver(json.dumps(event)).result is Result.PROCESSED
        assert world.record("a b.jpg").version_id == "v1"

    def test_an_eventbridge_key_that_exists_as_given_is_taken_as_given(self, world: World) -> None:
        world.upload("a+b.jpg", "v1")
        world.upload("a b.jpg", "v1")
        event = {
            "detail-type": "Object Created",
            "source": "aws.s3",
            "detail": {"bucket": {"name": BUCKET}, "object": {"key": "a+b.jpg", "version-id": "v1"}},
        }
        world.deliver(json.dumps(event))
        assert set(world.images) == {"a+b.jpg"}

    def test_a_plain_task_takes_the_newest_version(self, world: World) -> None:
        world.upload(version_id="v1")
        world.upload(version_id="v2", second=1)
        assert world.deliver(plain_task()).result is Result.PROCESSED
        assert world.record().version_id == "v2"


class TestATaskIsDoneOnce:
    def test_its_duplicate_only_reads(self, world: World) -> None:
        world.upload()
        world.deliver(upload_event())
        calls = Calls()
        assert world.deliver(upload_event(), calls).result is Result.DUPLICATE
        assert calls.made == ["claim"]

    def test_during_a_delivery_another_gets_the_time_to_come_back(self, world: World) -> None:
        world.upload()
        hold = Hold("read")
        with ThreadPoolExecutor(1) as other:
            first = other.submit(world.deliver, upload_event(), Calls(before=hold), seconds=40)
            assert hold.reached.wait(60)
            with pytest.raises(InProgressElsewhere) as told:
                world.deliver(upload_event())
            hold.go_on.set()
            assert first.result().result is Result.PROCESSED

        assert 0 < told.value.retry_after <= 40
        assert world.deliver(upload_event()).result is Result.DUPLICATE

    def test_of_two_deliveries_that_race_one_does_the_work(self) -> None:
        for _ in range(10):
            world, start = World(), Barrier(2)
            world.upload()

            def deliver(world: World = world, start: Barrier = start) -> Outcome | TransientFault:
                start.wait(60)
                try:
                    return world.deliver(upload_event())
                except InProgressElsewhere as fault:
                    return fault

            with ThreadPoolExecutor(2) as pool:
                ends = [future.result() for future in [pool.submit(deliver), pool.submit(deliver)]]

            done = [end for end in ends if isinstance(end, Outcome) and end.result is Result.PROCESSED]
            rest = [end for end in ends if end not in done]
            assert len(done) == 1
            assert isinstance(rest[0], InProgressElsewhere) or (
                isinstance(rest[0], Outcome) and rest[0].result is Result.DUPLICATE
            )
            assert len(world.told) == 1

    def test_two_different_tasks_for_one_version_share_its_renditions(self, world: World) -> None:
        world.upload()
        world.deliver(plain_task(task_id="task-1"))
        calls = Calls()
        assert world.deliver(plain_task(task_id="task-2"), calls).result is Result.PROCESSED
        assert "read" not in calls.made
        assert [event.body["task_id"] for event in world.told] == ["task-1", "task-2"]

    def test_two_tasks_that_both_rendered_one_version_publish_it_once(self, world: World) -> None:
        world.upload()
        calls = Calls(before=once_before("publish", lambda: world.deliver(plain_task())))
        assert world.deliver(upload_event(), calls).result is Result.PROCESSED
        assert calls.made.count("read") == 1
        assert live_renditions(world) == published_renditions(world) == set(world.renditions)


class TestTheCurrentVersionIsPublished:
    def test_a_newer_version_replaces_the_older_whose_renditions_become_stale(self, world: World) -> None:
        world.upload(version_id="v1")
        world.deliver(upload_event(version_id="v1"))
        old, order = live_renditions(world), world.record().version_order
        world.upload(version_id="v2", data=photo("red"), second=1)

        assert world.deliver(upload_event(version_id="v2")).result is Result.PROCESSED

        assert world.record().version_id == "v2"
        assert world.record().version_order > order
        assert {key for key, stored in world.renditions.items() if stored.stale} == old
        assert live_renditions(world) == published_renditions(world)
        assert world.images["a.jpg"].replaced == ()

    @pytest.mark.parametrize("task", [upload_event(version_id="v1"), plain_task(version_id="v1")])
    def test_a_version_that_is_not_current_is_not_even_rendered(self, world: World, task: str) -> None:
        world.upload(version_id="v1")
        world.upload(version_id="v2", second=1)
        calls = Calls()

        outcome = world.deliver(task, calls)

        assert outcome.result is Result.SUPERSEDED
        assert calls.made == ["claim", "look up", "open", "finish"]
        assert world.images == {}
        assert world.tasks[outcome.task_id].outcome is Result.SUPERSEDED

    @pytest.mark.parametrize("newer_is_processed", [True, False])
    def test_a_version_that_is_overwritten_while_it_is_rendered(self, world: World, newer_is_processed: bool) -> None:
        world.upload(version_id="v1")

        def overwrite() -> None:
            world.upload(version_id="v2", second=1)
            if newer_is_processed:
                world.deliver(upload_event(version_id="v2"))

        outcome = world.deliver(upload_event(version_id="v1"), Calls(before=once_before("publish", overwrite)))

        assert outcome.result is (Result.SUPERSEDED if newer_is_processed else Result.PROCESSED)
        world.deliver(upload_event(version_id="v2"))
        assert world.record().version_id == "v2"
        assert live_renditions(world) == published_renditions(world)

    def test_without_versions_whichever_event_comes_publishes_what_is_there(self, world: World) -> None:
        world.uploads["a.jpg"] = [
            UploadedVersion("", photo(colour), datetime(2026, 11, 22, tzinfo=UTC), is_versioned=False)
            for colour in ("teal", "red")
        ]
        first, second = (upload_event(version_id=None, sequencer=sequencer) for sequencer in ("0A", "0B"))
        for event in (second, first):
            assert world.deliver(event).result is Result.PROCESSED
        assert world.record().version_id is None
        assert len(world.renditions) == 2


class TestAnotherRenditionSet:
    def test_a_plain_task_renders_the_published_version_again(self, world: World) -> None:
        world.upload()
        world.deliver(upload_event(), rendition_set=TWO_SIZES)

        outcome = world.deliver(plain_task(), rendition_set=ONE_SIZE)

        assert outcome.result is Result.PROCESSED
        assert [r.name for r in world.record().renditions] == ["only"]
        assert live_renditions(world) == published_renditions(world)

    def test_an_older_version_is_never_published(self, world: World) -> None:
        world.upload(version_id="v1")
        world.upload(version_id="v2", second=1)
        world.deliver(upload_event(version_id="v2"))
        outcome = world.deliver(plain_task(version_id="v1"), rendition_set=ONE_SIZE)
        assert outcome.result is Result.SUPERSEDED

    def test_after_a_return_to_the_first_set_its_renditions_are_live(self, world: World) -> None:
        world.upload()
        sets: list[RenditionSet] = [TWO_SIZES, ONE_SIZE, TWO_SIZES]
        for number, rendition_set in enumerate(sets):
            world.deliver(plain_task(task_id=f"task-{number}"), rendition_set=rendition_set)
        assert live_renditions(world) == published_renditions(world)
        assert len(world.renditions) == 5

    @pytest.mark.parametrize("loss", ["deleted", "stale"])
    def test_lost_renditions_are_made_again_for_any_task(self, world: World, loss: str) -> None:
        world.upload()
        world.deliver(upload_event())
        key = min(published_renditions(world))
        if loss == "stale":
            world.renditions[key].stale = True
        else:
            del world.renditions[key]

        assert world.deliver(plain_task()).result is Result.PROCESSED

        assert live_renditions(world) == published_renditions(world)
        assert len(live_renditions(world)) == 2


class TestSeveralFormats:
    def test_each_is_stored_and_the_record_has_the_widely_shown_one_first(self, world: World) -> None:
        world.upload(data=photo(size=(48, 36)))

        outcome = world.deliver(upload_event(), rendition_set=TWO_FORMATS)

        record = world.record()
        assert [(r.name, r.content_type) for r in record.renditions] == [("small", "image/png"), ("thumb", "image/png")]
        assert [(r.name, r.content_type) for r in record.other_formats] == [
            ("small", "image/webp"),
            ("thumb", "image/webp"),
        ]
        assert {r.key: (r.content_type, r.bytes) for r in record.stored} == {
            key: (stored.content_type, len(stored.body)) for key, stored in world.renditions.items()
        }
        assert outcome.bytes_out == sum(len(stored.body) for stored in world.renditions.values())
        (told,) = world.told
        assert [r["key"] for r in told.body["other_formats"]] == [r.key for r in record.other_formats]
        assert Schema("image_event").faults(told.body) == []
        assert told.body["other_formats"][0]["url"] == f"https://images.example.com/{record.other_formats[0].key}"

    def test_an_animation_has_only_those_that_move(self, world: World) -> None:
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
        world.upload(data=file.getvalue())

        world.deliver(upload_event(), rendition_set=TWO_FORMATS)

        record = world.record()
        assert (record.frames, record.other_formats) == (2, ())
        assert [(r.name, r.content_type) for r in record.renditions] == [
            ("small", "image/webp"),
            ("thumb", "image/webp"),
        ]

    def test_all_of_a_replaced_version_become_stale_and_all_of_a_deleted_one_go(self, world: World) -> None:
        world.upload()
        world.deliver(upload_event(), rendition_set=TWO_FORMATS)
        before = published_renditions(world)
        world.upload(version_id="v2", second=1, data=photo("orange"))
        world.deliver(upload_event(version_id="v2"), rendition_set=TWO_FORMATS)
        assert len(before) == 4
        assert {key for key, stored in world.renditions.items() if stored.stale} == before
        world.delete()
        world.deliver(marker_event(), rendition_set=TWO_FORMATS)
        assert world.renditions == {}

    def test_a_lost_one_is_made_again(self, world: World) -> None:
        world.upload()
        world.deliver(upload_event(), rendition_set=TWO_FORMATS)
        del world.renditions[world.record().other_formats[0].key]
        assert world.deliver(plain_task(), rendition_set=TWO_FORMATS).result is Result.PROCESSED
        assert published_renditions(world) == live_renditions(world)


def png_header(width: int, height: int) -> bytes:
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + size + b"\x08\x02\0\0\0" + b"\0" * 100


def gif_of(frames: int) -> bytes:
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0" + b"\x02\x02\x44\x01\0"
    return b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b";"


FAULTY = {
    "NotAnImage": b"hello, I am a text",
    "UnsupportedFormat": b"%PDF-1.7 and so on",
    "TooLarge": b"\xff\xd8\xff" + b"x" * 20_000,
    "TooManyPixels": png_header(1000, 1000),
    "TooManyFrames": gif_of(11),
    "DamagedImage": photo()[:-200],
}


class TestPermanentFaults:
    @pytest.mark.parametrize("error_code", FAULTY)
    def test_of_the_file_move_the_message_to_the_dead_letter_queue(self, world: World, error_code: str) -> None:
        world.upload("a.jpg", "v1", data=FAULTY[error_code])
        body = upload_event("a.jpg", "v1")

        outcome = world.deliver(body)

        assert outcome.result is Result.DEAD_LETTERED
        assert outcome.fault
        assert outcome.fault.error_code == error_code
        assert outcome.summary()["reason"] == str(outcome.fault) != ""
        assert world.dead_letters == [DeadLetter(body, outcome.task_id, error_code, str(outcome.fault))]
        task = world.tasks[outcome.task_id]
        assert (task.outcome, task.error_code) == (Result.DEAD_LETTERED, error_code)
        fault = world.images["a.jpg"].fault
        assert fault
        assert (fault.error_code, fault.version_id, fault.task_id) == (error_code, "v1", outcome.task_id)
        assert world.images["a.jpg"].published is None
        assert world.renditions == {}
        assert world.told == [events.failed("a.jpg", BUCKET, fault, still_published=False)]

    def test_a_file_that_is_too_large_is_not_read(self, world: World) -> None:
        world.upload(data=FAULTY["TooLarge"])
        calls = Calls()
        world.deliver(upload_event(), calls)
        assert "read" not in calls.made

    def test_an_object_that_is_gone(self, world: World) -> None:
        outcome = world.deliver(plain_task("gone.jpg"))
        assert [letter.error_code for letter in world.dead_letters] == ["ObjectGone"]
        assert world.images == {}, "there is no such image"
        assert world.tasks[outcome.task_id].outcome is Result.DEAD_LETTERED

    def test_another_bucket_is_neither_read_nor_recorded(self, world: World) -> None:
        world.upload()
        calls = Calls()
        world.deliver(plain_task(bucket="somebody-elses-bucket"), calls)
        assert [letter.error_code for letter in world.dead_letters] == ["BucketNotAllowed"]
        assert "somebody-elses-bucket" in world.dead_letters[0].reason
        assert calls.made == ["claim", "dead letter", "finish"]
        assert world.images == {}

    def test_a_malformed_message_is_dead_lettered_once(self, world: World) -> None:
        calls = Calls()
        outcome = world.deliver("hello", calls)
        assert outcome.result is Result.DEAD_LETTERED
        assert calls.made == ["claim", "dead letter", "finish"]
        assert world.deliver("hello").result is Result.DUPLICATE
        assert [(letter.body, letter.error_code) for letter in world.dead_letters] == [("hello", "MalformedMessage")]

    def test_a_published_image_stays_next_to_the_fault_of_the_current_version(self, world: World) -> None:
        world.upload(version_id="v1")
        world.deliver(upload_event(version_id="v1"))
        world.upload(version_id="v2", second=1, data=FAULTY["NotAnImage"])
        world.deliver(upload_event(version_id="v2"))
        assert world.record().version_id == "v1"
        fault = world.images["a.jpg"].fault
        assert fault
        assert (fault.error_code, fault.version_id) == ("NotAnImage", "v2")
        assert fault.version_order > world.record().version_order
        assert live_renditions(world) == published_renditions(world)

    def test_a_fault_is_removed_with_the_next_version(self, world: World) -> None:
        world.upload(version_id="v1", data=FAULTY["NotAnImage"])
        world.deliver(upload_event(version_id="v1"))
        world.upload(version_id="v2", second=1)
        world.deliver(upload_event(version_id="v2"))
        assert world.images["a.jpg"].fault is None

    def test_a_late_success_of_an_older_version_does_not_erase_a_fault(self, world: World) -> None:
        world.upload(version_id="v1")
        world.upload(version_id="v2", second=1, data=FAULTY["NotAnImage"])
        world.deliver(upload_event(version_id="v2"))
        assert world.deliver(upload_event(version_id="v1")).result is Result.SUPERSEDED
        fault = world.images["a.jpg"].fault
        assert fault
        assert fault.version_id == "v2"

    def test_a_duplicate_of_a_dead_lettered_task_is_not_done_again(self, world: World) -> None:
        world.upload(data=FAULTY["NotAnImage"])
        world.deliver(upload_event())
        assert world.deliver(upload_event()).result is Result.DUPLICATE
        assert len(world.dead_letters) == 1

    def test_a_dead_lettered_task_that_is_redriven_is_done_again(self, world: World) -> None:
        body = plain_task()
        world.deliver(body)
        world.upload()
        assert world.deliver(body, redriven=True).result is Result.PROCESSED
        assert world.deliver(body, redriven=True).result is Result.DUPLICATE
        assert [event.event_type for event in world.told] == ["ImageReady"]


class TestTimeRunsOut:
    def test_before_rendering_the_task_is_released(self, world: World) -> None:
        world.upload()
        calls = Calls()
        with pytest.raises(OutOfTime, match="Too little time is left"):
            world.deliver(upload_event(), calls, seconds=9.4)
        assert calls.made == ["claim", "look up", "open", "release"]
        assert world.deliver(upload_event()).result is Result.PROCESSED

    def test_what_needs_no_rendering_is_still_done(self, world: World) -> None:
        world.upload()
        world.deliver(plain_task(task_id="task-1"))
        assert world.deliver(plain_task(task_id="task-2"), seconds=1).result is Result.PROCESSED


class TestLocation:
    @pytest.mark.parametrize(("keep", "expected"), [(True, (48.5, 11.0)), (False, None)])
    def test_is_kept_only_if_the_settings_say_so(self, world: World, keep: bool, expected: Any) -> None:
        world.upload(data=photo_taken_at(48.5, 11.0))
        world.deliver(upload_event(), keep_location=keep)
        assert world.record().location == expected


def photo_taken_at(latitude: float, longitude: float) -> bytes:
    image = Image.open(io.BytesIO(photo()))
    exif = image.getexif()
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (latitude, 0.0, 0.0), 3: "E", 4: (longitude, 0.0, 0.0)})
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


@dataclass(frozen=True)
class Case:
    """What stood before, the delivery that meets trouble, and how it ends if it is only repeated often enough."""

    prepare: Callable[[World], None]
    body: str
    result: Result
    stands: str | None
    redriven: bool = False


def nothing_is_published(world: World) -> None:
    world.upload(version_id="v1")


def an_older_version_is_published(world: World) -> None:
    world.upload(version_id="v0", data=photo("red"))
    world.deliver(upload_event(version_id="v0"))
    world.upload(version_id="v1", second=1)


def a_newer_version_is_published(world: World) -> None:
    world.upload(version_id="v1")
    world.upload(version_id="v2", data=photo("red"), second=1)
    world.deliver(upload_event(version_id="v2"))


def another_rendition_set_is_published(world: World) -> None:
    world.upload(version_id="v1")
    world.deliver(upload_event(version_id="v1"), rendition_set=ONE_SIZE)


def a_plain_task_came_first(world: World) -> None:
    world.upload(version_id="v1")
    world.deliver(plain_task(version_id="v1"))


def a_bad_file_was_uploaded(world: World) -> None:
    world.upload(version_id="v1", data=FAULTY["NotAnImage"])


def a_bad_file_was_dead_lettered(world: World) -> None:
    world.deliver(plain_task(task_id="again"))
    world.dead_letters.clear()
    world.upload(version_id="v1")


def a_published_one_was_deleted(world: World) -> None:
    an_older_version_is_published(world)
    world.deliver(upload_event(version_id="v1"))
    world.delete()


def one_was_deleted_before_its_event(world: World) -> None:
    world.upload(version_id="v1")
    world.delete()


def a_deleted_one_came_back(world: World) -> None:
    a_published_one_was_deleted(world)
    world.deliver(marker_event())
    world.remove("m1")


def the_newest_version_was_removed(world: World) -> None:
    a_newer_version_is_published(world)
    world.remove("v2")


def a_noncurrent_version_was_removed(world: World) -> None:
    a_newer_version_is_published(world)
    world.remove("v1")


def what_a_bad_file_left_published_was_removed(world: World) -> None:
    world.upload(version_id="v1")
    world.deliver(upload_event(version_id="v1"))
    world.upload(version_id="v2", data=FAULTY["NotAnImage"], second=1)
    world.deliver(upload_event(version_id="v2"))
    world.dead_letters.clear()
    world.remove("v1")


CASES = {
    "first version": Case(nothing_is_published, upload_event(version_id="v1"), Result.PROCESSED, "v1"),
    "newer version": Case(an_older_version_is_published, upload_event(version_id="v1"), Result.PROCESSED, "v1"),
    "older version": Case(a_newer_version_is_published, upload_event(version_id="v1"), Result.SUPERSEDED, "v2"),
    "another rendition set": Case(another_rendition_set_is_published, plain_task(), Result.PROCESSED, "v1"),
    "event after plain task": Case(a_plain_task_came_first, upload_event(version_id="v1"), Result.PROCESSED, "v1"),
    "bad file": Case(a_bad_file_was_uploaded, upload_event(version_id="v1"), Result.DEAD_LETTERED, None),
    "redriven": Case(a_bad_file_was_dead_lettered, plain_task(task_id="again"), Result.PROCESSED, "v1", redriven=True),
    "delete": Case(a_published_one_was_deleted, marker_event(), Result.DELETED, None),
    "late upload": Case(one_was_deleted_before_its_event, upload_event(version_id="v1"), Result.DELETED, None),
    "undelete": Case(a_deleted_one_came_back, delete_event("m1"), Result.PROCESSED, "v1"),
    "version removed": Case(the_newest_version_was_removed, delete_event("v2"), Result.PROCESSED, "v1"),
    "old version removed": Case(a_noncurrent_version_was_removed, delete_event("v1"), Result.UNCHANGED, "v2"),
    "kept one removed": Case(what_a_bad_file_left_published_was_removed, delete_event("v1"), Result.UNCHANGED, None),
}


_TOLD = {
    Result.PROCESSED: "ImageReady",
    Result.DELETED: "ImageDeleted",
    Result.DEAD_LETTERED: "ImageFailed",
}


def each_call(case: Case, trouble: Trouble) -> Iterator[tuple[World, Calls, str]]:
    """A world and a worker for every call of the delivery, the worker meeting trouble at that call."""
    undisturbed = Calls()
    world = World()
    case.prepare(world)
    world.deliver(case.body, undisturbed, redriven=case.redriven)
    for number, name in enumerate(undisturbed.made, start=1):
        world = World()
        case.prepare(world)
        yield world, Calls(trouble, at=number), f"{trouble}: {name} (call {number})"


def deliver_until_done(world: World, case: Case) -> Outcome:
    for _ in range(3):
        try:
            return world.deliver(case.body, redriven=case.redriven)
        except InProgressElsewhere:
            world.let_claims_run_out()
    raise AssertionError("The task is held forever.")


def assert_all_is_well(world: World, case: Case, outcome: Outcome) -> None:
    task = world.tasks[outcome.task_id]
    if case.result is not Result.UNCHANGED:  # a repeated delivery cannot know that it changed nothing
        assert outcome.result in (case.result, Result.DUPLICATE)
        assert task.outcome is case.result
        told = [e for e in told_of(world, outcome.task_id) if e.event_type == _TOLD.get(case.result)]
        assert len({event.event_id for event in told}) == (case.result in _TOLD)
    elif case.stands is None:
        assert told_of(world, outcome.task_id)[-1].event_type == "ImageDeleted"

    letters = [letter for letter in world.dead_letters if letter.task_id == outcome.task_id]
    assert all(letter == letters[0] for letter in letters)
    assert bool(letters) == (case.result is Result.DEAD_LETTERED)

    if case.stands is None:
        assert world.images["a.jpg"].record is None
        assert world.renditions == {}
    else:
        assert world.record().version_id == case.stands
        assert {r.key: r.bytes for r in world.record().renditions}.items() <= {
            key: len(stored.body) for key, stored in world.renditions.items() if not stored.stale
        }.items()
        assert live_renditions(world) == published_renditions(world)


class TestCrashes:
    @pytest.mark.parametrize("name", CASES)
    def test_the_next_delivery_finishes_the_task(self, name: str, subtests: pytest.Subtests) -> None:
        case = CASES[name]
        for world, calls, trouble in each_call(case, Trouble.KILLED):
            with subtests.test(trouble):
                with pytest.raises(Killed):
                    world.deliver(case.body, calls, redriven=case.redriven)
                world.let_claims_run_out()
                assert_all_is_well(world, case, deliver_until_done(world, case))

    def test_a_killed_delivery_holds_its_task_until_the_claim_runs_out(self, world: World) -> None:
        world.upload()
        with pytest.raises(Killed):
            world.deliver(upload_event(), Calls(Trouble.KILLED, at=2))
        with pytest.raises(InProgressElsewhere):
            world.deliver(upload_event())
        world.let_claims_run_out()
        assert world.taken_over == []
        outcome = world.deliver(upload_event())
        assert outcome.result is Result.PROCESSED
        assert world.taken_over == [outcome.task_id]

    def test_a_task_that_kills_every_delivery_is_reported_each_time(self, world: World) -> None:
        world.upload()
        for _ in range(3):
            with pytest.raises(Killed):
                world.deliver(upload_event(), Calls(Trouble.KILLED, at=2))
            world.let_claims_run_out()
        assert len(world.taken_over) == 2

    def test_a_released_task_does_not_count_as_taken_over(self, world: World) -> None:
        world.upload()
        with pytest.raises(TransientFault):
            world.deliver(upload_event(), Calls(Trouble.REFUSED, at=2))
        world.deliver(upload_event())
        assert world.taken_over == []

    def test_a_delivery_with_an_expired_claim_does_no_harm(self, world: World) -> None:
        world.upload()
        hold = Hold("read")
        with ThreadPoolExecutor(1) as other:
            slow = other.submit(world.deliver, upload_event(), Calls(before=hold))
            assert hold.reached.wait(60)
            world.let_claims_run_out()
            quick = world.deliver(upload_event())
            hold.go_on.set()
            assert isinstance(slow.exception(), TransientFault)

        assert quick.result is Result.PROCESSED
        assert world.tasks[quick.task_id].outcome is Result.PROCESSED
        assert live_renditions(world) == published_renditions(world)
        assert len({event.body["version_order"] for event in world.told}) == 1

    @pytest.mark.parametrize("then", ["overwritten", "deleted", "deleted before its event"])
    def test_an_event_in_between_wins(self, then: str, subtests: pytest.Subtests) -> None:
        case = Case(nothing_is_published, upload_event(version_id="v1"), Result.PROCESSED, "v1")
        for world, calls, trouble in each_call(case, Trouble.KILLED):
            with subtests.test(trouble):
                with pytest.raises(Killed):
                    world.deliver(case.body, calls)
                if then == "overwritten":
                    world.upload(version_id="v2", second=1)
                    events = [upload_event(version_id="v2")]
                else:
                    world.delete()
                    events = [marker_event()]
                world.let_claims_run_out()
                for body in [case.body, *events] if then == "deleted before its event" else [*events, case.body]:
                    world.deliver(body)
                if then == "overwritten":
                    assert world.record().version_id == "v2"
                    assert live_renditions(world) == published_renditions(world)
                else:
                    assert isinstance(world.images["a.jpg"].published, Tombstone)
                    assert world.renditions == {}


class TestFailingCalls:
    @pytest.mark.parametrize("name", CASES)
    def test_a_lost_answer_delays_the_task_and_no_more(self, name: str, subtests: pytest.Subtests) -> None:
        case = CASES[name]
        for world, calls, described in each_call(case, Trouble.ANSWER_LOST):
            with subtests.test(described):
                with pytest.raises(ServiceUnavailable):
                    world.deliver(case.body, calls, redriven=case.redriven)
                assert_all_is_well(world, case, deliver_until_done(world, case))

    @pytest.mark.parametrize("name", CASES)
    def test_a_refused_call_releases_the_task_at_once(self, name: str, subtests: pytest.Subtests) -> None:
        case = CASES[name]
        for world, calls, described in each_call(case, Trouble.REFUSED):
            with subtests.test(described):
                with pytest.raises(ServiceUnavailable):
                    world.deliver(case.body, calls, redriven=case.redriven)
                assert_all_is_well(world, case, world.deliver(case.body, redriven=case.redriven))

    def test_a_release_that_fails_too_leaves_the_claim_to_run_out(self, world: World) -> None:
        world.upload()

        def refuse(call: str) -> None:
            if call in ("open", "release"):
                raise ServiceUnavailable(call)

        with pytest.raises(ServiceUnavailable, match="open"):
            world.deliver(upload_event(), Calls(before=refuse))
        with pytest.raises(InProgressElsewhere):
            world.deliver(upload_event())
        world.let_claims_run_out()
        assert world.deliver(upload_event()).result is Result.PROCESSED

    def test_a_defect_releases_the_task(self, world: World) -> None:
        world.upload()

        def break_down(call: str) -> None:
            if call == "publish":
                raise KeyError("a defect of ours")

        with pytest.raises(KeyError):
            world.deliver(upload_event(), Calls(before=break_down))
        assert world.deliver(upload_event()).result is Result.PROCESSED
