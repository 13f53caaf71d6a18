"""Ten images in one batch, of every format of uploads, and with every format and effort of the renditions.

How many receives until all are done?

    python -m benchmarks.rendering.ten_at_once [WORD ...]

Each round is a receive: ten threads render what is left in 50 s, with the render server and the admission of a function
with 1769 MB and one vCPU. One core of this machine is that vCPU, so it must be free. With words, only the cases whose
names have all of them are measured; the others keep their last results.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, time
from typing import Any

import pyvips
from darkroom.deadline import Deadline
from darkroom.errors import NotBegun, PermanentFault

from benchmarks.rendering.baselines import LIMITS
from benchmarks.rendering.measurements import load, save
from benchmarks.rendering.photos import inputs, panning_gif
from benchmarks.rendering.processes import cores, pinned
from benchmarks.rendering.rendition_sets import WEBP
from functions.process_image.admission import Admission
from functions.process_image.formats import INPUT_FORMATS, OUTPUT_FORMATS
from functions.process_image.processing import estimate_seconds, identify
from functions.process_image.render_server import RenderServer
from functions.process_image.rendition_set import RenditionSet, rendition_set_of
from functions.process_image.wiring import cpu_seconds

_MEMORY_MB, _CAPACITY, _SECONDS = 1769, (1769 - 200) * 2**20 * 3 // 4, 50
_IMAGES = 10
#: The longer side of the small photo: the slowest effort takes some seconds for it.
_SMALL = 320
#: More than any case needs, so that a defect ends, too.
_MOST_RECEIVES = 30


@dataclass(frozen=True)
class Case:
    """Ten copies of a file, and what to render of each."""

    name: str
    data: bytes
    renditions: RenditionSet


def cases() -> Iterator[Case]:
    """An animation and large photos with the default renditions; a small photo with every other format and effort."""
    yield Case("640 x 480 x 150 gif, default", panning_gif(150), WEBP)
    large = next(photo.path for photo in inputs() if photo.name == "12mp.jpg")
    decoded = pyvips.Image.new_from_file(str(large))
    files: dict[str, Callable[[], bytes]] = {
        "jpeg": large.read_bytes,
        "png": large.with_suffix(".png").read_bytes,
        "webp": large.with_suffix(".webp").read_bytes,
        "gif": partial(decoded.gifsave_buffer, effort=1),
        "tiff": partial(decoded.tiffsave_buffer, compression="lzw"),
        "avif": partial(decoded.heifsave_buffer, compression="av1", effort=0),
        "heic": large.with_suffix(".heic").read_bytes,
    }
    for name in INPUT_FORMATS:
        yield Case(f"12 MP {name}, default", files[name](), WEBP)
    small = decoded.thumbnail_image(_SMALL).jpegsave_buffer(Q=90)
    for output in OUTPUT_FORMATS.values():
        for effort in range(output.efforts[0] + 1) if output.efforts else [None]:
            quality = output.usual_quality or WEBP.specs[0].quality
            specs = tuple(replace(spec, format=output.name, effort=effort, quality=quality) for spec in WEBP.specs)
            name = f"{_SMALL} pixels jpeg, {output.name}" + ("" if effort is None else f" effort {effort}")
            yield Case(name, small, rendition_set_of(specs))


def measure(case: Case) -> dict[str, Any]:
    """Render ten at once, receive by receive.

    Returns
    -------
    dict
        ``ready`` of ``images``, ``receives``, most ``attempts`` of an image, ``seconds`` of all receives, ``estimate``
        of an image, and the last ``fault`` of those that were refused.
    """
    estimate = estimate_seconds(identify(case.data, LIMITS), case.renditions)
    left = list(range(_IMAGES))
    attempts, ready, receives, fault = Counter[int](), 0, 0, ""
    began = monotonic()
    admission = Admission(_CAPACITY, _MEMORY_MB / 1769)
    with (
        closing(RenderServer(LIMITS, case.renditions, admission, cpu_seconds(_MEMORY_MB))) as server,
        ThreadPoolExecutor(_IMAGES) as threads,
    ):
        server.wait_until_ready()
        while left and receives < _MOST_RECEIVES:
            receives += 1
            deadline = Deadline(time() + _SECONDS)
            running = {number: threads.submit(server.render, case.data, deadline) for number in left}
            faults = {number: rendered.exception() for number, rendered in running.items()}
            attempts.update(number for number, found in faults.items() if not isinstance(found, NotBegun))
            ready += sum(found is None for found in faults.values())
            fault = next((type(f).__name__ for f in faults.values() if isinstance(f, PermanentFault)), fault)
            left = [n for n, found in faults.items() if found is not None and not isinstance(found, PermanentFault)]
    return {
        "images": _IMAGES,
        "ready": ready,
        "receives": receives,
        "attempts": max(attempts.values(), default=0),
        "seconds": monotonic() - began,
        "estimate": estimate,
        "fault": fault,
    }


def main() -> None:
    """Measure, and save after each case."""
    rows = (load("ten_at_once") or {"rows": {}})["rows"]
    every = list(cases())
    chosen = [case for case in every if all(word in case.name.split() for word in sys.argv[1:])]
    for number, case in enumerate(chosen, start=1):
        with pinned({cores()[-1]}):
            row = rows[case.name] = measure(case)
        print(
            f"{number}/{len(chosen)} {case.name}: {row['ready']} of {row['images']} ready after {row['receives']}"
            f" receives, {row['attempts']} attempts, {row['seconds']:.0f} s {row['fault']}",
            flush=True,
        )
        save("ten_at_once", {"rows": {each.name: rows[each.name] for each in every if each.name in rows}})


if __name__ == "__main__":
    main()
