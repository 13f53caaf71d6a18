"""An upload is identified by its header, or refused with a reason."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from darkroom.errors import (
    DamagedImage,
    NotAnImage,
    TooLarge,
    TooManyFrames,
    TooManyPixels,
    UnsupportedFormat,
)
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import IFDRational

from functions.process_image.photo import Limits, Photo
from functions.process_image.processing import identify

HEIC = (Path(__file__).parent / "data" / "quadrants.heic").read_bytes()
# Pillow warns of odd metadata; in production the module under test silences it, pytest undoes that for every test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = Limits(max_bytes=10_000_000, max_pixels=100_000_000, max_frames=300)
ALLOWED = "allowed are JPEG, PNG, WebP, GIF, TIFF, AVIF and HEIC"


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def animation(image_format: str, frames: int, size: tuple[int, int] = (8, 6)) -> bytes:
    first, *rest = (Image.new("RGB", size, (10 * i % 256, 100, 200 - i)) for i in range(frames))
    return encoded(first, image_format, save_all=True, append_images=rest, duration=50, loop=0)


def png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


class TestFormats:
    @pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "tiff", "avif"])
    def test_every_supported_format_is_recognised_by_its_bytes(self, name: str) -> None:
        photo = identify(encoded(picture(), name.upper()), LIMITS)

        assert (photo.format, photo.width, photo.height, photo.frames) == (name, 30, 20, 1)

    def test_heic_is_upright_as_decoded(self) -> None:
        photo = identify(HEIC, LIMITS)

        assert (photo.format, photo.width, photo.height, photo.orientation) == ("heic", 32, 48, 1)

    def test_a_phones_mpo_counts_as_jpeg(self) -> None:
        data = encoded(picture(), "MPO", save_all=True, append_images=[picture()])

        assert identify(data, LIMITS).format == "jpeg"

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (encoded(picture("RGBA"), "PNG"), True),
            (encoded(picture("RGB"), "PNG"), False),
            (encoded(picture("P"), "PNG", transparency=3), True),
            (encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 99)), "WEBP"), True),
            (encoded(picture("RGB"), "WEBP"), False),
        ],
    )
    def test_alpha_is_recognised(self, data: bytes, expected: bool) -> None:
        assert identify(data, LIMITS).has_alpha is expected

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (encoded(picture(), "JPEG", progressive=True), True),
            (encoded(picture(), "JPEG"), False),
            (encoded(picture(), "WEBP", lossless=True), True),
            (encoded(picture(), "WEBP", lossless=True, icc_profile=bytes(131)), True),  # an odd chunk before it
            (encoded(picture(), "WEBP"), False),
            (encoded(picture("RGBA"), "WEBP", exif=bytes(9)), False),
        ],
    )
    def test_pictures_decoded_whole_are_recognised(self, data: bytes, expected: bool) -> None:
        assert identify(data, LIMITS).decoded_whole is expected

    @pytest.mark.parametrize(
        ("data", "what"),
        [
            (encoded(picture(), "BMP"), "a Windows bitmap (BMP)"),
            (encoded(picture(), "ICO"), "a Windows icon (ICO)"),
            (encoded(picture(), "JPEG2000"), "a JPEG 2000 image"),
            (encoded(picture(), "PPM"), "a Netpbm image (PNM)"),
            (b"8BPS\0\1" + bytes(30), "a Photoshop document (PSD)"),
            (b"\xff\x0a\xfa\x7f", "a JPEG XL image"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
            (b"<?xml version='1.0'?>\n<!-- x -->\n<svg width='3'>", "an SVG drawing"),
            (b"II*\0\x10\0\0\0CR\x02\0" + bytes(30), "a camera's raw file"),
            (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw file"),
        ],
    )
    def test_another_format_is_named(self, data: bytes, what: str) -> None:
        with pytest.raises(UnsupportedFormat) as caught:
            identify(data, LIMITS)

        assert str(caught.value) == f"the file is {what}; {ALLOWED}"

    @pytest.mark.parametrize("tags", [{50706: b"\1\4\0\0"}])
    def test_a_raw_file_is_not_mistaken_for_its_tiff_preview(self, tags: dict[int, object]) -> None:
        data = encoded(picture(), "TIFF", tiffinfo={254: 1} | tags)

        with pytest.raises(UnsupportedFormat, match="a camera's raw file"):
            identify(data, LIMITS)

    @pytest.mark.parametrize(
        "data", [b"<html><body>404", b"BM, a letter", b"PK\3\4 a zip", b"\0\0\0\x18ftypisom\0\0\0\0"]
    )
    def test_a_file_that_is_not_an_image_is_shown_by_its_first_bytes(self, data: bytes) -> None:
        with pytest.raises(NotAnImage) as caught:
            identify(data, LIMITS)

        assert str(caught.value) == f"no image format begins with the bytes {data[:8].hex(' ')}; {ALLOWED}"

    def test_an_empty_file_is_called_empty(self) -> None:
        with pytest.raises(NotAnImage, match=r"^the file is empty \(0 bytes\)$"):
            identify(b"", LIMITS)


class TestLimits:
    def test_too_many_bytes(self) -> None:
        with pytest.raises(TooLarge, match=r"^the file has 1,001 bytes; at most 1,000 are allowed$"):
            identify(bytes(1001), Limits(1000, 1, 1))

    def test_a_bomb_without_pixels_is_refused_by_its_header(self) -> None:
        with pytest.raises(TooManyPixels) as caught:
            identify(png_claiming(50_000, 50_000), LIMITS)

        assert str(caught.value) == "50000 x 50000 are 2,500 megapixels; at most 100 are allowed"

    @pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
    def test_every_format_is_held_to_the_pixel_limit_without_decoding(
        self, image_format: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = encoded(Image.new("L", (1200, 1000)), image_format)
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))

        with pytest.raises(TooManyPixels, match=r"^1200 x 1000 are 1.2 megapixels; at most 1 are allowed$"):
            identify(data, Limits(10_000_000, 1_000_000, 1))

    @pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "AVIF"])
    def test_accepted_files_are_not_decoded(self, image_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(picture("RGB"), image_format)
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))

        assert identify(data, LIMITS).width == 30

    def test_exactly_the_limit_is_allowed(self) -> None:
        assert identify(encoded(picture(), "PNG"), Limits(10_000, 600, 1)).width == 30

    def test_a_large_picture_costs_no_memory(self) -> None:
        data = encoded(Image.new("L", (9_000, 9_000)), "PNG")
        tracemalloc.start()
        try:
            identify(data, LIMITS)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2_000_000

    @pytest.mark.parametrize("image_format", ["GIF", "WEBP"])
    def test_frames_are_counted(self, image_format: str) -> None:
        assert identify(animation(image_format, 5), LIMITS).frames == 5

    @pytest.mark.parametrize("image_format", ["GIF", "WEBP"])
    def test_too_many_frames(self, image_format: str) -> None:
        with pytest.raises(TooManyFrames, match=r"^the animation has .*4"):
            identify(animation(image_format, 5), Limits(10_000, 10_000, 4))

    @pytest.mark.parametrize("image_format", ["GIF", "WEBP"])
    def test_all_frames_count_towards_the_pixels(self, image_format: str) -> None:
        with pytest.raises(
            TooManyPixels, match=r"^100 x 100 x 5 frames are 0.05 megapixels; at most 0.04 are allowed$"
        ):
            identify(animation(image_format, 5, (100, 100)), Limits(100_000, 40_000, 10))

    @pytest.mark.parametrize("image_format", ["PNG", "TIFF", "AVIF"])
    def test_of_other_sequences_the_first_picture_counts(self, image_format: str) -> None:
        assert identify(animation(image_format, 3, (64, 64)), Limits(100_000, 4096, 1)).frames == 1


class TestDamage:
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_a_header_cut_short(self, image_format: str) -> None:
        with pytest.raises(DamagedImage, match=r"header is damaged or cut short$"):
            identify(encoded(picture(), image_format)[:20], LIMITS)

    def test_a_png_of_palette_colours_without_its_palette(self) -> None:
        data = encoded(picture("P"), "PNG")
        start = data.index(b"PLTE") - 4
        length = int.from_bytes(data[start : start + 4], "big")

        with pytest.raises(DamagedImage, match=r"header is damaged or cut short$"):
            identify(data[:start] + data[start + 12 + length :], LIMITS)

    def test_a_gif_that_ends_within_a_frame(self) -> None:
        data = animation("GIF", 5)

        with pytest.raises(DamagedImage, match=r"^the GIF file is cut short in frame 4$"):
            identify(data[: data.rindex(b"\x2c", 0, data.rindex(b"\x2c")) + 14], LIMITS)

    def test_a_gif_without_its_trailer_is_fine(self) -> None:
        assert identify(animation("GIF", 5)[:-1], LIMITS).frames == 5

    def test_a_gif_without_any_frame(self) -> None:
        with pytest.raises(DamagedImage, match=r"^the GIF file holds no frame$"):
            identify(b"GIF89a\1\0\1\0\0\0\0;", LIMITS)


def with_exif(
    base: Mapping[int, object], shot: Mapping[int, object] | None = None, gps: Mapping[int, object] | None = None
) -> bytes:
    exif = Image.Exif()
    exif.update(base)
    exif.get_ifd(0x8769).update(shot or {})
    exif.get_ifd(0x8825).update(gps or {})
    return encoded(picture(), "JPEG", exif=exif)


PARIS: dict[int, object] = {1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)}


class TestMetadata:
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_orientation_is_read_from_every_format(self, image_format: str) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6

        photo = identify(encoded(picture(), image_format, exif=exif), LIMITS)

        assert (photo.orientation, photo.width, photo.height) == (6, 30, 20)
        assert (photo.display_width, photo.display_height) == (20, 30)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_is_upright(self, value: int) -> None:
        assert identify(with_exif({0x0112: value}), LIMITS).orientation == 1

    def test_heic_has_all_metadata_of_a_phone(self) -> None:
        photo = identify(HEIC, LIMITS)

        assert photo.camera == "Apple iPhone 15"
        assert photo.taken_at == "2024-07-14T10:30:00+02:00"
        assert photo.location == (48.858222, 2.294500)

    @pytest.mark.parametrize(
        ("make", "model", "camera"),
        [
            ("Apple", "iPhone 15", "Apple iPhone 15"),
            ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
            ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
            ("  SONY \0garbage", " ILCE-7M4\0", "SONY ILCE-7M4"),
            ("Apple", None, "Apple"),
            (None, "X100", "X100"),
            ("\x01\x02", "  ", None),
            (None, None, None),
        ],
    )
    def test_camera(self, make: str | None, model: str | None, camera: str | None) -> None:
        tags = {tag: value for tag, value in ((0x010F, make), (0x0110, model)) if value is not None}

        assert identify(with_exif(tags), LIMITS).camera == camera

    @pytest.mark.parametrize(
        ("moment", "offset", "taken_at"),
        [
            ("2024:07:14 10:30:00", None, "2024-07-14T10:30:00"),
            ("2024:07:14 10:30:00", "+02:00", "2024-07-14T10:30:00+02:00"),
            ("2024:07:14 10:30:00", "rubbish", "2024-07-14T10:30:00"),
            ("2024:07:14 10:30:00", "+99:99", None),
            ("2024:02:30 10:30:00", None, None),
            ("0000:00:00 00:00:00", None, None),
            ("    :  :     :  :  ", None, None),
            ("yesterday", None, None),
        ],
    )
    def test_taken_at(self, moment: str, offset: str | None, taken_at: str | None) -> None:
        shot = {0x9003: moment} | ({0x9011: offset} if offset else {})

        assert identify(with_exif({}, shot), LIMITS).taken_at == taken_at

    def test_location(self) -> None:
        assert identify(with_exif({}, gps=PARIS), LIMITS).location == (48.858222, 2.2945)

    def test_south_and_west_are_negative(self) -> None:
        assert identify(with_exif({}, gps=PARIS | {1: "S", 3: "W"}), LIMITS).location == (-48.858222, -2.2945)

    @pytest.mark.parametrize(
        "odd",
        [
            {1: "X"},
            {2: (91.0, 0.0, 0.0)},
            {4: (181.0, 0.0, 0.0)},
            {2: (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))},
            {2: (1.0, 2.0)},
            {3: "N"},
        ],
    )
    def test_an_odd_location_is_absent(self, odd: dict[int, object]) -> None:
        assert identify(with_exif({}, gps=PARIS | odd), LIMITS).location is None

    @pytest.mark.parametrize(
        "block",
        [
            b"Exif\0\0",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 200,
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\0",  # its own sub-directory
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x88\x25\0\x02\x7f\xff\xff\xff\0\0\0\x08\0\0\0\0",
        ],
    )
    def test_malicious_exif_is_absent_and_the_photo_stands(self, block: bytes) -> None:
        photo = identify(encoded(picture(), "JPEG", exif=block), LIMITS)

        assert photo == Photo(format="jpeg", width=30, height=20)
