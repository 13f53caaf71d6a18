"""Which hosts and pages the emulators answer."""

from __future__ import annotations

import pytest

from local.emulators.guard import host_fault, is_from_elsewhere


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4566", "localhost:4566", "LOCALHOST", "host.docker.internal:4566", "d1a2.cloudfront.localhost:4566"],
)
def test_the_stacks_names_are_answered(host: str) -> None:
    assert host_fault([host]) == ""


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["evil.example"],
        ["127.0.0.1.evil.example"],
        ["localhost.evil.example"],
        ["evil.example:4566"],
        ["xlocalhost"],
        ["user@evil.example"],
        ["127.0.0.1", "evil.example"],
        ["[::ffff:127.0.0.1]"],
        ["0.0.0.0"],  # noqa: S104
    ],
)
def test_any_other_name_is_refused(hosts: list[str]) -> None:
    assert "accepts only the hosts 127.0.0.1" in host_fault(hosts)


@pytest.mark.parametrize(
    ("origin", "fetch_site", "foreign"),
    [
        (None, None, False),
        (None, "none", False),
        (None, "same-origin", False),
        ("http://127.0.0.1:4566", "same-origin", False),
        ("http://127.0.0.1:3000", "same-site", True),
        ("http://localhost:4566", "cross-site", True),
        ("https://evil.example", "cross-site", True),
        ("null", None, True),
        ("", None, True),
        (None, "cross-site", True),
        (None, "same-site", True),
    ],
)
def test_a_page_of_another_origin_is_recognised(origin: str | None, fetch_site: str | None, foreign: bool) -> None:
    assert is_from_elsewhere("127.0.0.1:4566", origin, fetch_site) is foreign
