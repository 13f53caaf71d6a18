"""Find Stripe's key in a secret, however a person put it there, or say what the secret holds instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

# A secret or a restricted key. Nothing else may go into a header, whose errors repeat what is in it.
_KEY = re.compile(r"[sr]k_\w+", re.ASCII)
# A key among other text. One that is cut off is none.
_KEY_IN_TEXT = re.compile(r"(?<!\w)[sr]k_(?:test|live)_\w+(?!\w|\*|\u2026|\.\.)", re.ASCII)
# Stripe's keys have more characters than any name of a field that begins so.
_KEY_AS_NAME = re.compile(r"[sr]k_(?:test|live)_\w{16,}", re.ASCII)
_SECRET = re.compile(r"\b([srp]k|whsec)_[\w*]+")
_ASSIGNMENT = re.compile(r"(?:export\s+)?[A-Za-z_][\w.-]*\s*[=:]\s*(.*)", re.DOTALL)
_MOST_NAMES = 8
#: The metadata of a payment that names its stack: see `stack_of`.
STACK = "darkroom_stack"


class NoKey(Exception):
    """The secret holds no key that can charge. ``str()`` of it says what it holds, and repeats none of it."""


def key_in(secret: str | bytes) -> str:
    """Take the only key out of a secret: alone, in quotes, as ``NAME=value``, in JSON or other text, as text or binary.

    Raises
    ------
    NoKey
        There is none, or more than one.
    """
    text = _text(secret)
    if _KEY.fullmatch(text):
        return text
    holder = _parsed(text)
    if isinstance(holder, dict | list):
        return _only_key(holder)
    keys = set(_KEY_IN_TEXT.findall(text))
    if len(keys) == 1:
        return str(keys.pop())
    raise NoKey(f"holds text with {len(keys)} different keys in it: leave one" if keys else f"holds {_kind(text)}")


def stack_of(secret_arn: str) -> str:
    """What tells a stack from another one that shares its Stripe account, and may have orders of the same id."""
    return sha256(secret_arn.encode()).hexdigest()[:12]


def kind_of(key: str) -> str:
    """What kind of key it is, as people call it: "restricted key of test mode"."""
    kind = "restricted key" if key.startswith("rk_") else "secret key"
    mode = re.match(r"[sr]k_(test|live)_", key)
    return f"{kind} of {mode[1]} mode" if mode else kind


def without_secrets(text: str) -> str:
    """Return a text with the keys in it cut off behind their kind: "sk_..."."""
    return _SECRET.sub(r"\1_...", text)


def _text(secret: str | bytes) -> str:
    if isinstance(secret, bytes):
        encoding = json.detect_encoding(secret) if secret else "utf-8"
        try:
            secret = secret.decode(encoding)
        except ValueError:
            raise NoKey(f"holds {len(secret)} bytes that are not text") from None
    return _bare(secret)


def _bare(text: str) -> str:
    """Without white space, quotes and a variable's name around it."""
    before = None
    while text != before:
        before = text
        text = text.strip().strip("\ufeff\u200b\x00").strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
            text = text[1:-1]
        elif (assigned := _ASSIGNMENT.fullmatch(text)) and assigned[1] and not text.startswith(("{", "[")):
            text = assigned[1].rstrip(";,")
    return text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _only_key(holder: Any) -> str:
    texts = [_bare(value) for value in _leaves(holder)]
    keys = {key for text in texts for key in ([text] if _KEY.fullmatch(text) else _KEY_IN_TEXT.findall(text))}
    fields = list(holder) if isinstance(holder, dict) else []
    keys = keys or {name for name in fields if _KEY_AS_NAME.fullmatch(name)}
    if len(keys) == 1:
        return keys.pop()
    names = without_secrets(", ".join(fields[:_MOST_NAMES]))
    found = f"JSON with the fields {names}" if names else "JSON"
    if keys:
        raise NoKey(f"holds {found}, with {len(keys)} different keys in it: leave one")
    kinds = sorted({_kind(text) for text in texts if re.match(r"[a-z]+_", text)})
    raise NoKey(f"holds {found}, but no secret key in it" + (f", only {', '.join(kinds)}" if kinds else ""))


def _leaves(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _leaves(inner)
        case list():
            for inner in value:
                yield from _leaves(inner)


def _kind(text: str) -> str:
    if not text:
        return "nothing"
    if text.startswith("pk_"):
        return "a publishable key (pk_...), which cannot charge"
    if text.startswith("whsec_"):
        return "the signing secret of a webhook (whsec_...)"
    if text.startswith(("sk_", "rk_")):
        if "*" in text or "..." in text or "\u2026" in text:
            return "a shortened key, as Stripe's dashboard shows it"
        return "what begins like a key, but is cut off or has characters that no key has"
    return f"text of {len(text)} characters that is no key"
