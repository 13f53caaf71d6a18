"""Every kind of file that browsers or cameras know: rendered with the right pixels, or refused with the true reason."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pyvips
from darkroom.errors import DamagedImage, UnsupportedFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from functions.process_image.formats import ALLOWED, INPUT_FORMATS
from functions.process_image.photo import Limits, Photo, Rendition
from functions.process_image.processing import identify, render
from functions.process_image.processing.colour_spaces import SRGB_PRIMARIES, ColourSpace, Curve, icc_profile
from functions.process_image.processing.headers.gif import with_transparent_canvas
from functions.process_image.processing.layout import Layout
from functions.process_image.processing.load import load
from functions.process_image.processing.samples import usual_samples
from functions.process_image.rendition_set import RenditionSpec, rendition_set_of
from tests.unit.gif_files import Frame, gif, shown_by_browsers
from tests.unit.image_files import cropped, mirrored, nclx, png_with, tiff, turned, with_brands, with_properties

DATA = Path(__file__).parent / "data" / "images"
LIMITS = Limits(max_bytes=10_000_000, max_pixels=30_000_000, max_frames=100)
RED, GREEN, BLUE, WHITE = (220, 20, 20), (20, 160, 20), (20, 40, 220), (230, 230, 230)
Colour = tuple[int, ...]
#: Given to the pixels of a picture: what stands in the middle of its quarters.
QUARTERS = [RED, GREEN, BLUE, WHITE]


def quarters(size: tuple[int, int] = (120, 80), colours: Sequence[Colour] = QUARTERS) -> Image.Image:
    width, height = size
    image = Image.new("RGB", size, colours[3])
    image.paste(colours[0], (0, 0, width // 2, height // 2))
    image.paste(colours[1], (width // 2, 0, width, height // 2))
    image.paste(colours[2], (0, height // 2, width // 2, height))
    return image


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def rendition(data: bytes, side: int = 1920, image_format: str = "png") -> tuple[Photo, Rendition]:
    spec = RenditionSpec(
        "it", side, side, format=image_format, quality=95, effort=0 if image_format == "webp" else None
    )
    photo = identify(data, LIMITS)
    return photo, render(data, photo, rendition_set_of((spec,))).renditions[0]


def shown(data: bytes, side: int = 1920) -> Image.Image:
    """What the file becomes; the record has its size."""
    photo, made = rendition(data, side)
    image = Image.open(io.BytesIO(made.body))
    if side == 1920:
        assert image.size == (photo.display_width, photo.display_height)
    return image


def middles(image: Image.Image) -> list[Colour]:
    across, down = image.width // 4, image.height // 4
    places = [(across, down), (3 * across, down), (across, 3 * down), (3 * across, 3 * down)]
    pixels = [image.getpixel(place) for place in places]
    return [pixel if isinstance(pixel, tuple) else (int(pixel or 0),) * 3 for pixel in pixels]


def assert_near(found: Sequence[Colour], expected: Sequence[Colour], tolerance: int = 2) -> None:
    apart = [abs(f - e) for one, two in zip(found, expected, strict=True) for f, e in zip(one, two, strict=True)]
    assert max(apart) <= tolerance, f"{found} are not {expected}"


def interleaved(colours: Sequence[Colour] = QUARTERS, size: tuple[int, int] = (40, 20)) -> list[int]:
    """The samples of quarters of any number of bands, row by row."""
    width, height = size
    return [
        value
        for y in range(height)
        for x in range(width)
        for value in colours[(2 if y >= height // 2 else 0) + (1 if x >= width // 2 else 0)]
    ]


def of(letter: str, values: Sequence[float], order: str = "<") -> bytes:
    return struct.pack(f"{order}{len(values)}{letter}", *values)


def linear(value: float) -> float:
    value /= 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


GREYS = [(0,), (80,), (123,), (255,)]
SIZE = (40, 20)


class TestTiff:
    @pytest.mark.parametrize(
        "compression", ["raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "tiff_deflate", "packbits"]
    )
    @pytest.mark.parametrize("tiled", [False, True])
    def test_supported_compressions_are_rendered(self, compression: str, tiled: bool) -> None:
        picture = quarters((128, 64))
        options: dict[str, Any] = {"tiffinfo": {322: 64, 323: 64}} if tiled else {}
        options |= {"quality": 95} if compression == "jpeg" else {}
        data = saved(picture, "TIFF", compression=compression, **options)

        assert_near(middles(shown(data)), QUARTERS, 4)

    @pytest.mark.parametrize("tiled", [False, True])
    def test_webp_in_tiff_is_rendered(self, tiled: bool) -> None:
        picture: Any = pyvips.Image.new_from_memory(quarters((128, 64)).tobytes(), 128, 64, 3, "uchar")
        data = picture.copy(interpretation="srgb").tiffsave_buffer(compression="webp", tile=tiled, Q=95)

        assert_near(middles(shown(bytes(data))), QUARTERS, 4)

    @pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
    def test_fax_is_rendered(self, compression: str) -> None:
        picture = quarters(colours=[(0,) * 3, (255,) * 3, (255,) * 3, (0,) * 3]).convert("1")

        assert_near(
            middles(shown(saved(picture, "TIFF", compression=compression))),
            [(0,) * 3, (255,) * 3, (255,) * 3, (0,) * 3],
        )

    @pytest.mark.parametrize(
        ("compression", "name"),
        [
            (6, "old-style JPEG"),
            (34925, "LZMA"),
            (50000, "Zstandard"),
            (34712, "JPEG 2000"),
            (34887, "LERC"),
            (50002, "JPEG XL"),
            (34661, "JBIG"),
            (32809, "ThunderScan"),
            (12345, "method 12345"),
        ],
    )
    @pytest.mark.parametrize("tags", [{}, {322: [16], 323: [16], 324: [8], 325: [9]}], ids=["strips", "tiles"])
    def test_other_compressions_are_refused_by_name(self, compression: int, name: str, tags: dict[int, Any]) -> None:
        data = tiff(bytes(interleaved()), SIZE, tags={259: [compression], **tags})

        with pytest.raises(UnsupportedFormat, match=f"is compressed with {name}; allowed are no compression, LZW"):
            identify(data, LIMITS)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("big", [False, True])
    def test_both_byte_orders_and_bigtiff(self, order: str, big: bool) -> None:
        data = tiff(bytes(interleaved()), SIZE, order=order, big=big, tags={274: [6]})

        photo = identify(data, LIMITS)
        assert (photo.display_width, photo.display_height) == (20, 40)
        assert_near(middles(shown(data)), [BLUE, RED, WHITE, GREEN])

    @pytest.mark.parametrize(
        ("samples", "bits", "tags"),
        [
            (of("H", [v * 257 for v in interleaved()]), 16, {}),
            (of("I", [v * 16_843_009 for v in interleaved()]), 32, {}),
            (of("f", [linear(v) for v in interleaved()]), 32, {339: [3] * 3}),
            (of("e", [linear(v) for v in interleaved()]), 16, {339: [3] * 3}),
        ],
        ids=["16 bits", "32 bits", "floats", "half floats"],
    )
    def test_deep_samples_keep_their_colours(self, samples: bytes, bits: int, tags: dict[int, Any]) -> None:
        data = tiff(samples, SIZE, bits=[bits] * 3, tags=tags)

        assert_near(middles(shown(data)), QUARTERS)
        assert shown(data, 16).size == (16, 8)

    @pytest.mark.parametrize("photometric", [0, 1])
    @pytest.mark.parametrize(
        ("letter", "scale", "bits", "sample_format"),
        [("B", 1, 8, 1), ("H", 257, 16, 1), ("I", 16_843_009, 32, 1), ("f", None, 32, 3), ("e", None, 16, 3)],
    )
    def test_grey_of_every_depth(
        self, photometric: int, letter: str, scale: int | None, bits: int, sample_format: int
    ) -> None:
        levels = interleaved(GREYS)
        numbers = [value * scale for value in levels] if scale else [linear(value) for value in levels]
        if photometric == 0:
            most = 255 * scale if scale else 1
            numbers = [most - number for number in numbers]
        data = tiff(of(letter, numbers), SIZE, photometric=photometric, bits=[bits], tags={339: [sample_format]})

        assert_near(middles(shown(data)), [grey * 3 for grey in GREYS], 3)

    @pytest.mark.parametrize(("bits", "levels"), [(1, (0, 1, 1, 0)), (2, (0, 1, 2, 3)), (4, (0, 5, 9, 15))])
    def test_grey_of_few_bits(self, bits: int, levels: tuple[int, ...]) -> None:
        packed = bytearray()
        values, per_byte = interleaved([(level,) for level in levels]), 8 // bits
        for at in range(0, len(values), per_byte):
            byte = 0
            for value in values[at : at + per_byte]:
                byte = byte << bits | value
            packed.append(byte)
        data = tiff(bytes(packed), SIZE, photometric=1, bits=[bits])

        most = 2**bits - 1
        assert_near(middles(shown(data)), [(round(level * 255 / most),) * 3 for level in levels], 3)

    def test_floats_beyond_white_are_white_and_none_are_black(self) -> None:
        numbers = interleaved([(7.5,) * 3, (-1.0,) * 3, (float("nan"),) * 3, (float("inf"),) * 3])  # type: ignore[list-item]
        data = tiff(of("f", numbers), SIZE, bits=[32] * 3, tags={339: [3] * 3})

        assert_near(middles(shown(data)), [(255,) * 3, (0,) * 3, (0,) * 3, (255,) * 3])

    def test_a_palette(self) -> None:
        table = [value * 257 for band in range(3) for value in [*(colour[band] for colour in QUARTERS), *[0] * 252]]
        data = tiff(bytes(interleaved([(0,), (1,), (2,), (3,)])), SIZE, photometric=3, bits=[8], tags={320: table})

        assert_near(middles(shown(data)), QUARTERS)

    @pytest.mark.parametrize(
        ("extra", "alpha"), [([0], None), ([1], 128), ([2], 128), ([0, 2], 77), ([2, 0], 128), ([], None)]
    )
    def test_only_declared_alpha_counts(self, extra: list[int], alpha: int | None) -> None:
        # Given colours multiplied by an alpha of a half where the tag says so
        colours = [(110, 10, 10), (10, 80, 10), (10, 20, 110), (115, 115, 115)] if extra == [1] else QUARTERS
        more = (128, 77)[: max(len(extra), 1)]
        samples = bytes(interleaved([(*colour, *more) for colour in colours]))

        data = tiff(samples, SIZE, bits=[8] * (3 + len(more)), tags={338: extra} if extra else {})

        expected = QUARTERS if alpha is None else [(*colour, alpha) for colour in QUARTERS]
        assert_near(middles(shown(data)), expected)
        assert identify(data, LIMITS).has_alpha is (alpha is not None)

    @pytest.mark.parametrize("deep", [False, True])
    @pytest.mark.parametrize("extra", [[], [2], [0]])
    def test_cmyk_with_and_without_alpha(self, deep: bool, extra: list[int]) -> None:
        inks = [(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 128)]
        values = interleaved([(*ink, *[128 for _ in extra]) for ink in inks])
        samples = of("H", [value * 257 for value in values]) if deep else bytes(values)
        data = tiff(
            samples,
            SIZE,
            photometric=5,
            bits=[16 if deep else 8] * (4 + len(extra)),
            tags={338: extra} if extra else {},
        )

        white, red, black, grey = middles(shown(data))
        assert_near([white[:3]], [(255, 255, 255)])
        assert red[0] > 200 > 90 > max(red[1:3])
        assert max(black[:3]) < 60
        assert 90 < grey[0] < 190
        assert {len(colour) for colour in (white, red, black, grey)} == {4 if extra == [2] else 3}
        assert all(colour[3] == 128 for colour in (white, red) if extra == [2])

    @pytest.mark.parametrize(
        ("photometric", "bits", "colours"),
        [
            (8, 8, [(255, 0, 0), (0, 0, 0), (137, 0, 0), (115, 255, 224)]),
            (9, 8, [(255, 128, 128), (0, 128, 128), (137, 128, 128), (115, 127, 96)]),
            (8, 16, [(65535, 0, 0), (0, 0, 0), (35209, 0, 0), (29588, 65308, 57335)]),
            (9, 16, [(65280, 32768, 32768), (0, 32768, 32768), (35072, 32768, 32768), (29474, 32540, 24567)]),
        ],
    )
    @pytest.mark.parametrize("alpha", [False, True])
    def test_lab(self, photometric: int, bits: int, colours: list[Colour], alpha: bool) -> None:
        opaque = 255 if bits == 8 else 65535
        values = interleaved([(*colour, opaque) if alpha else colour for colour in colours])
        data = tiff(
            of("B" if bits == 8 else "H", values),
            SIZE,
            photometric=photometric,
            bits=[bits] * (3 + alpha),
            tags={338: [2]} if alpha else {},
        )

        found = middles(shown(data))
        assert_near([c[:3] for c in found], [(255,) * 3, (0,) * 3, (128, 128, 128), (60, 110, 160)], 3)
        assert not alpha or all(colour[3] == 255 for colour in found)

    def test_separate_planes_in_strips(self) -> None:
        values = interleaved()
        planes = bytes(values[0::3] + values[1::3] + values[2::3])
        one = len(planes) // 3
        data = tiff(planes, SIZE, tags={284: [2], 273: [8, 8 + one, 8 + 2 * one], 279: [one] * 3})

        assert_near(middles(shown(data)), QUARTERS)

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"bits": [12] * 3}, "has 12 bits per sample; allowed here are 8, 16, 32"),
            ({"bits": [8, 8, 16]}, "has 8 and 16 bits per sample"),
            ({"bits": [64] * 3, "tags": {339: [3] * 3}}, "has 64 bits per sample; allowed here are 16, 32"),
            ({"tags": {339: [2] * 3}}, "has signed samples; allowed are unsigned and floating-point samples"),
            ({"tags": {339: [4] * 3}}, "has undefined samples"),
            ({"tags": {339: [6] * 3}, "bits": [64] * 3}, "has complex samples"),
            ({"photometric": 10}, "holds ITU Lab"),
            ({"photometric": 4}, "holds a transparency mask"),
            ({"photometric": 5, "bits": [8] * 4, "tags": {332: [2]}}, "is of other inks than CMYK"),
            ({"tags": {284: [2], 322: [16], 323: [16], 324: [8], 325: [9]}}, "has tiles in separate planes"),
            ({"bits": [4] * 3}, "has 4 bits per sample"),
        ],
    )
    def test_files_that_libvips_would_show_wrong_are_refused_by_name(self, options: dict[str, Any], what: str) -> None:
        with pytest.raises(UnsupportedFormat, match=f"^the TIFF file {what}"):
            identify(tiff(bytes(9600), SIZE, **options), LIMITS)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
    @pytest.mark.parametrize("tiled", [False, True])
    def test_damaged_tiles_and_strips_are_damage(self, compression: str, tiled: bool) -> None:
        noise = Image.effect_noise((256, 128), 90).convert("RGB")
        data = bytearray(
            saved(noise, "TIFF", compression=compression, **({"tiffinfo": {322: 64, 323: 64}} if tiled else {}))
        )
        middle = len(data) // 2
        data[middle : middle + 400] = bytes(400)

        with pytest.raises(DamagedImage, match="damaged or cut short: its pixels cannot be decoded"):
            shown(bytes(data))

    @pytest.mark.parametrize("tags", [{33432: [65]}, {305: [1]}, {65000: [7]}])
    @pytest.mark.parametrize("tiled", [False, True])
    def test_odd_metadata_are_no_damage(self, tags: dict[int, Any], tiled: bool) -> None:
        if tiled:
            tags = tags | {322: [48], 323: [32], 324: [8], 325: [48 * 32 * 3]}
        samples = bytes(interleaved(size=(48, 32)))

        assert_near(middles(shown(tiff(samples, (48, 32), tags=tags))), QUARTERS)

    def test_a_preview_on_the_first_page_is_skipped(self) -> None:
        preview = quarters((12, 8), [WHITE] * 4)
        preview.encoderinfo = {"tiffinfo": {254: 1}}
        whole = quarters()
        whole.encoderinfo = {"tiffinfo": {254: 0}}
        data = saved(preview, "TIFF", save_all=True, append_images=[whole], tiffinfo={254: 1})

        assert_near(middles(shown(data)), QUARTERS)

    def test_a_preview_alone_is_the_picture(self) -> None:
        assert_near(middles(shown(saved(quarters(), "TIFF", tiffinfo={254: 1}))), QUARTERS)


_PLAIN = ("b-w", "grey16", "srgb", "rgb16", "rgb", "scrgb", "multiband")
CONVERTED = {
    **dict.fromkeys(("uchar", "ushort", "uint"), (*_PLAIN, "cmyk")),
    **dict.fromkeys(("float", "double"), (*_PLAIN, "lab", "xyz")),
    "short": ("labs",),
}
BANDS = {"b-w": (1, 2), "grey16": (1, 2), "cmyk": (4, 5), "multiband": (1, 2, 3, 4)}


def members(enum: type) -> list[str]:
    return [value for name, value in vars(enum).items() if name.isupper() and isinstance(value, str)]


class TestEveryKindOfPixel:
    """Every kind of pixels from libvips is converted by rule or refused by name."""

    @pytest.mark.parametrize("band_format", [name for name in members(pyvips.enums.BandFormat) if name != "notset"])
    @pytest.mark.parametrize("bands", range(1, 7))
    def test_is_converted_or_refused(self, band_format: str, bands: int) -> None:
        kinds = [kind for kind in members(pyvips.enums.Interpretation) if kind != "error"]
        assert len(kinds) > 20
        for kind in kinds:
            image: Any = pyvips.Image.black(4, 4, bands=bands).cast(band_format).copy(interpretation=kind)
            expected = kind in CONVERTED.get(band_format, ()) and bands in BANDS.get(kind, (3, 4))
            if not expected:
                with pytest.raises(
                    UnsupportedFormat, match=r"^the TIFF file has .*; allowed are grey, RGB, CMYK and Lab"
                ):
                    usual_samples(image, "tiff")
                continue
            usual = usual_samples(image, "tiff")
            assert usual.format in ("uchar", "ushort", "float", "short")
            assert usual.colourspace("srgb").cast("uchar").avg() >= 0

    def test_packed_lab_is_unpacked(self) -> None:
        packed: Any = (
            pyvips.Image.black(4, 4, bands=3).linear(1, [50, 10, -10]).copy(interpretation="lab").cast("float")
        )

        assert usual_samples(packed.Lab2LabQ(), "tiff").getpoint(1, 1) == pytest.approx([50, 10, -10], abs=0.5)


HEIC = (DATA / "quarters.heic").read_bytes()


@cache
def heif(kind: str) -> bytes:
    return HEIC if kind == "heic" else saved(quarters(), "AVIF", quality=95, subsampling="4:4:4")


class TestHeif:
    @pytest.mark.parametrize("kind", ["heic", "avif"])
    @pytest.mark.parametrize("angle", range(4))
    @pytest.mark.parametrize("axis", [None, 0, 1])
    @pytest.mark.parametrize("crop", [False, True])
    def test_is_cropped_turned_and_mirrored_as_the_container_says(
        self, kind: str, angle: int, axis: int | None, crop: bool
    ) -> None:
        # Given a picture and what its container says of it, in this order
        properties = [turned(angle)] if angle else []
        properties += [mirrored(axis)] if axis is not None else []
        expected = shown(heif(kind))
        if crop:
            properties.insert(0, cropped(72, 40, (-8, 1), (4, 1)))
            expected = expected.crop((16, 24, 88, 64))
        expected = expected.rotate(90 * angle, expand=True)
        if axis is not None:
            way = (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_LEFT_RIGHT)[axis]
            expected = expected.transpose(way)

        image = shown(with_properties(heif(kind), *properties))

        assert image.size == expected.size
        assert_near(list(image.get_flattened_data()), list(expected.get_flattened_data()), 3)  # type: ignore[arg-type]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_orientation_in_exif_has_no_effect(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        plain = saved(quarters(), "AVIF", exif=exif, quality=95)
        without_box = plain.replace(b"irot", b"free").replace(b"imir", b"free")

        assert_near(middles(shown(without_box)), QUARTERS, 8)

    @pytest.mark.parametrize("kind", ["heic", "avif"])
    @pytest.mark.parametrize("brand", [b"mif1", b"mif2", b"miaf", b"msf1", b"heic", b"heix", b"avif", b"hevc", b"avis"])
    def test_the_coding_determines_the_format_not_the_brand(self, kind: str, brand: bytes) -> None:
        data = with_brands(heif(kind), brand, brand, b"mif1")

        assert identify(data, LIMITS).format == kind
        assert_near(middles(shown(data)), QUARTERS, 8)

    def test_a_sequence_without_a_still_picture_is_unsupported(self) -> None:
        data = struct.pack(">I", 24) + b"ftypmsf1\0\0\0\0msf1hevc" + struct.pack(">I", 16) + b"moov" + bytes(8)

        with pytest.raises(UnsupportedFormat, match=r"an image sequence .* without a still picture; allowed are JPEG"):
            identify(data, LIMITS)

    @pytest.mark.parametrize(("coding", "name"), [(b"vvc1", "H.266"), (b"avc1", "H.264"), (b"j2k1", "JPEG 2000")])
    def test_another_coding_is_named(self, coding: bytes, name: str) -> None:
        with pytest.raises(UnsupportedFormat, match=f"coded as {name}; allowed are HEVC"):
            identify(HEIC.replace(b"hvc1", coding), LIMITS)

    @pytest.mark.parametrize("kind", ["heic", "avif"])
    @pytest.mark.parametrize(
        ("points", "expected"),
        [
            ((1, 13), QUARTERS),
            ((2, 2), QUARTERS),
            ((1, 1), QUARTERS),
            ((12, 13), [(240, 0, 0), (0, 163, 0), (10, 41, 228), WHITE]),
            ((9, 14), [(255, 0, 0), (0, 170, 0), (0, 36, 230), WHITE]),
            ((1, 8), [(239, 79, 79), (79, 206, 79), (79, 110, 239), (244, 244, 244)]),
        ],
    )
    def test_code_points_determine_the_colours(
        self, kind: str, points: tuple[int, int], expected: list[Colour]
    ) -> None:
        data = with_properties(heif(kind), nclx(*points), without=[b"colr"], essential=False)

        assert_near(middles(shown(data)), expected, 5)

    @pytest.mark.parametrize("kind", ["heic", "avif"])
    def test_hdr_is_shown_as_a_screen_can(self, kind: str) -> None:
        """PQ of 58 % is a page's white, 0.47 mid-grey; HLG's are 75 % and 38 %."""
        greys = {16: (0.38, 0.58, 0.7518), 18: (0.38, 0.75, 1.0)}
        for transfer, (mid, white, peak) in greys.items():
            levels = [(round(level * 255),) * 3 for level in (0, mid, white, peak)]
            data = grey_heif(kind, levels)
            data = with_properties(data, nclx(9, transfer, 9), without=[b"colr"], essential=False)

            black, grey, paper, brightest = (colour[0] for colour in middles(shown(data)))

            assert black <= 2
            assert 100 <= grey <= 135
            assert paper >= 235
            assert brightest >= 253

    @pytest.mark.parametrize("full", [True, False])
    @pytest.mark.parametrize("said_by", ["container", "coded picture"])
    def test_grey_of_avif_has_black_and_white_whatever_its_range(self, full: bool, said_by: str) -> None:
        greys = quarters(colours=[grey * 3 for grey in GREYS])
        data = saved(greys, "AVIF", quality=100, subsampling="4:0:0", range="full" if full else "limited")
        if said_by == "coded picture":
            data = with_properties(data, without=[b"colr"])

        assert_near(middles(shown(data)), [grey * 3 for grey in GREYS])

    def test_an_avif_that_is_larger_than_it_says_is_damage(self) -> None:
        data = saved(quarters((400, 300)), "AVIF")
        data = data.replace(struct.pack(">II", 400, 300), struct.pack(">II", 40, 30))

        with pytest.raises(DamagedImage):
            shown(data)

    def test_deep_and_monochrome_avif(self) -> None:
        grey: Any = pyvips.Image.new_from_memory(of("H", [v * 257 for v in interleaved(GREYS)]), *SIZE, 1, "ushort")
        for bits in (8, 10, 12):
            data = grey.copy(interpretation="grey16").heifsave_buffer(compression="av1", bitdepth=bits, Q=95)
            assert identify(bytes(data), LIMITS).bits == bits
            assert_near([c[:3] for c in middles(shown(bytes(data)))], [grey * 3 for grey in GREYS], 3)


def grey_heif(kind: str, levels: Sequence[Colour]) -> bytes:
    if kind == "heic":
        return (DATA / ("greys-pq.heic" if levels[3][0] < 255 else "greys-hlg.heic")).read_bytes()
    return saved(quarters(colours=levels), "AVIF", quality=100, subsampling="4:4:4")


class TestPng:
    @pytest.mark.parametrize(
        ("chunks", "grey"),
        [
            ([("gAMA", 45455)], 123),  # what nearly every program writes that means sRGB
            ([("gAMA", 62500)], 151),
            ([("gAMA", 100_000)], 184),
            ([("gAMA", 62500), ("sRGB", b"\0")], 123),
            ([("gAMA", 62500), ("cICP", bytes([1, 13, 0, 1]))], 123),
            ([("sRGB", b"\0"), ("cICP", bytes([1, 8, 0, 1]))], 184),
            ([("gAMA", 62500), ("cICP", bytes([1, 8, 0, 0]))], 151),
            ([("gAMA", 0)], 123),
        ],
    )
    @pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA", "I;16"])
    def test_chunks_take_precedence_as_in_browsers(self, chunks: list[tuple[str, Any]], grey: int, mode: str) -> None:
        image = Image.new("L", (40, 30), 123)
        image = Image.new("I;16", (40, 30), 123 * 257) if mode == "I;16" else image.convert(mode)
        bodies = [(k.encode(), struct.pack(">I", v) if isinstance(v, int) else v) for k, v in chunks]

        assert_near(
            [colour[:3] for colour in middles(shown(png_with(saved(image, "PNG"), *bodies)))], [(grey,) * 3] * 4, 3
        )

    def test_chromaticities_are_those_of_the_colours(self) -> None:
        """With primaries of its own the file's gamma is a power, as in Chromium, not sRGB's curve."""
        p3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
        data = png_with(saved(quarters(), "PNG"), (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", p3))

        assert_near(middles(shown(data)), [(242, 0, 0), (0, 164, 0), (2, 36, 230), (231, 231, 231)])

    @pytest.mark.parametrize(
        ("cicp", "expected"),
        [
            ((12, 13, 0, 1), [(240, 0, 0), (0, 163, 0), (12, 41, 229), WHITE]),
            ((1, 1, 0, 1), [(218, 7, 7), (7, 155, 7), (7, 28, 218), (229, 229, 229)]),
            ((9, 14, 0, 1), [(255, 0, 0), (0, 164, 0), (0, 20, 229), (229, 229, 229)]),
            ((12, 13, 0, 0), QUARTERS),
            ((2, 2, 0, 1), QUARTERS),
        ],
        ids=["Display P3", "BT.709", "BT.2020", "video's range is ignored", "unspecified"],
    )
    def test_code_points_mean_what_chromium_shows(self, cicp: tuple[int, ...], expected: list[Colour]) -> None:
        data = png_with(saved(quarters(), "PNG"), (b"cICP", bytes(cicp)))

        assert_near(middles(shown(data)), expected)

    def test_cicp_is_tone_mapped(self) -> None:
        data = png_with(saved(quarters(colours=[(148,) * 3] * 4), "PNG"), (b"cICP", bytes([9, 16, 0, 1])))

        assert min(middles(shown(data))[0]) >= 235

    @pytest.mark.parametrize("chrm", [bytes(32), struct.pack(">8I", *[30000] * 8), b"\xff" * 32, b"short"])
    def test_impossible_chromaticities_are_ignored(self, chrm: bytes) -> None:
        data = png_with(saved(quarters(), "PNG"), (b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chrm))

        assert shown(data).size == (120, 80)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_the_orientation_in_xmp_is_not_read(self, orientation: int) -> None:
        xmp = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
        data = png_with(saved(quarters(), "PNG"), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))

        assert_near(middles(shown(data)), QUARTERS)

    def test_a_transparent_colour(self) -> None:
        data = png_with(saved(quarters(), "PNG"), (b"tRNS", struct.pack(">3H", *RED)))

        assert middles(shown(data)) == [(*RED, 0), *((*colour, 255) for colour in QUARTERS[1:])]

    def test_apples_variant_is_refused_by_name(self) -> None:
        data = saved(quarters(), "PNG")

        with pytest.raises(UnsupportedFormat, match="Apple's own variant of PNG"):
            identify(data[:8] + bytes(3) + b"\4CgBI" + bytes(8) + data[8:], LIMITS)

    def test_an_animated_png_shows_its_default_picture(self) -> None:
        data = saved(quarters(), "PNG", save_all=True, append_images=[quarters(colours=[WHITE] * 4)])

        assert_near(middles(shown(data)), QUARTERS)


class TestJpeg:
    @pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000), (7, 1), (9, 17)])
    @pytest.mark.parametrize("side", [1, 8, 100, 1920])
    def test_extreme_sizes(self, size: tuple[int, int], side: int) -> None:
        _, made = rendition(saved(Image.new("RGB", size, RED), "JPEG"), side)

        scale = min(1, side / max(size))
        assert (made.width, made.height) == tuple(max(1, round(length * scale)) for length in size)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
    def test_a_missing_end_marker_is_accepted_if_all_pixels_are_there(self, options: dict[str, Any]) -> None:
        data = saved(quarters(), "JPEG", quality=95, **options)

        assert_near(middles(shown(data[:-2])), QUARTERS, 4)
        assert_near(middles(shown(data[:-1])), QUARTERS, 4)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(part=st.floats(0.05, 0.97))
    def test_a_truncated_file_is_damaged(self, options: dict[str, Any], part: float) -> None:
        # The same noise each time: a progressive file that happens to be cut between two scans has all its pixels.
        noise = Image.frombytes("RGB", (120, 90), Random(7).randbytes(120 * 90 * 3))  # noqa: S311
        data = saved(noise, "JPEG", quality=80, **options)
        scan = data.index(b"\xff\xda") + 20

        with pytest.raises(DamagedImage, match="damaged or cut short"):
            shown(data[: scan + int((len(data) - scan) * part)])

    @pytest.mark.parametrize(
        ("marker", "bits", "components", "what"),
        [
            (0xC1, 12, 3, "has 12 bits per sample; 8 are allowed"),
            (0xC3, 8, 3, "is lossless; allowed are baseline and progressive"),
            (0xC5, 8, 3, "is hierarchical; allowed are"),
            (0xC0, 8, 2, "has 2 colour components; allowed are 1, 3 and 4"),
        ],
    )
    def test_unsupported_processes_are_refused_by_name(
        self, marker: int, bits: int, components: int, what: str
    ) -> None:
        frame = bytes([0xFF, marker]) + struct.pack(">HBHHB", 8 + 3 * components, bits, 8, 8, components)
        frame += b"\1\x11\0" * components + b"\xff\xda\0\x08\1\1\0\0\x3f\0"

        with pytest.raises(UnsupportedFormat, match=f"^the JPEG file {what}"):
            identify(b"\xff\xd8" + frame, LIMITS)

    def test_ink_is_inverted_as_adobe_writes_it(self) -> None:
        inks = Image.new("CMYK", (60, 60), (0, 0, 0, 0))
        inks.paste((0, 255, 255, 0), (30, 0, 60, 60))

        white, red, _, _ = middles(shown(saved(inks, "JPEG", quality=100)))

        assert_near([white], [(255, 255, 255)])
        assert red[0] > 200 > 90 > max(red[1:])


@st.composite
def animations(draw: st.DrawFn) -> tuple[tuple[int, int], list[Frame]]:
    width, height = draw(st.integers(4, 24)), draw(st.integers(4, 24))
    frames = []
    for _ in range(draw(st.integers(1, 5))):
        left, top = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        across, down = draw(st.integers(1, width - left)), draw(st.integers(1, height - top))
        place = draw(st.sampled_from([(0, 0, width, height), (left, top, across, down)]))
        count = place[2] * place[3]
        colours = draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
        pixels = tuple((colours * count)[:count])
        frames.append(Frame(place, pixels, draw(st.integers(0, 3)), draw(st.sampled_from([None, None, 3]))))
    return (width, height), frames


def frames_of(data: bytes) -> list[Image.Image]:
    photo = identify(data, LIMITS)
    canvas = load(data, photo, Layout(*[photo.width, photo.height] * 2), animated=photo.frames > 1)
    seen = []
    for frame in canvas.frames:
        pixels = frame if frame.hasalpha() else frame.addalpha()
        seen.append(Image.frombytes("RGBA", (pixels.width, pixels.height), bytes(pixels.write_to_memory())))
    return seen


class TestGif:
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(animations())
    def test_every_frame_is_what_browsers_show(self, animation: tuple[tuple[int, int], list[Frame]]) -> None:
        size, frames = animation

        for found, expected in zip(frames_of(gif(size, frames)), shown_by_browsers(size, frames), strict=True):
            assert found.getchannel("A").tobytes() == expected.getchannel("A").tobytes()
            visible = expected.getchannel("A").point(lambda alpha: 255 if alpha else 0)
            blank = Image.new("RGBA", size)
            assert (
                Image.composite(found, blank, visible).tobytes() == Image.composite(expected, blank, visible).tobytes()
            )

    @pytest.mark.parametrize("size", [(1, 1), (3, 5), (90, 91), (3000, 2000)])
    def test_a_transparent_frame_of_any_size_can_be_added(self, size: tuple[int, int]) -> None:
        place = (0, 0, *size)
        data, shown_frames = with_transparent_canvas(gif(size, [Frame(place, (1,), 2), Frame((0, 0, 1, 1), (2,), 0)]))
        if size[0] > 100:  # more codes than a table has
            again: Any = pyvips.Image.gifload_buffer(data, page=1, fail_on="warning")
            assert again.getpoint(size[0] - 1, size[1] - 1) is not None
        assert shown_frames == [0, 2]

    @pytest.mark.parametrize(
        ("canvas", "places", "expected"),
        [
            ((10, 8), [(0, 0, 20, 16)], (20, 16)),
            ((10, 8), [(4, 4, 20, 16)], (24, 20)),
            ((10, 30), [(0, 0, 20, 16)], (20, 30)),
            ((0, 0), [(0, 0, 20, 16)], (20, 16)),
            ((10, 8), [(0, 0, 20, 16), (0, 0, 10, 8)], (20, 16)),
            ((10, 8), [(2, 2, 8, 6), (0, 0, 30, 30)], (10, 8)),
        ],
    )
    def test_the_first_frame_enlarges_a_canvas_that_is_too_small(
        self, canvas: tuple[int, int], places: list[tuple[int, int, int, int]], expected: tuple[int, int]
    ) -> None:
        data = gif(canvas, [Frame(place, (1,) * place[2] * place[3]) for place in places])

        assert {frame.size for frame in frames_of(data)} == {expected}
        assert identify(data, LIMITS).has_alpha is (places[0] != (0, 0, *expected))

    def test_a_file_that_needs_no_such_frame_is_not_copied(self) -> None:
        data = gif((40, 30), [Frame((0, 0, 40, 30), (1,), 0), Frame((0, 0, 40, 30), (2,), 1)])
        assert with_transparent_canvas(data)[0] is data

    @pytest.mark.parametrize("side", [1920, 20])
    def test_transparency_stays_in_the_animated_webp(self, side: int) -> None:
        left = tuple(3 if x < 20 else 1 for _ in range(30) for x in range(40))
        place = (0, 0, 40, 30)
        data = gif((40, 30), [Frame(place, left, 2, 3), Frame(place, tuple(p - (p == 1) for p in left), 2, 3)])

        _, made = rendition(data, side, "webp")

        image = Image.open(io.BytesIO(made.body))
        for index in range(2):
            image.seek(index)
            colours = middles(image.convert("RGBA"))
            assert [colour[3] for colour in colours] == [0, 255, 0, 255]


class TestWebp:
    @pytest.mark.parametrize("disposal", ["blend", "background"])
    def test_animations_are_blended_and_cleared_as_libwebp_does(self, disposal: str) -> None:
        first, second = Image.new("RGBA", (40, 40), (*RED, 255)), Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        second.paste((*BLUE, 128 if disposal == "blend" else 255), (10, 10, 30, 30))
        data = saved(first, "WEBP", save_all=True, append_images=[second], lossless=True, background=(0, 0, 0, 0))

        for found, expected in zip(frames_of(data), (first, second), strict=True):
            assert_near(middles(found), middles(expected), 3)

    def test_lossy_with_alpha(self) -> None:
        image = quarters()
        image.putalpha(Image.linear_gradient("L").resize((120, 80)))

        found = middles(shown(saved(image, "WEBP", quality=95, alpha_quality=100)))

        assert_near(found, middles(image), 8)


GAMMA_18 = icc_profile(ColourSpace(SRGB_PRIMARIES, Curve(1.8)), grey=False)


class TestProfiles:
    """The expected numbers are Chromium's."""

    @pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
    @pytest.mark.parametrize(("mode", "grey"), [("L", 119), ("LA", 119), ("RGB", 119)])
    def test_one_for_rgb_counts_for_grey_too(self, image_format: str, mode: str, grey: int) -> None:
        if mode == "LA" and image_format == "JPEG":
            mode = "L"
        data = saved(
            Image.new(mode, (40, 30), 100 if mode == "L" else (100,) * len(mode)), image_format, icc_profile=GAMMA_18
        )

        assert_near([colour[:3] for colour in middles(shown(data))], [(grey,) * 3] * 4)

    @pytest.mark.parametrize(
        "profile",
        [
            GAMMA_18[:300],
            b"x" * 500,
            struct.pack(">I", 99_999) + GAMMA_18[4:],
            GAMMA_18[:8] + b"\x09" + GAMMA_18[9:],
            GAMMA_18[:16] + b"XYZ " + GAMMA_18[20:],
            GAMMA_18[:16] + b"Lab " + GAMMA_18[20:],
            GAMMA_18[:20] + b"Luv " + GAMMA_18[24:],
            GAMMA_18[:36] + b"abcd" + GAMMA_18[40:],
            GAMMA_18.replace(b"rTRC", b"rTRX"),
            GAMMA_18.replace(b"para", b"xara"),
            icc_profile(ColourSpace(SRGB_PRIMARIES, Curve(1.0)), grey=True),
        ],
        ids=["cut", "garbage", "size", "version", "xyz", "lab", "connection", "signature", "tag", "curve", "grey"],
    )
    def test_a_damaged_one_or_one_for_other_colours_counts_as_none(self, profile: bytes) -> None:
        for image_format in ("PNG", "JPEG"):
            data = saved(quarters(), image_format, icc_profile=profile, quality=95)
            assert_near(middles(shown(data)), QUARTERS, 3)

    def test_inks_without_one_each_take_their_share(self) -> None:
        for profile in (b"", GAMMA_18):
            data = saved(Image.new("CMYK", (40, 30), (0, 200, 128, 20)), "JPEG", quality=100, icc_profile=profile)
            assert_near(middles(shown(data)), [(235, 51, 117)] * 4)

    def test_inks_with_alpha(self) -> None:
        data = tiff(bytes(interleaved([(0, 200, 128, 20, 90)] * 4)), SIZE, photometric=5, bits=[8] * 5, tags={338: [2]})
        assert_near(middles(shown(data)), [(235, 51, 117, 90)] * 4)


def test_the_accepted_formats_are_those_documented() -> None:
    """Every suffix and label of formats.py belongs to a file that is taken under that name."""
    assert ALLOWED == "allowed are JPEG, PNG, WebP, GIF, TIFF, AVIF and HEIC"
    for name, image_format in INPUT_FORMATS.items():
        data = HEIC if name == "heic" else saved(quarters(), name.upper())
        assert identify(data, LIMITS).format == name
        assert all(suffix == suffix.lower() for suffix in image_format.suffixes)
