"""The tools that are compared: each makes the renditions of a set from a file.

The Python ones are functions here; sharp's are in ``sharp/worker.mjs``. All write WebP with effort 4 and progressive
JPEG with optimised tables, at the set's quality, in sRGB, upright and without metadata.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pi_heif
from PIL import Image, ImageCms, ImageOps

from benchmarks.rendering.rendition_sets import SETS
from functions.process_image.photo import Limits
from functions.process_image.processing import identify, render
from functions.process_image.processing.canvas import Canvas, Target
from functions.process_image.processing.colour import to_srgb
from functions.process_image.processing.encode import encode
from functions.process_image.processing.layout import lay_out
from functions.process_image.processing.load import load
from functions.process_image.processing.orient import turn_upright
from functions.process_image.processing.resize import resize
from functions.process_image.rendition_set import RenditionSpec

#: The template's limits with more bytes, or the PNG would be refused.
LIMITS = Limits(max_bytes=50_000_000, max_pixels=100_000_000, max_frames=300)

pi_heif.register_heif_opener()  # for the baselines and the reference

_LANCZOS = Image.Resampling.LANCZOS


def ours(path: Path, rendition_set: str) -> list[bytes]:
    """Darkroom's rendering, from bytes to bytes."""
    data = path.read_bytes()
    rendered = render(data, identify(data, LIMITS), SETS[rendition_set])
    return [rendition.body for rendition in rendered.renditions]


def baseline(path: Path, rendition_set: str) -> list[bytes]:
    """The baseline: for every size, open the file, decode it in full and call `thumbnail`."""
    return usual_renditions(path.read_bytes(), rendition_set)


def usual_renditions(data: bytes, rendition_set: str) -> list[bytes]:
    """The baseline from bytes, as its handler has them."""
    made = []
    for spec in SETS[rendition_set].specs:
        with Image.open(io.BytesIO(data)) as opened:
            profile = opened.info.get("icc_profile")
            photo = ImageOps.exif_transpose(opened)
            photo.thumbnail((spec.width, spec.height), _LANCZOS)
            made.append(_encoded(_in_srgb(photo, profile), spec))
    return made


def pillow_done_well(path: Path, rendition_set: str) -> list[bytes]:
    """Pillow with the decoder's shrinking, one decode, and each size from the next larger one."""
    specs = sorted(SETS[rendition_set].specs, key=lambda spec: -spec.width)
    made: dict[str, bytes] = {}
    with Image.open(path) as opened:
        width, height = _fitted(opened, specs[0])
        opened.draft("RGB", (width, height))
        opened.load()
        profile, exif = opened.info.get("icc_profile"), opened.getexif()
        photo: Image.Image = opened
        for spec in specs:
            photo = photo.resize(_fitted(photo, spec), _LANCZOS)
            if spec is specs[0]:
                photo.info["exif"] = exif.tobytes()
                photo = _in_srgb(ImageOps.exif_transpose(photo), profile)
            made[spec.name] = _encoded(photo, spec)
    return [made[spec.name] for spec in SETS[rendition_set].specs]


def vipsthumbnail(path: Path, rendition_set: str) -> list[bytes]:
    """The command of libvips, once per size, its start included."""
    with Image.open(path) as opened:
        profile = ["--export-profile", "srgb"] if "icc_profile" in opened.info else []
    with TemporaryDirectory() as folder:
        made = []
        for spec in SETS[rendition_set].specs:
            out = Path(folder) / f"{spec.name}.{spec.extension}"
            options = (
                f"Q={spec.quality},effort={spec.effort}" if spec.format == "webp" else _JPEG_OPTIONS % spec.quality
            )
            size = f"{spec.width}x{spec.height}>"
            command = ["vipsthumbnail", str(path), *profile, "--size", size, "--output", f"{out}[{options},strip]"]
            subprocess.run(  # noqa: S603
                command, check=True, capture_output=True, env={"VIPS_CONCURRENCY": "1", "PATH": _PATH}
            )
            made.append(out.read_bytes())
    return made


def parts_alone(path: Path, rendition_set: str) -> list[bytes]:
    """The least work: libvips decoding, then resizing, then encoding, each from memory to memory."""
    data, made = path.read_bytes(), {}
    photo = identify(data, LIMITS)
    upright = (photo.display_width, photo.display_height)
    sizes: list[Canvas] = []
    for spec in sorted(SETS[rendition_set].specs, key=lambda spec: -spec.width):
        layout = lay_out(upright, (spec.width, spec.height), "inside")
        if not sizes:
            canvas = _in_memory(resize(_in_memory(load(data, photo, layout)), layout))
            canvas = _in_memory(turn_upright(_in_memory(to_srgb(canvas, layout)), layout))
        else:  # from the same size as Darkroom makes it
            source = next((one for one in reversed(sizes) if one.frames[0].width >= 4 * layout.width), sizes[0])
            canvas = _in_memory(resize(source, layout))
        sizes.append(canvas)
        made[spec.name] = encode(canvas, Target(layout, spec)).body
    return [made[spec.name] for spec in SETS[rendition_set].specs]


def _in_memory(canvas: Canvas) -> Canvas:
    return replace(canvas, frames=tuple(frame.copy_memory() for frame in canvas.frames))


_PATH = "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin"
_JPEG_OPTIONS = "Q=%d,optimize_coding,interlace"

#: The baselines that a Python worker runs.
BASELINES: dict[str, Callable[[Path, str], list[bytes]]] = {
    "ours": ours,
    "baseline": baseline,
    "Pillow done well": pillow_done_well,
    "vipsthumbnail": vipsthumbnail,
    "parts alone": parts_alone,
}


def _fitted(photo: Image.Image, spec: RenditionSpec) -> tuple[int, int]:
    """The size of a whole photo in a spec's box, never enlarged."""
    scale = min(1.0, spec.width / photo.width, spec.height / photo.height)
    return round(photo.width * scale), round(photo.height * scale)


def _in_srgb(photo: Image.Image, profile: bytes | None) -> Image.Image:
    photo = photo if photo.mode == "RGB" else photo.convert("RGB")
    if profile is None:
        return photo
    embedded: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(photo, embedded, ImageCms.createProfile("sRGB"))
    return photo if converted is None else converted


def _encoded(photo: Image.Image, spec: RenditionSpec) -> bytes:
    buffer = io.BytesIO()
    if spec.format == "webp":
        photo.save(buffer, "WEBP", quality=spec.quality, method=4, exif=b"", icc_profile=b"")
    else:
        photo.save(buffer, "JPEG", quality=spec.quality, progressive=True, optimize=True, exif=b"", icc_profile=b"")
    return buffer.getvalue()


def lanczos_reference(path: Path, spec: RenditionSpec) -> Image.Image:
    """The reference for SSIM: all pixels decoded, in sRGB, upright, and scaled by Pillow's Lanczos."""
    with Image.open(path) as opened:
        photo = _in_srgb(ImageOps.exif_transpose(opened), opened.info.get("icc_profile"))
    return photo.resize(_fitted(photo, spec), _LANCZOS)
