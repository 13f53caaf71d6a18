"""The pipeline: what the renditions of any photo look like.

Most pictures here are :func:`quadrants`: four flat colours, one per corner, so that a pixel in the middle of a corner
tells orientation, colours and cropping at once.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pyvips
from darkroom.errors import DamagedImage, PermanentFault
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from functions.process_image import processing
from functions.process_image.photo import Limits, Photo, Rendered, Rendition
from functions.process_image.processing import estimate_memory, identify, render
from functions.process_image.processing.canvas import Canvas
from functions.process_image.processing.layout import Layout, lay_out
from functions.process_image.processing.load import jpeg_shrink, load, webp_scale
from functions.process_image.processing.placeholder import dominant_colour, thumb_hash
from functions.process_image.rendition_set import RenditionSpec, rendition_set_of

# Pillow warns of odd metadata; in production functions.process_image.photo silences it, pytest undoes that here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

HEIC = (Path(__file__).parent / "data" / "quadrants.heic").read_bytes()
LIMITS = Limits(max_bytes=10_000_000, max_pixels=10_000_000, max_frames=100)

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 40), (40, 60, 210), (240, 220, 60)
Colour = tuple[int, ...]


def quadrants(width: int = 120, height: int = 80) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def spec(name: str = "it", width: int = 60, height: int | None = None, **options: Any) -> RenditionSpec:
    usual = {"format": "png"} | options
    usual.setdefault("effort", {"webp": 0, "avif": 0}.get(usual["format"]))
    return RenditionSpec(name=name, width=width, height=height or width, **usual)


def rendered(data: bytes, *specs: RenditionSpec) -> Rendered:
    return render(data, identify(data, LIMITS), rendition_set_of(specs or (spec(),)))


def only(data: bytes, **options: Any) -> Rendition:
    (rendition,) = rendered(data, spec(**options)).renditions
    return rendition


def opened(rendition: Rendition) -> Image.Image:
    image = Image.open(io.BytesIO(rendition.body))
    image.load()
    return image


def corners(image: Image.Image) -> list[Colour]:
    """Read the middle of each quadrant: top left, top right, bottom left, bottom right."""
    across, down = image.width // 4, image.height // 4
    places = [(across, down), (3 * across, down), (across, 3 * down), (3 * across, 3 * down)]
    return [tuple(image.getpixel(place)) for place in places]  # type: ignore[arg-type]


def assert_near(found: list[Colour], expected: list[Colour], tolerance: int = 6) -> None:
    apart = [abs(f - e) for one, other in zip(found, expected, strict=True) for f, e in zip(one, other, strict=True)]
    assert max(apart) <= tolerance, f"{found} are not {expected}"


def profile(name: str) -> bytes:
    """Take one of libvips's own profiles."""
    colour: Any = pyvips.Image.black(1, 1, bands=3)
    return bytes(colour.copy(interpretation="srgb").icc_transform(name).get("icc-profile-data"))


class TestSizes:
    """Given a photo and a box, when it is laid out, then it fits and never grows."""

    @pytest.mark.parametrize(
        ("photo", "box", "size"),
        [
            ((4000, 3000), (256, 256), (256, 192)),
            ((3000, 4000), (256, 256), (192, 256)),
            ((4000, 3000), (256, 100), (133, 100)),
            ((100, 80), (256, 256), (100, 80)),  # never enlarged
            ((256, 256), (256, 256), (256, 256)),
            ((1, 10_000), (256, 256), (1, 256)),  # at least one pixel
            ((10_000, 1), (256, 256), (256, 1)),
        ],
    )
    def test_inside(self, photo: tuple[int, int], box: tuple[int, int], size: tuple[int, int]) -> None:
        assert lay_out(photo, box, "inside") == Layout(*size, *size)

    @pytest.mark.parametrize(
        ("photo", "box", "layout"),
        [
            ((4000, 3000), (256, 256), Layout(341, 256, 256, 256)),
            ((3000, 4000), (400, 200), Layout(400, 533, 400, 200)),
            ((300, 1000), (256, 256), Layout(256, 853, 256, 256)),
            ((200, 1000), (256, 256), Layout(200, 1000, 200, 200)),  # too narrow: cropped to the shape, not enlarged
            ((200, 100), (256, 256), Layout(200, 100, 100, 100)),
            ((200, 100), (512, 256), Layout(200, 100, 200, 100)),
            ((1, 10_000), (256, 256), Layout(1, 10_000, 1, 1)),
        ],
    )
    def test_cover(self, photo: tuple[int, int], box: tuple[int, int], layout: Layout) -> None:
        assert lay_out(photo, box, "cover") == layout

    @given(
        photo=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
        box=st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
        fit=st.sampled_from(["inside", "cover"]),
    )
    def test_always_within_photo_and_box(self, photo: tuple[int, int], box: tuple[int, int], fit: str) -> None:
        layout = lay_out(photo, box, fit)

        assert 1 <= layout.crop_width <= min(layout.width, box[0])
        assert 1 <= layout.crop_height <= min(layout.height, box[1])
        assert (layout.width, layout.height) <= photo

    @pytest.mark.parametrize(("largest", "shrink"), [(1345, 1), (1344, 2), (673, 2), (672, 4), (336, 8), (64, 8)])
    def test_the_jpeg_decoder_leaves_one_and_a_half_times_the_layout(self, largest: int, shrink: int) -> None:
        photo = Photo(format="jpeg", width=4032, height=3024)

        assert jpeg_shrink(photo, lay_out((4032, 3024), (largest, largest), "inside")) == shrink

    @given(
        size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
        box=st.integers(1, 300),
        fit=st.sampled_from(["inside", "cover"]),
        orientation=st.sampled_from([1, 6]),
    )
    def test_the_webp_decoder_shrinks_to_the_layout(
        self, size: tuple[int, int], box: int, fit: str, orientation: int
    ) -> None:
        photo = Photo(format="webp", width=size[0], height=size[1], orientation=orientation)
        layout = lay_out((photo.display_width, photo.display_height), (box, box), fit)
        data = encoded(Image.new("RGB", size, GREEN), "WEBP")

        frame = load(data, photo, layout).frames[0]

        upright = (frame.height, frame.width) if orientation == 6 else (frame.width, frame.height)
        beyond = (upright[0] - layout.width, upright[1] - layout.height)
        assert min(beyond) in (-1, 0, 1)  # the other side may be longer: the layout's is rounded

    def test_the_webp_decoder_does_not_shrink_an_animation(self) -> None:
        photo = Photo(format="webp", width=800, height=600, frames=2)

        assert webp_scale(photo, lay_out((800, 600), (80, 80), "inside")) == 1

    def test_every_rendition_has_its_size_in_the_sets_order(self) -> None:
        data = encoded(quadrants(400, 300), "JPEG")

        made = rendered(data, spec("s", 40), spec("l", 200), spec("c", 80, fit="cover"), spec("all", 999)).renditions

        assert [(r.name, r.width, r.height) for r in made] == [
            ("s", 40, 30),
            ("l", 200, 150),
            ("c", 80, 80),
            ("all", 400, 300),
        ]
        assert [opened(r).size for r in made] == [(40, 30), (200, 150), (80, 80), (400, 300)]

    def test_cover_keeps_the_middle(self) -> None:
        image = Image.new("RGB", (300, 100), RED)
        image.paste(GREEN, (100, 0, 200, 100))

        assert_near(corners(opened(only(encoded(image, "PNG"), width=50, fit="cover"))), [GREEN] * 4)

    @pytest.mark.parametrize("image_format", ["webp", "jpeg", "png", "avif"])
    @pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
    def test_extreme_shapes_keep_a_pixel(self, size: tuple[int, int], image_format: str) -> None:
        rendition = only(encoded(Image.new("RGB", size, RED), "PNG"), format=image_format)

        assert opened(rendition).size == (min(size[0], 60), min(size[1], 60)) == (rendition.width, rendition.height)

    def test_equal_renditions_are_encoded_once(self) -> None:
        one, two = rendered(encoded(quadrants(), "PNG"), spec("one", 500), spec("two", 900)).renditions

        assert (one.name, two.name) == ("one", "two")
        assert one.body is two.body

    def test_a_rendition_is_made_from_the_smallest_size_that_is_four_times_as_large(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps = []

        def noted(canvas: Canvas, layout: Layout) -> Canvas:
            steps.append((canvas.frames[0].width, layout.width))
            return canvas

        monkeypatch.setattr(processing, "SHRINK", (noted, *processing.SHRINK))

        rendered(encoded(quadrants(800, 600), "PNG"), *(spec(str(side), side) for side in (300, 150, 200, 40)))

        # from the largest, if none is that large; the last is the placeholder's
        assert steps == [(800, 300), (300, 200), (300, 150), (200, 40), (150, 32)]

    def test_several_formats_are_made_from_one_decode(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loads = []

        def counted(*given: Any, **how: Any) -> Any:
            loads.append(given)
            return load(*given, **how)

        monkeypatch.setattr(processing, "load", counted)
        both = [spec(name, side, format=one) for name, side in (("s", 60), ("l", 90)) for one in ("webp", "avif")]

        made = rendered(encoded(quadrants(), "PNG"), *both).renditions

        assert [(r.name, opened(r).format) for r in made] == [
            ("s", "WEBP"),
            ("s", "AVIF"),
            ("l", "WEBP"),
            ("l", "AVIF"),
        ]
        assert len(loads) == 1


class TestFormats:
    @pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
    @pytest.mark.parametrize(
        ("target", "content_type", "extension"),
        [
            ("webp", "image/webp", "webp"),
            ("jpeg", "image/jpeg", "jpg"),
            ("png", "image/png", "png"),
            ("avif", "image/avif", "avif"),
        ],
    )
    def test_every_format_becomes_every_other(
        self, source: str, target: str, content_type: str, extension: str
    ) -> None:
        data = encoded(quadrants(), source, **({"quality": 95} if source != "GIF" else {}))

        rendition = only(data, format=target, quality=95)

        assert (rendition.content_type, rendition.extension) == (content_type, extension)
        image = opened(rendition)
        assert (image.format, image.mode) == (target.upper(), "RGB")
        assert_near(corners(image), [RED, GREEN, BLUE, YELLOW], 10)

    def test_webp_is_shrunk_while_decoding(self) -> None:
        data = encoded(quadrants(1200, 800), "WEBP", quality=95)

        assert_near(corners(opened(only(data))), [RED, GREEN, BLUE, YELLOW], 10)

    def test_the_first_picture_of_an_mpo_is_rendered(self) -> None:
        data = encoded(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (120, 80))], quality=95)

        assert_near(corners(opened(only(data))), [RED, GREEN, BLUE, YELLOW], 10)

    def test_the_first_page_of_a_tiff_is_rendered(self) -> None:
        data = encoded(quadrants(), "TIFF", save_all=True, append_images=[Image.new("RGB", (50, 50))])

        assert_near(corners(opened(only(data))), [RED, GREEN, BLUE, YELLOW])

    def test_quality_and_effort_reach_the_encoder(self) -> None:
        data = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), "PNG")

        sizes = [len(only(data, format="webp", quality=q).body) for q in (10, 90)]

        assert sizes[0] < sizes[1]


class TestOrientation:
    @pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_photos_come_out_upright(self, source: str, orientation: int) -> None:
        # Given a picture stored so that its EXIF orientation brings it upright (each turn undone by its inverse)
        undo = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }
        stored = quadrants().transpose(undo[orientation]) if orientation > 1 else quadrants()
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(stored, source, exif=exif, **({"quality": 95} if source != "PNG" else {}))

        # When it is rendered, scaled down and down again
        large, small = rendered(data, spec("large", 90), spec("small", 30)).renditions

        # Then both stand upright
        assert (opened(large).size, opened(small).size) == ((90, 60), (30, 20))
        assert_near(corners(opened(large)), [RED, GREEN, BLUE, YELLOW], 12)
        assert_near(corners(opened(small)), [RED, GREEN, BLUE, YELLOW], 12)

    def test_a_cover_box_applies_to_the_upright_photo(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(quadrants(), "PNG", exif=exif)

        assert opened(only(data, width=20, height=60, fit="cover")).size == (20, 60)

    def test_heic_is_turned_once(self) -> None:
        # stored 48 x 32, quadrants, orientation 6, in the container and in EXIF alike
        image = opened(only(HEIC))

        assert image.size == (32, 48)
        top_left, top_right, bottom_left, bottom_right = corners(image)
        assert top_left[2] > 190
        assert top_right[0] > 200
        assert min(bottom_left[:2]) > 200
        assert bottom_right[1] > 190


class TestColour:
    def test_cmyk_without_a_profile(self) -> None:
        image = Image.new("CMYK", (60, 60), (0, 255, 255, 0))

        ((red, green, blue), *_) = corners(opened(only(encoded(image, "JPEG", quality=95))))

        assert red > 180
        assert max(green, blue) < 80

    def test_cmyk_with_a_profile(self) -> None:
        muted = Image.new("RGB", (120, 80), (150, 100, 80))  # a colour that ink can show
        cmyk: Any = pyvips.Image.new_from_memory(muted.tobytes(), 120, 80, 3, "uchar")
        cmyk = cmyk.copy(interpretation="srgb").icc_transform("cmyk")
        data = bytes(cmyk.jpegsave_buffer(Q=95, keep="icc"))
        assert Image.open(io.BytesIO(data)).mode == "CMYK"

        assert_near(corners(opened(only(data))), [(150, 100, 80)] * 4)

    def test_display_p3_is_converted(self) -> None:
        p3 = encoded(Image.new("RGB", (60, 60), (200, 100, 100)), "PNG", icc_profile=profile("p3"))

        image = opened(only(p3))

        # The same light takes more red in sRGB; the numbers are LittleCMS's, by way of Pillow.
        assert_near(corners(image), [(215, 93, 97)] * 4, 2)
        assert "icc_profile" not in image.info

    def test_heic_in_display_p3_is_converted(self) -> None:
        _, red, _, _ = corners(opened(only(HEIC)))

        assert red[0] > 235  # stored as 220, and P3's red is beyond sRGB's

    def test_an_srgb_profile_changes_nothing(self) -> None:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

        image = opened(only(encoded(quadrants(), "PNG", icc_profile=srgb)))

        assert_near(corners(image), [RED, GREEN, BLUE, YELLOW], 2)

    @pytest.mark.parametrize("broken", [b"not a profile at all", profile("srgb")[:200], profile("cmyk")])
    def test_a_profile_that_does_not_fit_is_ignored(self, broken: bytes) -> None:
        image = opened(only(encoded(quadrants(), "PNG", icc_profile=broken)))

        assert_near(corners(image), [RED, GREEN, BLUE, YELLOW], 2)

    def test_16_bits_become_8(self) -> None:
        deep: Any = pyvips.Image.new_from_memory(quadrants().tobytes(), 120, 80, 3, "uchar")
        data = bytes(deep.copy(interpretation="srgb").colourspace("rgb16").pngsave_buffer())

        assert_near(corners(opened(only(data))), [RED, GREEN, BLUE, YELLOW], 1)

    def test_16_bits_with_alpha_become_8(self) -> None:
        deep: Any = pyvips.Image.black(60, 60, bands=4).linear(1, [51400, 25700, 12850, 32896])
        data = bytes(deep.cast("ushort").copy(interpretation="rgb16").pngsave_buffer())

        assert_near(corners(opened(only(data))), [(200, 100, 50, 128)] * 4, 1)

    def test_metadata_with_a_name_that_cannot_be_decoded_is_ignored(self) -> None:
        data = encoded(quadrants(), "PNG")
        body = b"tEXt" + b"\xca\xfe" + b"\0text"
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))

        assert_near(corners(opened(only(data[:33] + chunk + data[33:]))), [RED, GREEN, BLUE, YELLOW])

    def test_16_bits_with_a_profile_become_8(self) -> None:
        deep: Any = pyvips.Image.black(60, 60, bands=3).linear(1, [51400, 25700, 12850])
        deep = deep.cast("ushort").copy(interpretation="rgb16")
        deep.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile("srgb"))

        assert_near(corners(opened(only(bytes(deep.pngsave_buffer())))), [(200, 100, 50)] * 4, 2)

    @pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
    def test_greyscale(self, mode: str) -> None:
        colours: dict[str, Any] = {"L": 100, "1": 1, "LA": (100, 255), "I;16": 25700}
        grey = Image.new(mode, (60, 60), colours[mode])

        image = opened(only(encoded(grey, "PNG"), format="webp", quality=100))

        assert_near([corner[:3] for corner in corners(image)], [(255,) * 3 if mode == "1" else (100,) * 3] * 4, 2)


class TestTransparency:
    @pytest.mark.parametrize("image_format", ["webp", "png", "avif"])
    def test_is_kept(self, image_format: str) -> None:
        data = encoded(Image.new("RGBA", (120, 80), (*GREEN, 128)), "PNG")

        image = opened(only(data, format=image_format, quality=95))

        assert_near(corners(image), [(*GREEN, 128)] * 4)

    def test_becomes_white_in_jpeg(self) -> None:
        data = encoded(Image.new("RGBA", (120, 80), (0, 0, 0, 0)), "PNG")

        assert_near(corners(opened(only(data, format="jpeg"))), [(255, 255, 255)] * 4)

    def test_of_a_palette_is_kept(self) -> None:
        palette = quadrants().quantize(4)
        transparent = palette.getpixel((5, 5))

        image = opened(only(encoded(palette, "PNG", transparency=transparent)))

        assert [corner[3] for corner in corners(image)] == [0, 255, 255, 255]
        assert_near([corner[:3] for corner in corners(image)[1:]], [GREEN, BLUE, YELLOW])

    def test_invisible_colours_do_not_bleed_into_visible_ones(self) -> None:
        # Given white on the left and, invisible, black on the right
        image = Image.new("RGBA", (121, 80), (255, 255, 255, 255))
        image.paste((0, 0, 0, 0), (60, 0, 121, 80))

        # When it is scaled down across the edge
        pixels = opened(only(encoded(image, "PNG"), width=30)).get_flattened_data()

        # Then whatever can be seen is white
        assert all(min(red, green, blue) >= 250 for red, green, blue, alpha in pixels if alpha > 8)  # type: ignore[misc]


class TestAnimation:
    DELAYS = (50, 70, 120)

    def frames(self) -> list[Image.Image]:
        return [Image.new("RGB", (80, 60), colour) for colour in (RED, GREEN, BLUE)]

    def animation(self, image_format: str, **options: object) -> bytes:
        first, *rest = self.frames()
        return encoded(
            first, image_format, save_all=True, append_images=rest, duration=list(self.DELAYS), loop=3, **options
        )

    @pytest.mark.parametrize("source", ["GIF", "WEBP"])
    def test_stays_in_webp(self, source: str) -> None:
        large, small = rendered(
            self.animation(source, quality=95), spec("l", 70, format="webp"), spec("s", 40, format="webp")
        ).renditions

        assert (large.frames, small.frames, small.width, small.height) == (3, 3, 40, 30)
        for rendition in (large, small):
            image = Image.open(io.BytesIO(rendition.body))
            assert getattr(image, "n_frames", 1) == 3
            seen, delays = [], []
            for index in range(3):
                image.seek(index)
                image.load()
                seen.append(corners(image.convert("RGB"))[0])
                delays.append(image.info["duration"])
            assert_near(seen, [RED, GREEN, BLUE], 12)
            assert tuple(delays) == self.DELAYS
            # A GIF counts how often it is repeated, a WebP how often it is played.
            assert image.info["loop"] == (4 if source == "GIF" else 3)

    def test_frames_do_not_bleed_into_each_other(self) -> None:
        image = Image.open(io.BytesIO(only(self.animation("GIF"), format="webp", quality=100, width=20).body))
        image.seek(1)

        edges = [image.convert("RGB").getpixel((10, row)) for row in (0, image.height - 1)]

        assert_near(edges, [GREEN, GREEN], 6)  # type: ignore[arg-type]

    @pytest.mark.parametrize("target", ["jpeg", "png", "avif"])
    def test_other_formats_take_the_first_frame(self, target: str) -> None:
        rendition = only(self.animation("GIF"), format=target, quality=95)

        assert rendition.frames == 1
        assert_near(corners(opened(rendition).convert("RGB")), [RED] * 4, 10)

    def test_still_and_animated_renditions_mix(self) -> None:
        made = rendered(self.animation("WEBP"), spec("a", 40, format="webp"), spec("b", 40)).renditions

        assert [(r.name, r.frames) for r in made] == [("a", 3), ("b", 1)]

    def test_is_turned_upright_frame_by_frame(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6

        rendition = only(self.animation("WEBP", exif=exif.tobytes(), quality=95), format="webp")

        image = Image.open(io.BytesIO(rendition.body))
        assert (image.size, getattr(image, "n_frames", 1)) == ((45, 60), 3)

    def test_can_be_cropped(self) -> None:
        rendition = only(self.animation("GIF"), format="webp", width=30, fit="cover")

        assert (rendition.width, rendition.height, rendition.frames) == (30, 30, 3)

    def test_placeholders_show_the_first_frame(self) -> None:
        made = rendered(self.animation("GIF"), spec(format="webp"))

        assert made.dominant_colour == "#dc1e1e"


class TestMetadata:
    SECRET = b"Villa Incognito"

    @pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("target", ["webp", "jpeg", "png", "avif"])
    def test_nothing_remains(self, source: str, target: str) -> None:
        # Given a photo full of metadata
        secret = self.SECRET.decode()
        exif = Image.Exif()
        exif[0x010E] = secret
        exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
        options: dict[str, Any] = {"exif": exif.tobytes(), "icc_profile": profile("p3")}
        xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + self.SECRET + b"</x:xmpmeta>"
        if source in ("JPEG", "WEBP", "AVIF"):
            options["xmp"] = xmp
        if source == "JPEG":
            options["comment"] = self.SECRET
        if source == "PNG":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_text("Comment", secret)
        data = encoded(quadrants(), source, **options)
        assert self.SECRET in data
        assert identify(data, LIMITS).location is not None

        # When it is rendered
        rendition = only(data, format=target)

        # Then none of it is left
        image = opened(rendition)
        assert self.SECRET not in rendition.body
        assert dict(image.getexif()) == {}
        assert not {"exif", "xmp", "XML:com.adobe.xmp", "icc_profile", "comment", "Comment"} & image.info.keys()

    def test_nothing_remains_in_an_animation(self) -> None:
        exif = Image.Exif()
        exif[0x010E] = self.SECRET.decode()
        data = encoded(
            quadrants(), "WEBP", save_all=True, append_images=[Image.new("RGB", (120, 80))], exif=exif.tobytes()
        )
        assert self.SECRET in data

        assert self.SECRET not in only(data, format="webp").body


class TestDamage:
    NOISE = Image.effect_noise((200, 150), 60).convert("RGB")

    @pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_a_file_cut_in_half(self, source: str) -> None:
        data = encoded(self.NOISE, source)

        with pytest.raises(DamagedImage, match="damaged or cut short"):
            rendered(data[: len(data) // 2])

    def test_a_heic_cut_in_half(self) -> None:
        with pytest.raises(DamagedImage, match="damaged or cut short"):
            rendered(HEIC[:-200])

    def test_a_progressive_jpeg_cut_in_half(self) -> None:
        data = encoded(self.NOISE, "JPEG", progressive=True)

        with pytest.raises(
            DamagedImage, match=r"^the JPEG file is damaged or cut short: its pixels cannot be decoded$"
        ):
            rendered(data[: len(data) // 2])

    def test_pixels_that_cannot_be_unpacked(self) -> None:
        data = bytearray(encoded(self.NOISE, "PNG"))
        data[len(data) // 2] ^= 0xFF

        with pytest.raises(DamagedImage, match=r"^the PNG file is damaged or cut short: its pixels cannot be decoded$"):
            rendered(bytes(data))

    def test_an_animation_broken_in_a_later_frame(self) -> None:
        data = encoded(self.NOISE, "WEBP", save_all=True, append_images=[self.NOISE.rotate(90)])

        with pytest.raises(DamagedImage):
            rendered(data[:-2000], spec(format="webp"))

    @pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "GIF"])
    def test_bytes_after_the_picture_are_ignored(self, source: str) -> None:
        assert only(encoded(quadrants(), source) + b"appended by some app").width == 60

    def test_bytes_between_jpeg_markers_are_ignored(self) -> None:
        data = encoded(quadrants(), "JPEG")
        scan = data.index(b"\xff\xda")

        assert only(data[:scan] + bytes(5) + data[scan:]).width == 60

    def test_a_picture_larger_than_its_header_is_refused(self) -> None:
        data = encoded(quadrants(), "PNG")

        with pytest.raises(DamagedImage, match="the picture itself 120 x 80"):
            render(data, Photo(format="png", width=12, height=8), rendition_set_of((spec(),)))

    def test_an_interlaced_png_with_a_false_height_is_refused(self) -> None:
        data = bytearray(encoded(quadrants(), "PNG"))
        data[20:24] = struct.pack(">I", 2000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))

        with pytest.raises(DamagedImage):
            rendered(bytes(data))


@cache
def small_files() -> dict[str, bytes]:
    image = quadrants(40, 30)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    moving: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(180)], "duration": 50}
    return {
        "jpeg": encoded(image, "JPEG", exif=exif, icc_profile=profile("p3")),
        "progressive jpeg": encoded(image, "JPEG", progressive=True),
        "cmyk jpeg": encoded(image.convert("CMYK"), "JPEG"),
        "png": encoded(image.convert("RGBA"), "PNG", exif=exif),
        "palette png": encoded(image.quantize(4), "PNG", transparency=1),
        "webp": encoded(image, "WEBP", exif=exif),
        "animated webp": encoded(image, "WEBP", **moving),
        "gif": encoded(image, "GIF", **moving),
        "tiff": encoded(image, "TIFF", compression="tiff_lzw", exif=exif),
        "jpeg tiff": encoded(image, "TIFF", compression="jpeg"),
        "avif": encoded(image, "AVIF"),
        "heic": HEIC,
    }


class TestAnything:
    @pytest.mark.parametrize("name", small_files())
    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(choices=st.data())
    def test_mutated_files_are_rendered_or_refused(self, name: str, choices: st.DataObject) -> None:
        """Given a real file with bytes changed, cut or doubled, then it has renditions or a reason why not."""
        data = bytearray(small_files()[name])
        for _ in range(choices.draw(st.integers(1, 4))):
            at = choices.draw(st.integers(0, len(data) - 1))
            match choices.draw(st.sampled_from(["change", "flip", "cut", "double"])):
                case "change":
                    data[at] = choices.draw(st.integers(0, 255))
                case "flip":
                    data[at] ^= 1 << choices.draw(st.integers(0, 7))
                case "cut":
                    del data[at : at + choices.draw(st.integers(1, 50))]
                case "double":
                    data[at:at] = data[at : at + choices.draw(st.integers(1, 50))]
            if not data:
                break
        try:
            made = rendered(bytes(data), spec("a", 16, format="webp"), spec("b", 8, format="jpeg"))
        except PermanentFault:
            return
        assert [r.name for r in made.renditions] == ["a", "b"]

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.binary(max_size=200))
    def test_random_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(PermanentFault):
            identify(data, LIMITS)


class TestPlaceholder:
    @pytest.mark.parametrize(
        ("width", "height", "pixel", "expected"),
        [
            # Made with thumbhash 0.1.1, the reference implementation: https://github.com/evanw/thumbhash
            (40, 30, lambda x, y: (x * 6, y * 8, x * y, 255), "XAgOHZhgdndwh4h2iGiIh/GxD/eI"),
            (30, 40, lambda x, y: (x * 6, y * 5, x * 3 + y, x * y), "F+mFDAgWsBiKqHiImQipkX8GMgR1KJeDBA=="),
            (1, 1, lambda x, y: (10, 20, 30, 255), "hecJJwQI9wiIh4hwj3CI+AiIcH/494cP"),
            (5, 3, lambda x, y: (9, 9, 9, 0), "AAiCA4AAAAAAAAAAAAAAAAAAAAAAAAA="),
            (100, 1, lambda x, y: (x, 255 - x, x * 2, 255), "3cg4Uc6Hh4eIiAh4f4hid/g="),
            (1, 100, lambda x, y: (y, 255 - y, y * 2, 255), "3cg4UU4Ih4h4h4iHKI93b3g="),
        ],
    )
    def test_is_a_thumb_hash(self, width: int, height: int, pixel: Any, expected: str) -> None:
        rgba = bytes(value % 256 for y in range(height) for x in range(width) for value in pixel(x, y))

        assert thumb_hash(width, height, rgba) == expected

    def test_is_the_same_for_every_rendition_set(self) -> None:
        data = encoded(quadrants(), "PNG")

        one, two = rendered(data, spec(width=8)), rendered(data, spec(width=120))

        assert one.placeholder == two.placeholder

    def test_the_dominant_colour_is_the_most_common_one(self) -> None:
        image = Image.new("RGB", (100, 100), GREEN)
        image.paste(RED, (0, 0, 100, 30))

        assert rendered(encoded(image, "PNG")).dominant_colour == "#1ec828"

    def test_invisible_pixels_do_not_affect_the_dominant_colour(self) -> None:
        assert dominant_colour(bytes([9, 9, 9, 0] * 9 + [200, 100, 0, 255])) == "#c86400"
        assert dominant_colour(bytes([9, 9, 9, 0] * 9)) == "#ffffff"


class TestMemory:
    SET = rendition_set_of((spec("s", 640, format="webp"), spec("l", 1920, format="webp")))

    def estimate(self, **photo: Any) -> int:
        usual: dict[str, Any] = {"format": "jpeg", "width": 4032, "height": 3024}
        return estimate_memory(Photo(**(usual | photo)), self.SET)

    def test_a_jpeg_streams_however_large(self) -> None:
        assert self.estimate(width=12_000, height=9_000) < 2 * self.estimate()

    @pytest.mark.parametrize(
        "needs_more",
        [
            {"decoded_whole": True, "full_chroma": True},
            {"format": "webp", "decoded_whole": True},
            {"format": "avif"},
            {"format": "heic"},
        ],
    )
    def test_other_files_take_memory_in_proportion_to_their_pixels(self, needs_more: dict[str, Any]) -> None:
        assert self.estimate(**needs_more) > self.estimate() + 4032 * 3024 * 2

    def test_a_lossy_webp_streams_except_for_its_alpha(self) -> None:
        large = {"format": "webp", "width": 8064, "height": 6048}

        assert self.estimate(**large) < 2 * self.estimate()
        assert self.estimate(**large, has_alpha=True) > self.estimate(**large) + 5 * 8064 * 6048

    def test_an_animation_takes_all_its_frames(self) -> None:
        still = self.estimate(format="gif", width=800, height=600)

        assert self.estimate(format="gif", width=800, height=600, frames=60) > still + 59 * 800 * 600 * 3
