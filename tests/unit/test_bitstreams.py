"""AV1's sequence header, as encoders of stills and of videos write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.process_image.processing.headers.bitstreams import av1_colours, av1_grey_is_full

#: Profile, still picture, and that the header is reduced; level; the sides' lengths and the sides; tools.
REDUCED = "000 1 1" + "00000" + "0101 0101 111111 101111" + "111" + "000"
#: Without times and delays one operating point of a high tier; then all that frames of a video need.
WHOLE = "000 1 0" + "0 0 00000" + "000000000000 01000 0" + "0101 0101 111111 101111" + "0 111"
WHOLE += "0000 1 00" + "1 1" + "111" + "000"
#: Two operating points with delays, numbered frames, and tools for screens that are set rather than chosen.
ODD = "000 1 0" + "0 1 00001" + ("000000000000 00100" + "1 1010") * 2 + "0101 0101 111111 101111" + "1 0000000 111"
ODD += "0000 0" + "0 1" + "0 1" + "000"
#: Eight bits, grey, with code points 12, 13 and 6.
COLOURS = "0 1 1" + "00001100 00001101 00000110"


def units(bits: str, *, before: bytes = b"\x12\x00") -> bytes:
    bits = bits.replace(" ", "")
    content = int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8))
    return before + bytes([0x0A, len(content)]) + content


@pytest.mark.parametrize("header", [REDUCED, WHOLE, ODD], ids=["reduced", "whole", "odd"])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("before", [b"", b"\x12\x00", b"\x2a\x03abc"])
def test_colours_and_range_are_read(header: str, full: bool, before: bytes) -> None:
    data = units(header + COLOURS + "01"[full], before=before)

    assert av1_colours(data) == (12, 13)
    assert av1_grey_is_full(data) is full


def test_grey_without_code_points_has_a_range_too() -> None:
    data = units(REDUCED + "0 1 0" + "0")

    assert av1_colours(data) is None
    assert av1_grey_is_full(data) is False


@given(st.binary(max_size=60))
def test_anything_else_says_nothing_and_ends(data: bytes) -> None:
    assert av1_colours(data) is None or len(data) > 10
    assert av1_grey_is_full(data) in (True, False)
