"""The event that Lambda sends for RabbitMQ.

https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html
"""

from __future__ import annotations

import base64
import codecs
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.errors import MalformedMessage, TooLarge

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LARGEST_MESSAGE = 1_048_576
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_NOT_SENDABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:+-]+)""", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;:+]+")
_COMPRESSIONS = {
    **dict.fromkeys(("gzip", "x-gzip", "gz", "application/gzip", "application/x-gzip"), "gzip"),
    **dict.fromkeys(("deflate", "x-deflate", "zlib"), "deflate"),
    "base64": "base64",
    "zip": "zip",  # Spring's ZipPostProcessor: an archive of one file
}
_NO_ENCODING = {"", "identity", "none", "null", "7bit", "7-bit", "8bit", "8-bit", "8bitmime", "binary", "plain", "raw"}
_NO_ENCODING |= {"text", "json"}
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_GZIP = b"\x1f\x8b"
# LookupError: an empty archive; RuntimeError: an encrypted one, or a compression that Python does not know.
_NOT_UNPACKED = (EOFError, OSError, ValueError, LookupError, RuntimeError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Delivery:
    """One message of a RabbitMQ queue.

    Attributes
    ----------
    queue:
        ``queue::vhost``, as Lambda names it.
    data:
        The published body.
    content_encoding, content_type:
        As the producer wrote them, such as ``gzip:UTF-8`` and ``application/json; charset=latin1``; or empty.
    """

    queue: str
    data: bytes
    content_encoding: str
    message_id: str | None
    headers: Mapping[str, Any]
    content_type: str = ""

    def text(self) -> str:
        """Decode the body, without a byte-order mark.

        Raises
        ------
        MalformedMessage
            The body does not match its properties.
        TooLarge
            It is larger than SQS takes.
        """
        compressions, charset = _encodings(self.content_encoding)
        declared = _CHARSET.search(self.content_type)
        charset = _charset(declared[1]) if declared else charset
        plain = self.data
        for compression in reversed(compressions):  # in the order of their application
            plain = _unpacked(plain, compression)
        if len(plain) > LARGEST_MESSAGE:
            raise TooLarge(f"the body has more than the {LARGEST_MESSAGE:,} bytes that SQS takes")
        if plain.startswith(_BYTE_ORDER_MARKS):
            charset = None  # https://encoding.spec.whatwg.org/#decode: a mark counts for more than a declaration
        try:
            return plain.decode(charset or json.detect_encoding(plain)).removeprefix("\ufeff")
        except (UnicodeDecodeError, ValueError) as error:
            hint = " It begins like gzip, but no content-encoding says so." if plain.startswith(_GZIP) else ""
            name = charset.upper() if charset else "UTF-8, and no charset is declared"
            raise MalformedMessage(f"The body is not {name}: {error}.{hint}") from error


def _encodings(content_encoding: str) -> tuple[list[str], str | None]:
    """Split what clients write into this property: compressions, charsets and transfer encodings, in any notation.

    Spring writes ``gzip:UTF-8``, others ``gzip, utf-8``, ``utf8``, ``us-ascii``, ``8bit`` or ``binary``.
    """
    compressions, charset = [], None
    for word in _SEPARATORS.split(content_encoding.lower()):
        name = word.strip("\"'").removeprefix("charset=")
        if name in _COMPRESSIONS:
            compressions.append(_COMPRESSIONS[name])
        elif name not in _NO_ENCODING and "/" not in name:  # else a content-type in the wrong property
            charset = _charset(name, f"The content-encoding {content_encoding!r} is not understood: ")
    return compressions, charset


def _charset(name: str, about: str = "") -> str:
    try:
        found = codecs.lookup(name)
        "".encode(name)  # not a codec from bytes to bytes
    except (LookupError, ValueError, TypeError) as error:
        known = "known are gzip, deflate, zip, base64, the names of charsets, and none"
        raise MalformedMessage(f"{about}{name[:100]!r} is no charset; {known}.") from error
    return "utf-8" if found.name == "ascii" else found.name  # a superset of ASCII


def _unpacked(data: bytes, compression: str) -> bytes:
    """Undo one compression; reads no more than SQS takes, because a small body may unpack to any size."""
    try:
        match compression:
            case "gzip":
                return gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST_MESSAGE + 1)
            case "deflate":
                return _inflated(data)
            case "zip":
                with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(archive.namelist()[0]) as file:
                    return file.read(LARGEST_MESSAGE + 1)
        return base64.b64decode(data, validate=False)
    except _NOT_UNPACKED as error:
        raise MalformedMessage(f"The body is not the {compression} that its content-encoding says: {error}.") from error


def _inflated(data: bytes) -> bytes:
    """Undo deflate, with zlib's header, as the standard requires, or without it, as some clients send it."""
    has_header = data[:1] != b"" and data[0] & 0x0F == zlib.DEFLATED
    decompressor = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    plain = decompressor.decompress(data, LARGEST_MESSAGE + 1)
    if not decompressor.eof and len(plain) <= LARGEST_MESSAGE:
        raise EOFError("it ends before its end marker")
    return plain


def is_sendable(text: str) -> bool:
    """Whether SQS takes every character of a text."""
    return _NOT_SENDABLE.search(text) is None


def read_event(event: Any) -> Iterator[Delivery]:
    """Read the event of one batch.

    Raises
    ------
    ValueError
        The event is not from RabbitMQ: somebody invoked the function with another one.
    """
    match event:
        case {"eventSource": "aws:rmq", "rmqMessagesByQueue": dict(queues)} if all(
            isinstance(messages, list) for messages in queues.values()
        ):
            return (_delivery(queue, message) for queue, messages in queues.items() for message in messages)
    raise ValueError('The event is not from RabbitMQ: it has no "eventSource": "aws:rmq" with "rmqMessagesByQueue".')


def _delivery(queue: str, message: Any) -> Delivery:
    """Read one message. An invalid one is kept unchanged: an error here would block the batch forever."""
    match message:
        case {"data": str(data)}:
            body = _decoded(data)
        case {"data": None}:
            body = b""
        case _:
            body = json.dumps(message).encode()
    match message:
        case {"basicProperties": dict(properties)}:
            pass
        case _:
            properties = {}
    return Delivery(
        queue=queue,
        data=body,
        content_encoding=_text(properties.get("contentEncoding")) or "",
        message_id=_text(properties.get("messageId")) or None,
        headers=_headers(properties.get("headers")),
        content_type=_text(properties.get("contentType")) or "",
    )


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:  # never seen
        return data.encode("utf-8", "surrogatepass")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _headers(headers: Any) -> Mapping[str, Any]:
    if not isinstance(headers, dict):
        return {}
    try:
        return {name: _plain(value) for name, value in headers.items()}
    except RecursionError:
        return dict.fromkeys(headers, "(nested too deeply to be read)")


def _plain(value: Any) -> Any:
    """Turn ``{"bytes": [104, 105]}``, the form of texts in headers, into text, at any depth."""
    match value:
        case {"bytes": list(numbers), **rest} if not rest and all(_is_byte(number) for number in numbers):
            return bytes(number % 256 for number in numbers).decode("utf-8", "replace")
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value


def _is_byte(number: Any) -> bool:
    return isinstance(number, int) and -128 <= number <= 255  # Java's bytes are signed
