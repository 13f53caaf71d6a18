"""Unusual pictures through the deployed stack: how each is rendered, or why it is refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pyvips
from PIL import Image, ImageDraw, ImageFilter

from local.outcomes import wait_for_tasks
from local.stack import Stack
from tests.integration.uploading import image, new_key, upload
from tests.unit.image_files import nclx, with_properties

_FILES = Path(__file__).parent / "data" / "pictures.zip"
SECONDS = 300

#: By file: its error code, and what its reason says.
REFUSED = {
    "tiff-tiled-zstd-blank.tif": ("UnsupportedFormat", "is compressed with Zstandard"),
    "tiff-strip-zstd.tif": ("UnsupportedFormat", "is compressed with Zstandard"),
    "tiff-tiled-lzw-damaged-tile.tif": ("DamagedImage", "damaged or cut short"),
    "tiff-rgb12.tif": ("UnsupportedFormat", "has 12 bits per sample"),
    "tiff-planar-tile.tif": ("UnsupportedFormat", "has tiles in separate planes"),
}
#: The record's width and height.
SIZES = {
    "alpha-logo.png": (1920, 1080),
    "deep-full-chroma.avif": (5600, 3680),
    "avif-clap.avif": (160, 120),
    "heic-clap.heic": (160, 120),
    "jpeg-1x1.jpg": (1, 1),
    "jpeg-20000x3.jpg": (20000, 3),
    "jpeg-no-eoi.jpg": (160, 100),
    "tiff-firstpage-reduced.tif": (160, 100),
    "tiff-xmp-orientation6.tif": (320, 200),
    "avif-xmp-orientation6.avif": (320, 200),
    "jpeg-xmp-orientation6.jpg": (320, 200),
}
#: Some have another of the endings and spellings that are announced.
ENDINGS = {
    "jpeg-1x1.jpg": ".Jpg",
    "jpeg-no-eoi.jpg": ".jfif",
    "jpeg-20000x3.jpg": ".Jpe",
    "heic-clap.heic": ".HIF",
    "avif-clap.avif": ".avifs",
}
#: Display P3, and BT.2020 with PQ.
COLOURS = {"heic-p3-nclx.heic": nclx(12, 13), "heic-pq-bt2020-10bit.heic": nclx(9, 16)}


def files() -> Iterator[tuple[str, bytes]]:
    """Names and contents. Those that are large, but simple, are made here."""
    with zipfile.ZipFile(_FILES) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            yield name, with_properties(data, COLOURS[name]) if name in COLOURS else data
    yield "alpha-logo.png", _logo()
    yield "deep-full-chroma.avif", _deep_full_chroma()


def _logo() -> bytes:
    """A logo with a soft shadow on nothing."""
    size = (1920, 1080)
    shadow = Image.new("L", size)
    ImageDraw.Draw(shadow).ellipse((400, 200, 1500, 950), fill=255)
    logo = Image.new("RGBA", size, (20, 90, 160, 0))
    logo.putalpha(shadow.filter(ImageFilter.GaussianBlur(60)))
    file = io.BytesIO()
    logo.save(file, "PNG")
    return file.getvalue()


def _deep_full_chroma() -> bytes:
    place: Any = pyvips.Image.xyz(5600, 3680)
    bands = [place[0] * 9, place[1] * 14, place[0] * 4 + place[1] * 6]
    picture = bands[0].bandjoin(bands[1:]).cast("ushort").copy(interpretation="rgb16")
    return bytes(picture.heifsave_buffer(compression="av1", bitdepth=10, subsample_mode="off", effort=0, Q=50))


def test_awkward_pictures_become_what_a_browser_shows_or_are_refused_with_the_reason(stack: Stack) -> None:
    # given all of them at once
    tasks, keys = {}, {}
    for name, data in files():
        keys[name] = new_key(PurePath(name).stem + ENDINGS.get(name, PurePath(name).suffix))
        _, tasks[name] = upload(stack, keys[name], data)
    # when each is at its end
    done = wait_for_tasks(stack, list(tasks.values()), seconds=SECONDS)
    # then those that have an error are refused with the reason, and the others have the pixels that a browser shows
    outcomes = {name: done.get(task_id, {}).get("outcome") for name, task_id in tasks.items()}
    assert outcomes == {name: "DeadLettered" if name in REFUSED else "Processed" for name in tasks}
    pictures: dict[str, Image.Image] = {}
    for name, key in keys.items():
        record = image(stack, key)
        if name in REFUSED:
            error_code, reason = REFUSED[name]
            assert (record["state"], record["latest_fault"]["error_code"]) == ("REJECTED", error_code), name
            assert reason in record["latest_fault"]["reason"], name
            continue
        size = (int(record["width"]), int(record["height"]))
        assert (record["state"], size) == ("READY", SIZES.get(name, size)), name
        stored = stack.s3.get_object(Bucket=stack.outputs["RenditionsBucketName"], Key=record["renditions"][0]["key"])
        pictures[name] = Image.open(io.BytesIO(stored["Body"].read()))
    for name, picture in pictures.items():
        assert max(picture.convert("RGB").tobytes()) > 90, f"{name} is dark"
    assert set(pictures["alpha-logo.png"].convert("RGBA").getchannel("A").tobytes()) >= {0, 255}
    assert set(pictures["tiff-rgb+unspecified-extra.tif"].convert("RGBA").getchannel("A").tobytes()) == {255}
    for name, white, reds in (("heic-p3-nclx.heic", 225, 3), ("heic-pq-bt2020-10bit.heic", 236, 6)):
        pixels = pictures[name].convert("RGB").tobytes()
        colours = set(zip(pixels[::3], pixels[1::3], pixels[2::3], strict=True))
        assert max(map(min, colours)) >= white, name
        assert any(red >= 235 and green <= reds and blue <= reds for red, green, blue in colours), f"{name} has no red"
