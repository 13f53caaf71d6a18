"""The sample webhook, over HTTP, with messages signed as Amazon SNS signs them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from threading import Thread
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from samples.webhook import Webhook, server

TOPIC = "arn:aws:sns:eu-central-1:123456789012:images"
CERTIFICATE = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123abcd.pem"
SUBSCRIBE = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=t&Token=2336"
EVENT = {"event_type": "ImageReady", "image_key": "trip/Käthe.jpg"}


@dataclass
class Sns:
    """Signs with a key of its own, as the documentation of SNS says."""

    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    fetched: list[str] = field(default_factory=list)

    def get(self, url: str) -> bytes:
        self.fetched.append(url)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        unsigned = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
        unsigned = unsigned.not_valid_before(now).not_valid_after(now + timedelta(days=1))
        return unsigned.public_key(self.key.public_key()).sign(self.key, SHA256()).public_bytes(Encoding.PEM)

    def message(self, *names: str, **others: str) -> dict[str, str]:
        message = {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": TOPIC,
            "Message": json.dumps(EVENT),
            "Timestamp": "2026-11-27T09:30:00.000Z",
            "SignatureVersion": "2",
            "SigningCertURL": CERTIFICATE,
            **others,
        }
        names = names or ("Message", "MessageId", "Timestamp", "TopicArn", "Type")
        text = "".join(f"{name}\n{message[name]}\n" for name in names)
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), SHA256())
        return message | {"Signature": base64.b64encode(signature).decode()}


@dataclass
class Receiver:
    sns: Sns
    port: int
    taken: list[dict[str, Any]]

    def post(self, body: Any) -> int:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/", body if isinstance(body, bytes) else json.dumps(body))
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    sns, taken = Sns(), list[dict[str, Any]]()
    with server(Webhook(TOPIC, taken.append, sns.get), port=0) as running:
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield Receiver(sns, running.server_address[1], taken)
        running.shutdown()
        thread.join()


def test_a_signed_event_is_taken(receiver: Receiver) -> None:
    assert receiver.post(receiver.sns.message()) == 200
    with_subject = receiver.sns.message(
        "Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type", Subject="for people"
    )
    assert receiver.post(with_subject) == 200
    assert receiver.taken == [EVENT, EVENT]


def test_a_subscription_is_confirmed(receiver: Receiver) -> None:
    names = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    question = {"Type": "SubscriptionConfirmation", "Token": "2336", "SubscribeURL": SUBSCRIBE}
    assert receiver.post(receiver.sns.message(*names, **question)) == 200
    assert receiver.sns.fetched[-1] == SUBSCRIBE
    # but only at SNS
    elsewhere = {**question, "SubscribeURL": "https://sns.eu-central-1.amazonaws.com.example.com/?Action=1"}
    assert receiver.post(receiver.sns.message(*names, **elsewhere)) == 403
    assert receiver.sns.fetched[-1] == CERTIFICATE
    assert receiver.taken == []


@pytest.mark.parametrize(
    "change",
    [
        {"Message": json.dumps({**EVENT, "image_key": "another.jpg"})},
        {"Timestamp": "2026-11-28T09:30:00.000Z"},
        {"Signature": "FAKE"},
        {"Signature": base64.b64encode(bytes(256)).decode()},
        {"SignatureVersion": "1"},
        {"TopicArn": "arn:aws:sns:eu-central-1:999999999999:theirs"},
        {"SigningCertURL": "https://example.com/SimpleNotificationService-0123abcd.pem"},
        {"SigningCertURL": "https://sns.eu-central-1.amazonaws.com.example.com/SimpleNotificationService-01.pem"},
        {"SigningCertURL": "http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123abcd.pem"},
        {"Type": "UnsubscribeConfirmation"},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_was_changed_is_refused(receiver: Receiver, change: dict[str, str]) -> None:
    assert receiver.post(receiver.sns.message() | change) == 403
    assert receiver.taken == []


def test_a_topic_of_somebody_else_is_refused_although_sns_signs_for_it(receiver: Receiver) -> None:
    assert receiver.post(receiver.sns.message(TopicArn="arn:aws:sns:eu-central-1:999999999999:theirs")) == 403
    assert receiver.taken == []


@pytest.mark.parametrize("body", [b"hello", b"[]", b"{}", b'"text"', b"", b"\xff"])
def test_what_is_no_message_is_refused(receiver: Receiver, body: bytes) -> None:
    assert receiver.post(body) == 403
