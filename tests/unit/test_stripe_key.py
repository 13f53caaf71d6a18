"""A key is found however a person put it into the secret; otherwise the reason says what is there."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from darkroom.stripe_key import NoKey, key_in, kind_of
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.sampled_from(["sk_test_laptop", "sk_live_51Habc", "rk_live_51Habc"])
WAYS: list[Callable[[str], str]] = [
    json.dumps,
    lambda text: f"'{text}'",
    lambda text: f"\ufeff  {text}\r\n",
    lambda text: json.dumps({"api_key": text}),
    lambda text: json.dumps({"STRIPE_SECRET_KEY": text, "publishable": "pk_test_1", "retries": 3}),
    lambda text: json.dumps({"stripe": {"keys": [text, text]}}),
    lambda text: f"STRIPE_SECRET_KEY={text}",
    lambda text: f'export STRIPE_API_KEY="{text}"\n',
    lambda text: f"# stripe\nSTRIPE_PUBLISHABLE_KEY=pk_test_1\nSTRIPE_SECRET_KEY={text}\n",
    lambda text: f"Bearer {text}",
    lambda text: f"{{'api_key': '{text}',}}",
    lambda text: json.dumps(json.dumps({"api_key": text})),
    lambda text: json.dumps({"Authorization": f"Bearer {text}"}),
    lambda text: json.dumps({"sk_test_key": text}),
]


@given(KEYS, st.sampled_from(WAYS), st.sampled_from([str, "utf-8", "utf-16", "utf-8-sig"]))
def test_a_key_is_found_in_every_common_form(key: str, way: Callable[[str], str], encoding: str | type) -> None:
    secret = way(key)
    assert key_in(secret if encoding is str else secret.encode(str(encoding))) == key


def test_a_key_is_found_where_a_fields_name_belongs() -> None:
    assert key_in('{"sk_live_51HabcdefGhijklmn": ""}') == "sk_live_51HabcdefGhijklmn"


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("", "holds nothing"),
        (" \n", "holds nothing"),
        ("to do", "holds text of 5 characters that is no key"),
        ("pk_test_1", "holds a publishable key"),
        ('{"api_key": "pk_test_1"}', "holds JSON with the fields api_key, but no secret key in it, only a publishable"),
        ('{"username": "a", "password": "b"}', "holds JSON with the fields username, password, but no secret key"),
        ('{"a": "sk_test_1", "b": "sk_live_1"}', "holds JSON with the fields a, b, with 2 different keys"),
        ('{"sk_live_1234": "", "whsec_1234": ""}', "holds JSON with the fields sk_..., whsec_..., but no secret key"),
        ("old: sk_live_1, new: sk_live_2", "holds text with 2 different keys in it: leave one"),
        ("c2tfdGVzdF9sYXB0b3A=", "holds text of 20 characters that is no key"),
        ("whsec_abc", "the signing secret of a webhook"),
        ("sk_test_...1234", "a shortened key"),
        ("sk_live_****1234", "a shortened key"),
        ("sk_", "begins like a key"),
        ("sk_test 1", "begins like a key"),
        ("sk_test\nX-Header: 1", "begins like a key"),
        ("sk_schlüssel", "begins like a key"),
        (b"\xff\xfe\xfd\x80\x81", "holds 5 bytes that are not text"),
        (b"", "holds nothing"),
    ],
)
def test_otherwise_the_content_of_the_secret_is_described(secret: str | bytes, reason: str) -> None:
    with pytest.raises(NoKey) as none:
        key_in(secret)
    assert reason in str(none.value)
    assert not any(part in str(none.value) for part in ("1234", "X-Header", "to do"))


def test_kinds_of_keys() -> None:
    assert [kind_of(key) for key in ("sk_test_1", "rk_live_1", "sk_1")] == [
        "secret key of test mode",
        "restricted key of live mode",
        "secret key",
    ]
