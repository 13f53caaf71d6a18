from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import pytest
from botocore.stub import Stubber
from darkroom.errors import ServiceUnavailable
from darkroom.schema import Schema
from moto import mock_aws

from functions.process_image.events import ImageEvent
from functions.process_image.image_events_topic import SnsImageEvents
from tests.unit.fakes import World, marker_event, plain_task, upload_event

REGION = "eu-central-1"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:images"


def published(world: World) -> ImageEvent:
    world.upload()
    world.deliver(upload_event())
    return world.told[-1]


def refused(world: World) -> ImageEvent:
    world.upload(version_id="v2", second=1, data=b"a text")
    world.deliver(upload_event(version_id="v2"))
    return world.told[-1]


def withdrawn(world: World) -> ImageEvent:
    world.delete()
    world.deliver(marker_event())
    return world.told[-1]


@pytest.fixture
def world() -> World:
    return World()


def test_the_event_of_a_ready_image_has_its_record(world: World) -> None:
    event = published(world)
    body, record = event.body, world.record()
    assert Schema("image_event").faults(body) == []
    assert (event.event_type, body["event_type"], body["state"]) == ("ImageReady", "ImageReady", "READY")
    assert (body["image_key"], body["version_id"], body["version_order"]) == ("a.jpg", "v1", record.version_order)
    assert body["occurred_at"] == record.version_order
    assert body["renditions"][0] == {
        "name": "small",
        "key": record.renditions[0].key,
        "content_type": "image/jpeg",
        "width": 8,
        "height": 6,
        "bytes": record.renditions[0].bytes,
        "url": f"https://images.example.com/{record.renditions[0].key}",
        "stable_url": "https://images.example.com/i/a.jpg/small",
    }


def test_the_event_of_a_failed_image_has_its_reason(world: World) -> None:
    published(world)
    event = refused(world)
    body = event.body
    assert Schema("image_event").faults(body) == []
    assert (event.event_type, body["image_key"], body["version_id"]) == ("ImageFailed", "a.jpg", "v2")
    (letter,) = world.dead_letters
    assert (body["error_code"], body["reason"]) == (letter.error_code, letter.reason) == ("NotAnImage", letter.reason)
    # and a page may go on showing the version before
    assert body["still_published"] is True
    assert "state" not in body


def test_a_first_version_that_fails_leaves_nothing_published(world: World) -> None:
    assert refused(world).body["still_published"] is False


def test_the_event_of_a_deleted_image_has_no_record(world: World) -> None:
    published(world)
    event = withdrawn(world)
    body = event.body
    assert Schema("image_event").faults(body) == []
    assert body == {
        "schema_version": 1,
        "event_id": event.event_id,
        "event_type": "ImageDeleted",
        "occurred_at": body["deleted_at"],
        "task_id": body["task_id"],
        "state": "DELETED",
        "image_key": "a.jpg",
        "bucket": body["bucket"],
        "version_order": body["version_order"],
        "deleted_at": body["deleted_at"],
    }


def test_every_outcome_has_its_own_id(world: World) -> None:
    published(world)
    refused(world)
    withdrawn(world)
    world.upload(version_id="v3", second=2)
    for task_id in ("one", "two"):
        world.deliver(plain_task(task_id=task_id))
    ids = [event.event_id for event in world.told]
    assert len(set(ids)) == len(ids) == 5
    assert all(UUID(event_id).version == 5 for event_id in ids)


@pytest.mark.parametrize("path", sorted(Path("events/published").glob("image_*.json")), ids=lambda path: path.stem)
def test_the_examples_match_the_events(world: World, path: Path) -> None:
    example: dict[str, Any] = json.loads(path.read_text())
    assert Schema("image_event").faults(example) == []
    published(world)
    refused(world)
    withdrawn(world)
    (real,) = [event.body for event in world.told if event.event_type == example["event_type"]]
    assert example.keys() == real.keys()
    for rendition, of in zip(example.get("renditions", []), real.get("renditions", []), strict=False):
        assert rendition.keys() == of.keys()


class TestOnSns:
    @pytest.mark.parametrize(
        ("wanted", "scope", "heard"),
        [
            ({"event_type": ["ImageReady"]}, "MessageAttributes", ["ImageReady"]),
            ({"event_type": ["ImageFailed"], "error_code": ["NotAnImage"]}, "MessageAttributes", ["ImageFailed"]),
            ({"image_key": [{"prefix": "a."}]}, "MessageBody", ["ImageReady", "ImageFailed"]),
            ({"image_key": [{"prefix": "b"}]}, "MessageBody", []),
        ],
    )
    def test_subscribers_can_filter(self, world: World, wanted: dict[str, Any], scope: str, heard: list[str]) -> None:
        with mock_aws():
            # given a subscriber with a filter
            sns, sqs = boto3.client("sns", region_name=REGION), boto3.client("sqs", region_name=REGION)
            topic = sns.create_topic(Name="images")["TopicArn"]
            url = sqs.create_queue(QueueName="mine")["QueueUrl"]
            arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
            filters = {"FilterPolicy": json.dumps(wanted), "FilterPolicyScope": scope}
            attributes = {"RawMessageDelivery": "true", **filters}
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=attributes)
            # when
            for event in (published(world), refused(world)):
                SnsImageEvents(sns, topic).publish(event)
            # then
            messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            assert [json.loads(message["Body"])["event_type"] for message in messages] == heard

    def test_an_error_of_sns_is_a_transient_fault(self, world: World) -> None:
        client = boto3.client("sns", region_name=REGION)
        event = published(world)
        with Stubber(client) as stub:
            stub.add_client_error("publish", "InternalError")
            with pytest.raises(ServiceUnavailable, match="publish the image's event"):
                SnsImageEvents(client, TOPIC).publish(event)
