"""A webhook for the events of images: it takes nothing that Amazon SNS did not sign for your topic.

    pip install cryptography
    TOPIC_ARN=<ImageEventsTopicArn> python samples/webhook.py 8080

Put it behind an address with HTTPS, and subscribe that address to the topic (docs/images.md, Events). What comes twice
has the same ``event_id``.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import urlopen

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

_HOST = r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/"
_CERTIFICATE = re.compile(_HOST + r"SimpleNotificationService-[0-9a-f]+\.pem")
_CONFIRMATION = re.compile(_HOST + r"\?Action=ConfirmSubscription&")
# What is signed, in this order: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_LARGEST = 1_000_000  # bytes; a message has 256 KB at most


class NotSigned(Exception):
    """The message does not come from the topic."""


def _get(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 # an address of Amazon SNS, checked before
        content: bytes = answer.read(_LARGEST)
    return content


@dataclass(frozen=True)
class Webhook:
    """Checks messages and hands their events on.

    Attributes
    ----------
    topic_arn:
        The topic to listen to. Anybody can sign with a topic of their own.
    take:
        Called with each event.
    get:
        Fetches an address of Amazon SNS.
    """

    topic_arn: str
    take: Callable[[dict[str, Any]], None]
    get: Callable[[str], bytes] = _get

    def receive(self, body: bytes) -> None:
        """Take one request's body: an event, or a subscription to confirm.

        Raises
        ------
        NotSigned
            It is no message of the topic, or it was changed on its way.
        """
        try:
            message = json.loads(body)
            self._check(message)
        except (AttributeError, TypeError, KeyError, ValueError, InvalidSignature) as error:
            raise NotSigned(repr(error)) from error
        if message["Type"] == "SubscriptionConfirmation":
            if not _CONFIRMATION.match(message["SubscribeURL"]):
                raise NotSigned("the subscription is confirmed elsewhere")
            self.get(message["SubscribeURL"])
        else:
            self.take(json.loads(message["Message"]))

    def _check(self, message: Mapping[str, str]) -> None:
        if message["TopicArn"] != self.topic_arn or message["SignatureVersion"] != "2":
            raise ValueError(f"another topic or version: {message['TopicArn']}, {message['SignatureVersion']}")
        if not _CERTIFICATE.fullmatch(message["SigningCertURL"]):
            raise ValueError(f"not a certificate of Amazon SNS: {message['SigningCertURL']}")
        key = load_pem_x509_certificate(self.get(message["SigningCertURL"])).public_key()
        if not isinstance(key, RSAPublicKey):
            raise TypeError("the certificate has no RSA key")
        signed = "".join(f"{name}\n{message[name]}\n" for name in _SIGNED[message["Type"]] if name in message)
        key.verify(base64.b64decode(message["Signature"]), signed.encode(), PKCS1v15(), SHA256())


def server(webhook: Webhook, port: int) -> ThreadingHTTPServer:
    """Make the HTTP server. It answers 200, or 403 to what is not signed; SNS sends anything else again."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            status = 403
            if 0 < length <= _LARGEST:
                try:
                    webhook.receive(self.rfile.read(length))
                    status = 200
                except NotSigned as error:
                    self.log_error("refused: %s", error)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    server(Webhook(os.environ["TOPIC_ARN"], take=print), int(sys.argv[1])).serve_forever()
