from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from dataclasses import replace
from functools import reduce
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from darkroom.errors import MalformedMessage, TooLarge
from hypothesis import given
from hypothesis import strategies as st

from functions.relay_rabbitmq.deliveries import Delivery, is_sendable, read_event
from functions.relay_rabbitmq.relay import Accepted, judge
from functions.relay_rabbitmq.sqs import SqsDeadLetterQueue
from tests.unit.events import BUCKET
from tests.unit.relay_fakes import IMAGE_TASKS, LARGEST, ORDERS, ROUTES, StrictSqs, delivery, event_message, event_of

ZIPPED = gzip.compress("Käthe".encode(), mtime=0)


def archive_of(*texts: str) -> bytes:
    """A zip archive, as Spring's ZipPostProcessor makes it."""
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for text in texts:
            archive.writestr("zipped", text)
    return packed.getvalue()


def the_delivery(message: object) -> Delivery:
    (found,) = read_event(event_of({IMAGE_TASKS: [message]}))
    return found


def byte_array(text: str) -> dict[str, list[int]]:
    """As Lambda writes a text in a header."""
    return {"bytes": list(text.encode())}


class TestAMessage:
    def test_is_read(self) -> None:
        message = event_message(ZIPPED, messageId="m-1", contentEncoding="gzip", headers={"n": 1})
        assert the_delivery(message) == Delivery(IMAGE_TASKS, ZIPPED, "gzip", "m-1", {"n": 1})

    def test_may_have_only_data(self) -> None:
        assert the_delivery({"data": "aGVsbG8="}) == Delivery(IMAGE_TASKS, b"hello", "", None, {})

    def test_may_have_null_for_everything(self) -> None:
        nothing = Delivery(IMAGE_TASKS, b"", "", None, {})
        assert the_delivery({"basicProperties": None, "redelivered": None, "data": None}) == nothing
        properties = {"messageId": None, "contentEncoding": None, "headers": None}
        assert the_delivery({"basicProperties": properties, "data": ""}) == nothing

    def test_has_no_id_if_that_is_empty(self) -> None:
        assert the_delivery(event_message("x", messageId="")).message_id is None

    def test_is_the_same_when_repeated(self) -> None:
        assert the_delivery(event_message("x")) == the_delivery(event_message("x", redelivered=True))

    @pytest.mark.parametrize("data", ["hello world", "aGVsbG8", "Käthe", "aGVs\nbG8="])
    def test_that_is_not_base64_is_kept_unchanged(self, data: str) -> None:
        assert the_delivery({"data": data}).data == data.encode()

    @pytest.mark.parametrize("message", [None, 7, "text", [], {}, {"data": 7}, {"data": {"x": None}}])
    def test_without_a_message_is_kept_unchanged(self, message: object) -> None:
        assert json.loads(the_delivery(message).data) == message

    @pytest.mark.parametrize("value", [7, ["gzip"], {"bytes": [1]}, True])
    def test_ignores_properties_of_the_wrong_type(self, value: object) -> None:
        message = event_message("x", messageId=value, contentEncoding=value)
        assert the_delivery(message) == Delivery(IMAGE_TASKS, b"x", "", None, {})
        assert the_delivery({"basicProperties": value, "data": "eA=="}) == Delivery(IMAGE_TASKS, b"x", "", None, {})


class TestABody:
    @pytest.mark.parametrize("encoding", ["", "identity", "utf-8", "UTF-8"])
    def test_is_text(self, encoding: str) -> None:
        assert delivery("Käthe 写真 🎞", encoding=encoding).text() == "Käthe 写真 🎞"

    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
    def test_is_unpacked(self, encoding: str) -> None:
        assert delivery(ZIPPED, encoding=encoding).text() == "Käthe"

    def test_may_be_gzip_with_several_members(self) -> None:
        assert delivery(ZIPPED + gzip.compress(b" 1.jpg"), encoding="gzip").text() == "Käthe 1.jpg"

    @pytest.mark.parametrize(
        "data",
        [
            b"hello",
            ZIPPED + b"hello",
            ZIPPED[:12] + b"\xff\xff" + ZIPPED[14:],
            ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:],
            zlib.compress(b"hello"),
        ],
    )
    def test_that_is_not_the_declared_gzip_is_malformed(self, data: bytes) -> None:
        with pytest.raises(MalformedMessage, match="not the gzip that its content-encoding says"):
            delivery(data, encoding="gzip").text()

    def test_with_truncated_gzip_is_malformed(self) -> None:
        for length in range(1, len(ZIPPED)):
            with pytest.raises(MalformedMessage, match="not the gzip that its content-encoding says"):
                delivery(ZIPPED[:length], encoding="gzip").text()

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04", archive_of("hello")[:-9], archive_of()])
    def test_that_is_not_the_zip_archive_it_says_is_malformed(self, data: bytes) -> None:
        with pytest.raises(MalformedMessage, match="not the zip that its content-encoding says"):
            delivery(data, encoding="zip").text()

    def test_of_an_archive_is_unpacked_up_to_the_limit(self) -> None:
        with pytest.raises(TooLarge):
            delivery(archive_of("0" * 100_000_000), encoding="zip").text()

    @pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "g\0zip", "\ud800", "rot13"])
    def test_of_another_encoding_is_malformed(self, encoding: str) -> None:
        with pytest.raises(MalformedMessage, match="known are gzip, deflate, zip, base64"):
            delivery("x", encoding=encoding).text()

    @pytest.mark.parametrize("data", ["Käthe".encode("latin-1"), b"[\xff", b"\xed\xa0\x80", b"[\xc3"])
    def test_that_is_not_utf_8_is_malformed(self, data: bytes) -> None:
        for body, encoding in ((data, ""), (gzip.compress(data), "gzip")):
            with pytest.raises(MalformedMessage, match="not UTF-8"):
                delivery(body, encoding=encoding).text()

    @pytest.mark.parametrize(
        ("encoding", "content_type", "data"),
        [
            ("gzip:UTF-8", "", ZIPPED),
            ("gzip, utf-8", "application/json", ZIPPED),
            ("UTF8;gzip", "", ZIPPED),
            ("gzip gzip", "", gzip.compress(ZIPPED, mtime=0)),
            ("deflate", "", zlib.compress("Käthe".encode())),
            ("deflate", "", zlib.compress("Käthe".encode(), wbits=-15)),
            ("deflate, gzip", "", gzip.compress(zlib.compress("Käthe".encode()), mtime=0)),
            ("zip:UTF-8", "", archive_of("Käthe")),
            ("base64", "", base64.b64encode("Käthe".encode())),
            ("8bit", "", "Käthe".encode()),
            ("binary", "", "Käthe".encode()),
            ("8BITMIME", "", "Käthe".encode()),
            ("application/json", "", "Käthe".encode()),
            ("text/plain; charset=utf-8", "", "Käthe".encode()),
            ("application/gzip", "", ZIPPED),
            ("8-bit", "", "Käthe".encode()),
            ("us-ascii", "", "Käthe".encode()),
            ("", "text/plain; charset=ISO-8859-1", "Käthe".encode("latin-1")),
            ("utf-8", 'application/json;charset="latin1"', "Käthe".encode("latin-1")),
            ("latin-1", "", "Käthe".encode("latin-1")),
            ("gzip:windows-1252", "", gzip.compress("Käthe".encode("latin-1"), mtime=0)),
            ("", "", "\ufeffKäthe".encode()),
            ("latin-1", "", "\ufeffKäthe".encode()),
            ("utf-8", "text/plain; charset=utf-8", "Käthe".encode("utf-16")),
            ("utf-8", "", "Käthe".encode("utf-32")),
            ("", "", "Käthe".encode("utf-16")),
        ],
    )
    def test_is_read_by_its_properties_in_any_notation(self, encoding: str, content_type: str, data: bytes) -> None:
        found = replace(delivery(data, encoding=encoding), content_type=content_type)
        assert found.text() == "Käthe"

    def test_that_begins_like_gzip_without_a_declaration_gets_a_hint(self) -> None:
        with pytest.raises(MalformedMessage, match="begins like gzip"):
            delivery(ZIPPED).text()

    def test_may_be_as_large_as_sqs_accepts(self) -> None:
        most = b"x" * LARGEST
        assert delivery(most).text() == delivery(gzip.compress(most), encoding="gzip").text() == most.decode()
        for body, encoding in ((most + b"x", ""), (gzip.compress(most + b"x"), "gzip")):
            with pytest.raises(TooLarge, match="1,048,576 bytes"):
                delivery(body, encoding=encoding).text()

    def test_of_a_bomb_is_not_unpacked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # given 200 MB in 200 kB, and somebody who counts what is asked for
        asked: list[int | None] = []
        read = gzip.GzipFile.read

        def counting(file: gzip.GzipFile, size: int | None = -1) -> bytes:
            asked.append(size)
            return read(file, size)

        monkeypatch.setattr(gzip.GzipFile, "read", counting)
        packer = zlib.compressobj(wbits=31)
        bomb = b"".join(packer.compress(bytes(10**6)) for _ in range(200)) + packer.flush()
        # when
        with pytest.raises(TooLarge):
            delivery(bomb, encoding="gzip").text()
        # then
        assert asked == [LARGEST + 1]

    @given(st.binary(max_size=200), st.sampled_from(["", "gzip", "br"]))
    def test_of_any_bytes_is_text_or_malformed(self, data: bytes, encoding: str) -> None:
        try:
            text = delivery(data, encoding=encoding).text()
        except MalformedMessage:
            return
        assert encoding == "gzip" or not data.isascii() or b"\0" in data or text.encode() == data

    @given(st.text())
    def test_survives_a_round_trip(self, text: str) -> None:
        assert delivery(gzip.compress(text.encode()), encoding="gzip:utf-8").text() == text.removeprefix("\ufeff")


class TestHeaders:
    def test_may_contain_texts_at_any_depth(self) -> None:
        headers = {
            "source": byte_array("Käthe"),
            "x-death": [{"queue": byte_array("orders"), "routing-keys": [byte_array("a"), byte_array("")], "count": 2}],
            "table": {"of": {"tables": byte_array("deep")}},
            "number": 10,
            "flag": True,
            "nothing": None,
        }
        assert the_delivery(event_message("x", headers=headers)).headers == {
            "source": "Käthe",
            "x-death": [{"queue": "orders", "routing-keys": ["a", ""], "count": 2}],
            "table": {"of": {"tables": "deep"}},
            "number": 10,
            "flag": True,
            "nothing": None,
        }

    def test_may_hold_signed_bytes(self) -> None:
        signed = [byte - 256 if byte > 127 else byte for byte in "Käthe".encode()]
        assert the_delivery(event_message("x", headers={"h": {"bytes": signed}})).headers == {"h": "Käthe"}

    def test_of_other_types_are_read_as_far_as_possible(self) -> None:
        assert the_delivery(event_message("x", headers={"h": {"bytes": [104, 255]}})).headers == {"h": "h\ufffd"}

    @pytest.mark.parametrize("numbers", [["a"], [None], [1.5], [256], [-129], [10**30], [[1]], {"0": 1}, "ab", 7])
    def test_may_hold_a_table_with_a_field_called_bytes(self, numbers: object) -> None:
        for headers in ({"h": {"bytes": numbers}}, {"bytes": numbers}):
            assert the_delivery(event_message("x", headers=headers)).headers == headers

    def test_may_be_called_bytes(self) -> None:
        assert the_delivery(event_message("x", headers={"bytes": [104, 105]})).headers == {"bytes": [104, 105]}

    def test_with_more_than_bytes_are_a_table(self) -> None:
        table = {"bytes": [104], "more": 1}
        assert the_delivery(event_message("x", headers={"h": table})).headers == {"h": table}

    @pytest.mark.parametrize("headers", [[], [1], "text", 7, True])
    def test_of_the_wrong_kind_are_none(self, headers: object) -> None:
        assert the_delivery(event_message("x", headers=headers)).headers == {}

    @pytest.mark.parametrize("kind", ["list", "table"])
    def test_nested_at_any_depth_do_not_block_the_batch(self, kind: str) -> None:
        def deeper(inner: Any, _: int) -> Any:
            return [inner] if kind == "list" else {"h": inner}

        for depth in (10, *range(200, 1100, 7), 5000):
            headers = {"deep": reduce(deeper, range(depth), byte_array("end")), "flat": 1}
            (found,) = read_event(event_of({"newsletter::/": [event_message("x", headers=headers)]}))
            undeliverable = judge(found, ROUTES)
            assert not isinstance(undeliverable, Accepted)
            sqs = StrictSqs()
            SqsDeadLetterQueue(sqs.client, "dead-letters").send(undeliverable)
            (sent,) = sqs.queues["dead-letters"]
            assert ('"end"' in sent.attributes["headers"]) != ("nested too deeply" in sent.attributes["headers"])


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        {},
        {"Records": []},
        {"eventSource": "aws:amq", "messages": []},
        {"eventSource": "aws:amq", "rmqMessagesByQueue": {}},
        {"eventSource": "aws:rmq"},
        {"eventSource": "aws:rmq", "rmqMessagesByQueue": []},
        {"eventSource": "aws:rmq", "rmqMessagesByQueue": {"orders::/": None}},
        {"eventSource": "aws:rmq", "rmqMessagesByQueue": {"orders::/": {"data": ""}}},
    ],
)
def test_an_event_from_elsewhere_is_an_error_that_says_so(event: object) -> None:
    with pytest.raises(ValueError, match='not from RabbitMQ: it has no "eventSource": "aws:rmq"'):
        read_event(event)


def test_a_batch_may_hold_nothing() -> None:
    assert list(read_event(event_of({}))) == list(read_event(event_of({IMAGE_TASKS: []}))) == []


@pytest.mark.parametrize(
    ("character", "takes"),
    [
        *((c, True) for c in "\t\n\r ~\x7f\x85\xa0ä\ud7ff\ue000\ufffd\U00010000\U0010ffff"),
        *((c, False) for c in "\0\x08\x0b\x0c\x0e\x1f\ud800\udfff\ufffe\uffff"),
    ],
)
def test_sqs_accepts_the_characters_of_xml(character: str, takes: bool) -> None:
    assert is_sendable(f"before{character}after") is takes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)
BASE64 = st.sampled_from(
    ["", "e30=", "W10=", "bnVsbA==", "/w==", "AA==", "H4sIAAAAAAAAA6uuBQBDv6ajAgAAAA=="]
) | st.builds(
    lambda fields: event_message(json.dumps(fields))["data"],
    st.dictionaries(st.sampled_from(["task_id", "order_id", "bucket", "key", "Records", "Type", "Message"]), JSON)
    | st.fixed_dictionaries({"bucket": st.just(BUCKET), "key": JSON}, optional={"task_id": JSON, "Type": JSON}),
)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "messageId": JSON | st.sampled_from(["m-1", "with space", "x" * 201, "\0"]),
        "contentEncoding": JSON | st.sampled_from(["gzip", "br", "", "\ud800", "x" * 10**5]),
        "headers": JSON | st.dictionaries(st.text(), JSON | st.fixed_dictionaries({"bytes": JSON | st.lists(JSON)})),
    },
)
MESSAGES = (
    st.fixed_dictionaries({}, optional={"basicProperties": PROPERTIES | JSON, "data": BASE64 | JSON, "x": JSON}) | JSON
)


@given(st.dictionaries(st.sampled_from([IMAGE_TASKS, ORDERS, "\ud800", ""]), st.lists(MESSAGES, max_size=4)))
def test_every_message_has_one_outcome_and_every_rejection_can_be_sent(queues: dict[str, Any]) -> None:
    sqs = StrictSqs()
    # when
    outcomes = [judge(found, ROUTES) for found in read_event(event_of(queues))]
    # then
    assert [o.delivery.queue for o in outcomes] == [queue for queue, messages in queues.items() for _ in messages]
    for outcome in outcomes:
        if isinstance(outcome, Accepted):
            assert is_sendable(outcome.body)
        else:
            SqsDeadLetterQueue(sqs.client, "dead-letters").send(outcome)
            assert outcome.fault.error_code != "UnexpectedError", outcome.fault
