"""A message from a process that decoded an untrusted file is accepted only if Darkroom's code could have sent it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from darkroom.errors import TooManyPixels
from hypothesis import given
from hypothesis import strategies as st

from functions.process_image.photo import Limits, Photo, Rendered, Rendition
from functions.process_image.render_messages import (
    LENGTH,
    ProtocolError,
    RenderDefect,
    configuration,
    defect_answer,
    fault_answer,
    photo_answer,
    read_configuration,
    read_photo,
    read_renditions,
    rendered_answer,
)
from functions.process_image.rendition_set import RenditionSpec, rendition_set_of

LIMITS = Limits(max_bytes=1000, max_pixels=10_000, max_frames=10)
SIZES = rendition_set_of((RenditionSpec("a", 50, 50, effort=4), RenditionSpec("b", 20, 10, "cover", "jpeg")))
PHOTO = Photo("jpeg", 100, 50, orientation=6, camera="Canon", taken_at="2024-07-14T10:30:00", location=(48.5, -11.0))
BODIES = [b"one", b"other!"]
RENDERED = Rendered(
    (
        Rendition("a", BODIES[0], "image/webp", "webp", 25, 50, 1),
        Rendition("b", BODIES[1], "image/jpeg", "jpg", 20, 10, 1),
    ),
    "placeholder",
    "#102030",
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def text_of(answer: bytes) -> bytes:
    (length,) = LENGTH.unpack(answer[: LENGTH.size])
    text = answer[LENGTH.size :]
    assert len(text) == length
    return text


class TestRoundTrip:
    def test_configuration(self) -> None:
        assert read_configuration(configuration(LIMITS, SIZES, 40)) == (LIMITS, SIZES, 40)

    @pytest.mark.parametrize("photo", [PHOTO, replace(PHOTO, location=None, camera=None, taken_at=None)])
    def test_photo(self, photo: Photo) -> None:
        assert read_photo(text_of(photo_answer(photo, 123, 4.5)), LIMITS) == (photo, 123, 4.5)

    def test_renditions(self) -> None:
        lengths, put_together = read_renditions(text_of(rendered_answer(RENDERED)), SIZES.specs, most=9)
        assert lengths == [3, 6]
        assert put_together(BODIES) == RENDERED

    def test_fault(self) -> None:
        with pytest.raises(TooManyPixels, match=r"^so many$"):
            read_photo(text_of(fault_answer(TooManyPixels("so many"))), LIMITS)

    def test_defect(self) -> None:
        with pytest.raises(RenderDefect, match="KeyError: 'x'"):
            read_renditions(text_of(defect_answer("Traceback\nKeyError: 'x'")), SIZES.specs, most=9)


class TestProtocolError:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"format": "exe"},
            {"format": ["jpeg"]},
            {"width": 0},
            {"width": True},
            {"height": "50"},
            {"width": 100, "height": 101},  # beyond the limits
            {"frames": 11, "width": 1},
            {"orientation": 9},
            {"has_alpha": 1},
            {"camera": "x" * 201},
            {"taken_at": 2024},
            {"location": [91.0, 0.0]},
            {"location": [1.0]},
            {"location": "no"},
            {"surplus": 1},
        ],
    )
    def test_of_a_photo(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ProtocolError):
            read_photo(json.dumps({"photo": asdict(PHOTO) | wrong, "memory": 1, "seconds": 1.0}).encode(), LIMITS)

    @pytest.mark.parametrize("memory", [0, -1, 2**41, 1.5, None])
    def test_of_a_photos_memory(self, memory: Any) -> None:
        with pytest.raises(ProtocolError):
            read_photo(json.dumps({"photo": asdict(PHOTO), "memory": memory, "seconds": 1.0}).encode(), LIMITS)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"renditions": []},
            {"renditions": [[25, 50, 1, 3]]},
            {"renditions": [[25, 50, 1, 3], [20, 10, 1, 7]]},  # a byte too many
            {"renditions": [[25, 50, 1, 3], [20, 10, 1, -6]]},
            {"renditions": [[25, 50, 1, 3], [9000, 10, 1, 6]]},
            {"renditions": [[25, 50, 1, 3], [20, 10, 1]]},
            {"placeholder": "x" * 101},
            {"dominant_colour": None},
        ],
    )
    def test_of_renditions(self, wrong: dict[str, Any]) -> None:
        right = json.loads(text_of(rendered_answer(RENDERED)))
        with pytest.raises(ProtocolError):
            read_renditions(json.dumps(right | wrong).encode(), SIZES.specs, most=9)

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"\xff\xfe",
            b"[" * 100_000,
            b"[]",
            b"{}",
            b'{"fault": "SystemExit", "reason": "no such fault"}',
            b'{"fault": "NotAnImage", "reason": 1}',
            json.dumps({"fault": "NotAnImage", "reason": "x" * 1001}).encode(),
        ],
    )
    def test_of_anything(self, text: bytes) -> None:
        with pytest.raises(ProtocolError):
            read_photo(text, LIMITS)

    @given(field=st.sampled_from(sorted(asdict(PHOTO))), value=json_values)
    def test_no_value_of_any_field_crashes_the_reader(self, field: str, value: Any) -> None:
        answer = {"photo": asdict(PHOTO) | {field: value}, "memory": 1, "seconds": 1.0}
        try:
            photo, _, _ = read_photo(json.dumps(answer).encode(), LIMITS)
        except ProtocolError:
            return
        assert photo.width * photo.height * photo.frames <= LIMITS.max_pixels

    def test_only_faults_of_a_file_can_be_reported(self) -> None:
        with pytest.raises(ProtocolError):
            read_photo(b'{"fault": "BucketNotAllowed", "reason": "x"}', LIMITS)
