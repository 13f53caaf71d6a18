"""Files that are almost images, through the real render server: rendered, or refused with a reason.

Within the time and the memory that an image may take. The kernel reports the peak of its process, which
knows of all descendants that have ended the one that took most.
"""

from __future__ import annotations

import io
import resource
import sys
from collections import Counter
from contextlib import closing
from random import Random
from time import time

from darkroom.deadline import Deadline
from darkroom.errors import DecoderCrashed, DecoderOutOfMemory, DecoderTooSlow, PermanentFault
from PIL import Image

from functions.process_image.admission import Admission
from functions.process_image.photo import Limits, Photo, Rendered
from functions.process_image.render_server import RenderServer
from functions.process_image.rendition_set import RenditionSpec, rendition_set_of
from tests.fuzz.cases import Block, Case, Hangs, Report, told, within
from tests.fuzz.mutations import almost_an_image

KIND = "images"

_LIMITS = Limits(max_bytes=1_500_000, max_pixels=5_000_000, max_frames=50)
_RENDITION_SET = rendition_set_of(
    (
        RenditionSpec("large", 200, 200, format="webp", effort=0),
        RenditionSpec("square", 24, 24, fit="cover", format="jpeg"),
        RenditionSpec("small", 32, 32, format="png"),
        RenditionSpec("tiny", 16, 16, format="avif", effort=0),
    )
)
_BUDGET = 128 * 2**20
# The process's ceiling above that, and pages of the libraries' code, which the ceiling leaves out.
_MOST_RESIDENT = _BUDGET + 160 * 2**20 + 80 * 2**20
_CPU_SECONDS = 4
# By the clock. CPU time is over sooner, unless a process waits for something that never comes.
_SECONDS = 100


def try_images(block: Block) -> Report:
    """Try a block in this process, which must have had no other children."""
    outcomes: Counter[str] = Counter()
    findings: list[Case] = []
    curious: list[Case] = []
    with closing(RenderServer(_LIMITS, _RENDITION_SET, Admission(_BUDGET, vcpus=2), _CPU_SECONDS)) as server:
        for number in range(block.number, block.number + block.count):
            data = almost_an_image(Random(f"{block.seed}/{number}"))
            name = f"{KIND}/{number}"
            try:
                with within(_SECONDS + 5):
                    _check(*server.render(data, Deadline(time() + _SECONDS)))
                outcomes["rendered"] += 1
            except PermanentFault as fault:
                outcomes[fault.error_code] += 1
                if not str(fault):
                    findings.append(Case(name, f"{fault.error_code} without a reason", data))
                if isinstance(fault, DecoderCrashed | DecoderOutOfMemory | DecoderTooSlow):
                    curious.append(Case(name, f"{fault.error_code}: {fault}", data))
            except (Exception, Hangs) as error:  # noqa: BLE001 # that is what is looked for
                outcomes[type(error).__name__] += 1
                findings.append(Case(name, told(error), data))
    if excess := _memory_fault():
        findings.append(Case(f"{KIND}/{block.number}", f"one of {block.count} images: {excess}", b""))
    return Report(block.count, outcomes, tuple(findings), tuple(curious))


def _check(photo: Photo, rendered: Rendered) -> None:
    """What is published is what the record says."""
    assert photo.width * photo.height * photo.frames <= _LIMITS.max_pixels
    for spec, rendition in zip(_RENDITION_SET.specs, rendered.renditions, strict=True):
        with Image.open(io.BytesIO(rendition.body), formats=[spec.format.upper()]) as image:
            assert image.size == (rendition.width, rendition.height)


def _memory_fault() -> str | None:
    if sys.platform != "linux":  # others keep no ceiling
        return None
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    if most <= _MOST_RESIDENT:
        return None
    return f"its process took {most // 2**20} MB; {_MOST_RESIDENT // 2**20} MB are the most that any may take"
