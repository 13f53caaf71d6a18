"""The rendition set: one file that people edit, so all its faults are reported at once and in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from functions.process_image import rendition_set as module
from functions.process_image.rendition_set import InvalidRenditionSet, RenditionSpec, load_rendition_set

SHIPPED = Path(module.__file__).with_name("renditions.toml")


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "renditions.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path: Path) -> list[str]:
    with pytest.raises(InvalidRenditionSet) as caught:
        load_rendition_set(path)
    return str(caught.value).splitlines()


def test_the_shipped_file_makes_four_webp_sizes() -> None:
    specs = load_rendition_set(SHIPPED).specs

    assert specs == tuple(
        RenditionSpec(name, side, side, "inside", "webp", 80, 4)
        for name, side in (("thumb", 256), ("small", 640), ("medium", 1280), ("large", 1920))
    )


def test_only_name_and_width_are_required(write: Write) -> None:
    path = write('[[rendition]]\nname = "a"\nwidth = 100')

    assert load_rendition_set(path).specs == (RenditionSpec("a", 100, 100, "inside", "webp", 80, 4),)


@pytest.mark.parametrize(("image_format", "effort"), [("webp", 4), ("avif", 0), ("jpeg", None), ("png", None)])
def test_each_format_has_its_own_usual_effort(write: Write, image_format: str, effort: int | None) -> None:
    path = write(f'[[rendition]]\nname = "a"\nwidth = 100\nformat = "{image_format}"')

    assert load_rendition_set(path).specs[0].effort == effort


SIDE = "allowed are whole numbers from 1 to 8192"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("width = 0", f"width is 0; {SIDE}"),
        ("width = 8193", f"width is 8193; {SIDE}"),
        ("width = true", f"width is true; {SIDE}"),
        ("width = 10.5", f"width is 10.5; {SIDE}"),
        ('width = "640"', f'width is "640"; {SIDE}'),
        ("", f"width is missing; {SIDE}"),
        ("width = 1\nheight = -3", f"height is -3; {SIDE}"),
        ("width = 1\nquality = 140", "quality is 140; allowed are whole numbers from 1 to 100"),
        ('width = 1\nfit = "fill"', 'fit is "fill"; allowed are inside, cover'),
        ('width = 1\nformat = "gif"', 'format is "gif"; allowed are jpeg, png, webp, avif'),
        ("width = 1\nformat = 7\neffort = 1", "format is 7; allowed are jpeg, png, webp, avif"),
        ("width = 1\neffort = 7", "effort is 7; allowed for webp are whole numbers from 0 to 6"),
        ("width = 1\neffort = false", "effort is false; allowed for webp are whole numbers from 0 to 6"),
        ('width = 1\nformat = "avif"\neffort = 10', "effort is 10; allowed for avif are whole numbers from 0 to 9"),
        ('width = 1\nformat = "jpeg"\neffort = 1', "effort is 1; jpeg has no effort, leave it out"),
        (
            "width = 1\nwitdh = 2",
            "unknown field witdh; allowed are name, width, height, fit, format, quality, formats, effort",
        ),
        ("width = 1\nformats = []", "formats is []; allowed are some of jpeg, png, webp, avif, each once"),
        ("width = 1\nformats = [7]", "formats is [7]; allowed are some of jpeg, png, webp, avif, each once"),
        ('width = 1\nformats = "webp"', 'formats is "webp"; allowed are some of jpeg, png, webp, avif, each once'),
        (
            'width = 1\nformats = ["webp", "webp"]',
            'formats is ["webp", "webp"]; allowed are some of jpeg, png, webp, avif, each once',
        ),
        ('width = 1\nformats = ["webp"]\nformat = "webp"', "has format and formats; allowed is one of them"),
        (
            'width = 1\nformats = ["avif", "webp"]\nquality = 80',
            "quality is 80; with formats, allowed is one for each, such as { avif = 80 }",
        ),
        (
            'width = 1\nformats = ["avif", "webp"]\nquality = { jpeg = 80 }',
            "quality is for jpeg, which is not among the formats",
        ),
        (
            'width = 1\nformats = ["avif", "webp"]\nquality = { avif = 0 }',
            "quality is 0; allowed are whole numbers from 1 to 100",
        ),
        (
            'width = 1\nformats = ["avif", "webp"]\neffort = { webp = 7 }',
            "effort is 7; allowed for webp are whole numbers from 0 to 6",
        ),
        ('width = 0\nformats = ["avif", "webp"]', f"width is 0; {SIDE}"),
        (
            'width = 1\nformats = ["avif"]\neffort = { avif = 10 }',
            "effort is 10; allowed for avif are whole numbers from 0 to 9",
        ),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_what_is_allowed(write: Write, line: str, fault: str) -> None:
    path = write(f'[[rendition]]\nname = "a"\nwidth = 5\n\n[[rendition]]\nname = "small"\n{line}')

    assert faults_of(path) == [f'renditions.toml: rendition 2 "small": {fault}']


@pytest.mark.parametrize("name", ["", "Small", "a b", "a/b", "a" * 33, "ä"])
def test_a_name_fits_in_an_object_key(write: Write, name: str) -> None:
    path = write(f'[[rendition]]\nname = "{name}"\nwidth = 5')

    assert faults_of(path) == [
        f'renditions.toml: rendition 1 "{name}": name is "{name}"; allowed are 1 to 32 of a-z, 0-9 and -'
    ]


def test_a_name_is_unique(write: Write) -> None:
    path = write('[[rendition]]\nname = "a"\nwidth = 5\n[[rendition]]\nname = "a"\nwidth = 6')

    assert faults_of(path) == [
        'renditions.toml: rendition 2 "a": name is already that of rendition 1; each name may stand once'
    ]


def test_all_faults_are_reported_at_once(write: Write) -> None:
    path = write('size = 3\n[[rendition]]\nwidth = 0\n[[rendition]]\nname = "b"\nwidth = 5\nquality = 0\nfit = 1')

    assert faults_of(path) == [
        "renditions.toml: unknown field size at the top; allowed are [[rendition]] blocks",
        "renditions.toml: rendition 1: name is missing; allowed are 1 to 32 of a-z, 0-9 and -",
        f"renditions.toml: rendition 1: width is 0; {SIDE}",
        'renditions.toml: rendition 2 "b": fit is 1; allowed are inside, cover',
        'renditions.toml: rendition 2 "b": quality is 0; allowed are whole numbers from 1 to 100',
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no rendition; at least one [[rendition]] block is needed"),
        ("rendition = []", "has no rendition; at least one [[rendition]] block is needed"),
        ("rendition = 3", "rendition is 3; allowed are blocks that begin with [[rendition]]"),
        ("[rendition]\nwidth = 3", 'rendition is {"width": 3}; allowed are blocks that begin with [[rendition]]'),
    ],
)
def test_a_file_without_blocks_is_refused(write: Write, text: str, fault: str) -> None:
    assert faults_of(write(text)) == [f"renditions.toml: {fault}"]


def test_a_file_that_is_not_toml_is_refused(write: Write) -> None:
    assert "is not TOML" in faults_of(write("[[rendition"))[0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "gone.toml") == ["gone.toml: cannot be read: No such file or directory"]


def test_several_formats_are_several_specs_the_widely_shown_first(write: Write) -> None:
    block = '[[rendition]]\nname = "a"\nwidth = 100\nformats = ["avif", "webp"]\n'
    webp, avif = (
        RenditionSpec("a", 100, 100, "inside", "webp", 80, 4),
        RenditionSpec("a", 100, 100, "inside", "avif", 62, 0),
    )

    assert load_rendition_set(write(block)).specs == (webp, avif)
    given = block + "quality = { avif = 55 }\neffort = { webp = 6, avif = 3 }"
    assert load_rendition_set(write(given)).specs == (replace(webp, effort=6), replace(avif, quality=55, effort=3))


def test_an_animation_is_made_only_in_formats_that_move_where_there_are_any(write: Write) -> None:
    path = write(
        '[[rendition]]\nname = "a"\nwidth = 100\nformats = ["avif", "webp"]\n'
        '[[rendition]]\nname = "b"\nwidth = 50\nformats = ["avif", "jpeg"]'
    )

    found = load_rendition_set(path)

    assert [(spec.name, spec.format) for spec in found.specs_for(frames=9)] == [
        ("a", "webp"),
        ("b", "jpeg"),
        ("b", "avif"),
    ]
    assert found.specs_for(frames=1) == found.specs


class TestFingerprint:
    A = '[[rendition]]\nname = "a"\nwidth = 100\n'
    B = '[[rendition]]\nname = "b"\nwidth = 200\n'

    def of(self, write: Write, text: str) -> str:
        return load_rendition_set(write(text)).fingerprint

    @pytest.mark.parametrize(
        "same",
        [
            B + A,
            "# a comment\n" + A + B,
            A + 'height = 100\nfit = "inside"\nformat = "webp"\nquality = 80\neffort = 4\n' + B,
        ],
        ids=["order", "comment", "defaults spelled out"],
    )
    def test_stays_when_the_output_stays(self, write: Write, same: str) -> None:
        assert self.of(write, same) == self.of(write, self.A + self.B)

    def test_is_that_of_earlier_releases_while_each_has_one_format(self, write: Write) -> None:
        assert load_rendition_set(SHIPPED).fingerprint == "3d6c3a813683"

    def test_changes_with_a_format_that_is_added_but_not_with_their_order(self, write: Write) -> None:
        one, two, turned = (self.A + f"formats = {f}" for f in ('["webp"]', '["webp", "avif"]', '["avif", "webp"]'))
        assert self.of(write, one) == self.of(write, self.A)
        assert self.of(write, two) == self.of(write, turned) != self.of(write, one)

    @pytest.mark.parametrize("line", ["height = 50", 'fit = "cover"', 'format = "png"', "quality = 81", "effort = 2"])
    def test_changes_with_every_field(self, write: Write, line: str) -> None:
        assert self.of(write, self.A + line + "\n" + self.B) != self.of(write, self.A + self.B)

    def test_changes_with_a_name(self, write: Write) -> None:
        assert self.of(write, self.A.replace('"a"', '"c"')) != self.of(write, self.A)

    def test_ignores_the_quality_of_png(self, write: Write) -> None:
        png = self.A + 'format = "png"\n'
        assert self.of(write, png + "quality = 3") == self.of(write, png)
