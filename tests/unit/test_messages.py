from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from darkroom.image_messages import Cause, ImageTask, read_body, upload_task_id
from darkroom.messages import Unreadable
from darkroom.schema import Schema
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.events import BUCKET, body_of, load_event

KAETHE = "events/Käthe 1"
KAETHE_VERSION = "3HL4kqtJvjVBH40Nrjfkd9mFqyDpc8wZ"


def the_task(body: str) -> ImageTask:
    (task,) = read_body(body)
    assert isinstance(task, ImageTask)
    return task


def the_fault(body: str) -> Unreadable:
    (task,) = read_body(body)
    assert isinstance(task, Unreadable)
    assert task.body == body
    return task


def s3_record(**changes: Any) -> dict[str, Any]:
    """The record of events/s3.json, with changes such as ``object={...}`` on any level."""
    record: dict[str, Any] = load_event("s3")["Records"][0]
    record["s3"]["object"]["versionId"] = KAETHE_VERSION  # which the file leaves out, so that it works as it is
    for part in (record, record["s3"]["bucket"], record["s3"]["object"]):
        part |= {name: value for name, value in changes.items() if name in part}
    return record


def s3_body(**changes: Any) -> str:
    return json.dumps({"Records": [s3_record(**changes)]})


def s3_body_without(name: str) -> str:
    record = s3_record()
    for part in (record, record["s3"], record["s3"]["bucket"], record["s3"]["object"]):
        part.pop(name, None)
    return json.dumps({"Records": [record]})


def eventbridge_body(**changes: Any) -> str:
    event = json.loads(body_of("sqs_eventbridge"))
    event["detail"]["object"] |= changes
    return json.dumps(event)


def sns_body(message: object) -> str:
    return json.dumps({"Type": "Notification", "Message": message})


class TestEveryShapeIsTaken:
    def test_an_s3_notification(self) -> None:
        body = s3_body()
        assert the_task(body) == ImageTask(
            task_id=upload_task_id(BUCKET, KAETHE, KAETHE_VERSION),
            bucket=BUCKET,
            key=KAETHE,
            body=body,
            version_id=KAETHE_VERSION,
            sequencer="0067404B38A1C2D3E4",
            event_time=datetime(2026, 11, 22, 9, 30, 0, 412_000, tzinfo=UTC),
            cause=Cause.UPLOAD,
        )

    def test_several_records_in_one_notification(self) -> None:
        tasks = read_body(body_of("sqs_s3_several_records"))
        assert [task.key for task in tasks if isinstance(task, ImageTask)] == [
            KAETHE,
            "events/Otto",
            "events/am+See",
        ]

    def test_a_notification_wrapped_by_sns(self) -> None:
        task = the_task(body_of("sqs_sns"))
        assert (task.key, task.sequencer) == (KAETHE, "0067404B38A1C2D3E4")
        assert task.body == body_of("sqs_sns"), "a redrive puts the wrapped message back"

    def test_a_notification_that_two_topics_passed_on(self) -> None:
        assert the_task(sns_body(body_of("sqs_sns"))).key == KAETHE

    def test_an_eventbridge_event(self) -> None:
        task = the_task(eventbridge_body(**{"version-id": KAETHE_VERSION}))
        assert (task.key, task.version_id, task.other_key) == (KAETHE, KAETHE_VERSION, None)
        assert task.event_time == datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

    def test_an_eventbridge_event_without_a_version_id(self) -> None:
        assert the_task(eventbridge_body(**{"version-id": ""})).version_id is None

    def test_a_plain_task(self) -> None:
        body = body_of("sqs_plain_task")
        assert the_task(body) == ImageTask(task_id="catalogue-4711", bucket=BUCKET, key=KAETHE, body=body)

    def test_a_plain_task_of_one_version(self) -> None:
        task = the_task(json.dumps({"task_id": "t", "bucket": BUCKET, "key": "a.jpg", "version_id": "v7"}))
        assert (task.version_id, task.sequencer, task.event_time) == ("v7", None, None)

    def test_the_test_event_has_no_tasks(self) -> None:
        assert read_body(body_of("sqs_test_event")) == []

    def test_a_test_event_wrapped_by_sns_has_no_tasks(self) -> None:
        assert read_body(sns_body(body_of("sqs_test_event"))) == []


class TestDeletions:
    @pytest.mark.parametrize(
        "name",
        [
            *("ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"),
            *("LifecycleExpiration:Delete", "LifecycleExpiration:DeleteMarkerCreated"),
        ],
    )
    def test_of_every_kind_are_read(self, name: str) -> None:
        task = the_task(s3_body(eventName=name, size=0, eTag=""))
        assert (task.cause, task.key, task.event_time is not None) == (Cause.DELETE, KAETHE, True)

    @pytest.mark.parametrize(
        ("deletion", "name"),
        [
            ("Permanently Deleted", "ObjectRemoved:Delete"),
            ("Delete Marker Created", "ObjectRemoved:DeleteMarkerCreated"),
        ],
    )
    def test_are_one_task_in_any_form(self, deletion: str, name: str) -> None:
        event = json.loads(eventbridge_body(key=KAETHE, **{"version-id": "v7"})) | {"detail-type": "Object Deleted"}
        event["detail"] |= {"deletion-type": deletion, "reason": "DeleteObject"}
        task, same = the_task(json.dumps(event)), the_task(s3_body(eventName=name, versionId="v7"))
        assert (task.cause, task.version_id) == (Cause.DELETE, same.version_id)
        assert task.task_id == same.task_id

    def test_of_a_version_is_another_task_than_its_upload_and_than_its_delete_marker(self) -> None:
        names = ("ObjectCreated:Put", "ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated")
        assert len({the_task(s3_body(eventName=name)).task_id for name in names}) == 3

    def test_by_a_lifecycle_rule_may_have_neither_version_nor_sequencer(self) -> None:
        body = s3_body(eventName="LifecycleExpiration:Delete", versionId="", sequencer="")
        assert the_task(body).task_id == the_task(body).task_id

    def test_are_neither_uploads_nor_requests(self) -> None:
        assert the_task(s3_body()).cause is Cause.UPLOAD
        assert the_task(body_of("sqs_plain_task")).cause is Cause.REQUEST


class TestKeys:
    @pytest.mark.parametrize(
        ("encoded", "key"),
        [
            ("a+b.jpg", "a b.jpg"),
            ("a%20b.jpg", "a b.jpg"),
            ("a%2Bb.jpg", "a+b.jpg"),
            ("a%252Bb.jpg", "a%2Bb.jpg"),
            ("K%C3%A4the.jpg", "Käthe.jpg"),
            ("%E5%86%99%E7%9C%9F/1.jpg", "写真/1.jpg"),
            ("a//b.jpg", "a//b.jpg"),
        ],
    )
    def test_in_s3_notifications_are_url_encoded(self, encoded: str, key: str) -> None:
        assert the_task(s3_body(key=encoded)).key == key

    @pytest.mark.parametrize(
        ("given_key", "other_key"), [("a b.jpg", None), ("a+b.jpg", "a b.jpg"), ("100%25.jpg", "100%.jpg")]
    )
    def test_in_eventbridge_events_are_unchanged_with_the_decoded_key_as_alternative(
        self, given_key: str, other_key: str | None
    ) -> None:
        task = the_task(eventbridge_body(key=given_key))
        assert (task.key, task.other_key) == (given_key, other_key)

    def test_in_plain_tasks_are_unchanged(self) -> None:
        task = the_task(json.dumps({"task_id": "t", "bucket": BUCKET, "key": "a+b%20c.jpg"}))
        assert (task.key, task.other_key) == ("a+b%20c.jpg", None)

    def test_may_have_1024_bytes(self) -> None:
        assert the_task(s3_body(key="ä" * 512)).key == "ä" * 512


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2", "2.9", "2.10"])
def test_any_minor_version_of_the_event_is_accepted(version: str) -> None:
    assert the_task(s3_body(eventVersion=version)).key == KAETHE


@pytest.mark.parametrize("name", ["ObjectCreated:Copy", "ObjectCreated:CompleteMultipartUpload"])
def test_every_way_to_create_an_object_is_accepted(name: str) -> None:
    assert the_task(s3_body(eventName=name)).key == KAETHE


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-22T09:30:00Z", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
        ("2026-11-22T09:30:00", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
        ("yesterday", None),
        (17, None),
        (None, None),
    ],
)
def test_an_unreadable_event_time_loses_only_a_metric(time: Any, expected: Any) -> None:
    assert the_task(s3_body(eventTime=time)).event_time == expected


_PLAIN = {"task_id": "t-1", "bucket": "uploads", "key": "a.jpg"}
_EVENTBRIDGE = json.loads(body_of("sqs_eventbridge"))
_TEST_EVENT = json.loads(body_of("sqs_test_event"))


@pytest.mark.parametrize(
    "body",
    [
        _PLAIN | {"Records": json.loads(s3_body())["Records"] * 1000},
        _PLAIN | {"Records": []},
        {"key": "a.jpg", "Records": json.loads(s3_body())["Records"]},
        _PLAIN | _EVENTBRIDGE,
        _EVENTBRIDGE | json.loads(s3_body()),
        _PLAIN | _TEST_EVENT,
        _TEST_EVENT | json.loads(s3_body()),
        _PLAIN | {"Type": "Notification", "Message": s3_body()},
        _PLAIN | {"detail-type": "x", "source": "shop", "detail": json.loads(s3_body())},
        {"Type": "Notification", "Message": json.dumps(_PLAIN | json.loads(s3_body()))},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_a_body_of_two_shapes_is_refused_as_a_whole(body: dict[str, Any]) -> None:
    (unreadable,) = read_body(json.dumps(body))
    assert isinstance(unreadable, Unreadable)
    assert "Send one of them" in str(unreadable.fault)
    if "task_id" in body:  # the API checks only such bodies, and must not take what no reader does
        assert Schema("image_task").faults(body) or body.get("Event")


class TestMalformed:
    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ("", "not JSON"),
            ("hello", "not JSON"),
            ('{"Records": [', "not JSON"),
            ("[" * 100_000, "nested too deeply"),
            ("1" * 5000, "not JSON"),
            ("null", "none of the accepted shapes"),
            ("[]", "none of the accepted shapes"),
            ('"text"', "none of the accepted shapes"),
            ("{}", "none of the accepted shapes"),
            ('{"Records": []}', "none of the accepted shapes"),
            ('{"Records": {}}', "none of the accepted shapes"),
            (json.dumps({"order_id": "7"}), "none of the accepted shapes"),
            (body_of("sqs_malformed"), '{"task_id", "bucket", "key", "version_id"?}'),
            (sns_body("hello"), "SNS notification's Message is not JSON"),
            (sns_body(7), "none of the accepted shapes"),
            (sns_body("{}"), "none of the accepted shapes"),
            (json.dumps({"Service": "Amazon S3", "Event": "s3:Other"}), "none of the accepted shapes"),
        ],
    )
    def test_a_body_of_no_shape(self, body: str, named: str) -> None:
        assert named in str(the_fault(body).fault)

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ('{"Records": [null]}', "A record lacks eventSource"),
            ('{"Records": [{}]}', "A record lacks eventSource"),
            (s3_body(eventSource="aws:sqs"), "A record lacks eventSource"),
            (s3_body_without("eventVersion"), "eventVersion"),
            (s3_body_without("eventName"), "eventName"),
            (s3_body_without("bucket"), "bucket name"),
            (s3_body_without("key"), "object key"),
            (s3_body(eventVersion=2.1), "eventVersion"),
            (s3_body(eventVersion="1.0"), "version 1.0; only 2.x is supported"),
            (s3_body(eventVersion="3.0"), "version 3.0; only 2.x is supported"),
            (s3_body(eventVersion="20.1"), "version 20.1; only 2.x is supported"),
            (s3_body(eventName="ObjectTagging:Put"), "ObjectTagging:Put; supported are ObjectCreated, ObjectRemoved"),
            (s3_body(eventName="Objects:Delete"), "Objects:Delete; supported are ObjectCreated"),
            (s3_body(key=""), "key must be text of 1 to 1024 bytes"),
            (s3_body(key="ä" * 513), "key must be text of 1 to 1024 bytes"),
            (s3_body(name="X"), "bucket must be a bucket name"),
            (s3_body(versionId="\ud800"), "version_id must be 1 to 1024 printable"),
            (s3_body(versionId="v" * 1025), "version_id must be 1 to 1024 printable"),
            (s3_body(versionId=7), "version_id must be 1 to 1024 printable"),
            (s3_body(sequencer="xyz"), "sequencer is not a hexadecimal number"),
            (s3_body(sequencer="A" * 65), "sequencer is not a hexadecimal number"),
            (s3_body(versionId="", sequencer=""), "neither a version id nor a sequencer"),
        ],
    )
    def test_an_s3_record(self, body: str, named: str) -> None:
        assert named in str(the_fault(body).fault)

    def test_a_reason_names_every_fault_at_once(self) -> None:
        reason = str(the_fault(json.dumps({"task_id": "", "bucket": 7, "key": None})).fault)
        assert "task_id" in reason
        assert "bucket" in reason
        assert "key" in reason

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"task_id": "with space"}, "task_id: must be"),
            ({"task_id": "ä"}, "task_id: must be"),
            ({"task_id": "x" * 201}, "task_id: must be"),
            ({"task_id": None}, "task_id: must be"),
            ({"bucket": "Has Capitals"}, "bucket: must be"),
            ({"bucket": "a"}, "bucket: must be"),
            ({"key": ["a.jpg"]}, "key: must be"),
            ({"key": "\ud800"}, "key must be"),
            ({"key": "ä" * 513}, "key must be"),
            ({"version_id": ""}, "version_id: must be 1 to 1024 visible"),
            ({"version_id": 3}, "version_id: must be 1 to 1024 visible"),
        ],
    )
    def test_a_plain_task(self, changes: dict[str, Any], named: str) -> None:
        body = json.dumps({"task_id": "t", "bucket": BUCKET, "key": "a.jpg"} | changes)
        assert named in str(the_fault(body).fault)

    def test_an_eventbridge_event_of_another_kind(self) -> None:
        body = body_of("sqs_eventbridge").replace("Object Created", "Object Tags Added")
        assert "no 'Object Created' and no 'Object Deleted'" in str(the_fault(body).fault)

    def test_an_eventbridge_event_without_its_key(self) -> None:
        assert "object key" in str(the_fault(eventbridge_body(key=None)).fault)

    def test_the_same_body_has_the_same_task_id_and_another_body_another(self) -> None:
        assert the_fault("a").task_id == the_fault("a").task_id != the_fault("b").task_id

    def test_records_nested_as_deep_as_the_interpreter_can_read_but_no_longer_write(self) -> None:
        for depth in range(900, 1000):
            body = '{"Records": [1, ' + "[" * depth + "]" * depth + "]}"
            assert all(isinstance(task, Unreadable) for task in read_body(body))


class TestTaskIds:
    def test_are_the_same_at_every_delivery(self) -> None:
        assert the_task(body_of("sqs_s3")).task_id == the_task(body_of("sqs_s3")).task_id

    def test_are_the_same_in_every_form_of_the_event(self) -> None:
        ids = {the_task(body_of(name)).task_id for name in ("sqs_s3", "sqs_sns", "sqs_eventbridge")}
        assert len(ids) == 1

    def test_do_not_depend_on_when_the_event_was_sent(self) -> None:
        assert the_task(s3_body(eventTime="2027-01-01T00:00:00Z")).task_id == the_task(s3_body()).task_id

    def test_differ_by_version_key_and_bucket(self) -> None:
        changes: list[dict[str, str]] = [{}, {"versionId": "other"}, {"key": "other.jpg"}, {"name": "other-bucket"}]
        assert len({the_task(s3_body(**change)).task_id for change in changes}) == 4

    def test_come_from_the_sequencer_where_the_bucket_keeps_no_versions(self) -> None:
        first, again, second = (the_task(s3_body(versionId="", sequencer=s)).task_id for s in ("0A", "0A", "0B"))
        assert first == again != second

    def test_come_from_the_sequencer_where_versioning_is_suspended(self) -> None:
        first, second = (the_task(s3_body(versionId="null", sequencer=s)) for s in ("0A", "0B"))
        assert first.task_id != second.task_id
        assert first.version_id is None

    def test_of_plain_tasks_are_their_senders(self) -> None:
        assert the_task(body_of("sqs_plain_task")).task_id == "catalogue-4711"


class TestDeadLetterBodies:
    def test_one_record_keeps_the_message_verbatim(self) -> None:
        body = "  " + s3_body() + "\n"
        assert the_task(body).body == body

    def test_each_of_several_records_has_its_own_dead_letter_with_the_same_task(self) -> None:
        for task in read_body(body_of("sqs_s3_several_records")):
            assert isinstance(task, ImageTask)
            assert len(json.loads(task.body)["Records"]) == 1
            assert read_body(task.body) == [task]

    def test_a_bad_record_does_not_affect_the_good_ones(self) -> None:
        body = json.dumps({"Records": [s3_record(), s3_record(eventVersion="9.0"), s3_record(key="b.jpg")]})
        first, bad, last = read_body(body)
        assert isinstance(first, ImageTask)
        assert isinstance(bad, Unreadable)
        assert isinstance(last, ImageTask)
        assert json.loads(bad.body) == {"Records": [s3_record(eventVersion="9.0")]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
TELLING = (
    st.sampled_from(["Records", "Type", "Message", "Notification", "detail-type", "Object Created", "detail", "source"])
    | st.sampled_from(
        ["aws.s3", "aws:s3", "task_id", "bucket", "key", "s3", "object", "name", "versionId", "sequencer"]
    )
    | st.sampled_from(["eventSource", "eventVersion", "2.1", "eventName", "ObjectCreated:Put"])
)
NEARLY_A_MESSAGE = st.recursive(
    JSON | TELLING,
    lambda inner: st.dictionaries(TELLING, inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=25,
)


@given(st.text())
def test_any_text_is_read_without_an_error(body: str) -> None:
    assert all(isinstance(task, ImageTask | Unreadable) for task in read_body(body))


@given(JSON | NEARLY_A_MESSAGE)
def test_any_json_is_read_without_an_error(message: object) -> None:
    assert all(isinstance(task, ImageTask | Unreadable) for task in read_body(json.dumps(message)))


@given(st.dictionaries(st.sampled_from(["eventVersion", "eventName", "key", "name", "versionId", "sequencer"]), JSON))
def test_an_s3_record_with_anything_in_its_fields_is_read_without_an_error(changes: dict[str, Any]) -> None:
    assert all(isinstance(task, ImageTask | Unreadable) for task in read_body(s3_body(**changes)))


@pytest.mark.parametrize("wrap", [str, lambda body: json.dumps({"Type": "Notification", "Message": body})])
def test_a_body_full_of_records_is_one_message_that_cannot_be_read(wrap: Callable[[str], str]) -> None:
    assert len(read_body(json.dumps({"Records": [1] * 1000}))) == 1000
    (unreadable,) = read_body(wrap(json.dumps({"Records": [1] * 1001})))
    assert isinstance(unreadable, Unreadable)
    assert "1,001 records; the limit is 1,000" in str(unreadable.fault)
