"""The pipeline, from an upload's bytes to its renditions. The tuples below are its specification.

The file is decoded once, to its largest rendition, and each smaller one is made from the smallest that is at least
four times as large, or from the largest. Equal renditions, as of a photo smaller than several boxes, are encoded once.
The renditions of a still are encoded in parallel, those of an animation one after the other, because each holds all its
frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pyvips

from functions.process_image.photo import Photo, Rendered, Rendition
from functions.process_image.processing.canvas import Canvas, Target
from functions.process_image.processing.colour import to_srgb
from functions.process_image.processing.crop import crop
from functions.process_image.processing.decoder_errors import translate_decoder_errors, translate_encoder_errors
from functions.process_image.processing.encode import encode
from functions.process_image.processing.flatten import flatten
from functions.process_image.processing.identify import identify
from functions.process_image.processing.layout import Layout, lay_out
from functions.process_image.processing.load import load
from functions.process_image.processing.materialize import materialize
from functions.process_image.processing.memory import estimate_memory, estimate_seconds
from functions.process_image.processing.orient import turn_upright
from functions.process_image.processing.placeholder import SIDE, dominant_colour, rgba_of, thumb_hash
from functions.process_image.processing.resize import resize
from functions.process_image.rendition_set import RenditionSet

__all__ = ["estimate_memory", "estimate_seconds", "identify", "render"]

#: From a file just opened, or from a larger size, to the whole photo at a rendition's size. Each step does nothing
#: where there is nothing to do.
SHRINK: tuple[Callable[[Canvas, Layout], Canvas], ...] = (resize, to_srgb, materialize, turn_upright, materialize)

#: From that photo to what the encoder writes.
FINISH: tuple[Callable[[Canvas, Target], Canvas], ...] = (crop, flatten)

#: How much wider and higher a size must be to make another one from it, except the largest. Measured with photos that
#: have detail in every pixel: 640 pixels made from 1280 lose up to .6 of SSIMULACRA2 against 640 made from 1920. From
#: four times on, libvips averages squares of pixels first, from the largest as well.
_LARGER = 4

# One thread per image: renditions of a photo and messages of a batch already run in parallel. No cache of operations,
# because no two photos share one.
pyvips.concurrency_set(1)
pyvips.cache_set_max(0)

#: Encoders that run in parallel; pyvips releases the interpreter's lock meanwhile. The threads start with the first
#: image, in the process that was forked for it.
_ENCODERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="encode")


def render(data: bytes, photo: Photo, rendition_set: RenditionSet, *, encoders: int = 2) -> Rendered:
    """Make all renditions of a photo.

    Parameters
    ----------
    data : bytes
        The file.
    photo : Photo
        What :func:`~functions.process_image.processing.identify.identify` said of it.
    rendition_set : RenditionSet
        What to make.
    encoders : int
        How many run in parallel: 2, or 1 to use less memory.

    Returns
    -------
    Rendered

    Raises
    ------
    DamagedImage, UnsupportedFormat
        The pixels cannot be decoded, or pixels of this kind are not supported. No error of an image library escapes.
    MemoryError
        Rendering needs more memory than the process may use.
    """
    upright = (photo.display_width, photo.display_height)
    specs = rendition_set.specs_for(photo.frames)
    targets = [Target(lay_out(upright, (s.width, s.height), s.fit), s) for s in specs]
    miniature = lay_out(upright, (SIDE, SIDE), "inside")

    distinct = {_essence(target): target for target in targets}
    moving = {key: target for key, target in distinct.items() if photo.frames > 1 and target.spec.output.is_animated}
    still = {key: target for key, target in distinct.items() if key not in moving}

    encoded: dict[_Essence, Rendition] = {}
    encoding: dict[_Essence, Future[Rendition]] = {}
    submit = _finish_now if encoders == 1 else _finish_later
    try:
        for layout, canvas in _cascade(data, photo, _layouts(moving), animated=True):
            encoded |= {key: _finish(canvas, target) for key, target in moving.items() if target.layout == layout}
        # Encoders start on the first size while the next is made.
        for layout, canvas in _cascade(data, photo, {miniature} | _layouts(still)):
            encoding |= {key: submit(canvas, target) for key, target in still.items() if target.layout == layout}
            if layout == miniature:
                with translate_encoder_errors():
                    width, height, rgba = rgba_of(canvas)
        placeholder, colour = thumb_hash(width, height, rgba), dominant_colour(rgba)
        encoded |= {key: rendition.result() for key, rendition in encoding.items()}
    finally:
        for rendition in encoding.values():
            rendition.cancel()  # what has not started, if something else failed

    renditions = tuple(replace(encoded[_essence(target)], name=target.spec.name) for target in targets)
    return Rendered(renditions, placeholder, colour)


_Essence = tuple[Layout, str, int, int | None]


def _essence(target: Target) -> _Essence:
    """Everything that a rendition's bytes depend on; two specs with equal keys are encoded once."""
    return target.layout, target.spec.format, target.spec.quality, target.spec.effort


def _layouts(targets: dict[_Essence, Target]) -> set[Layout]:
    return {target.layout for target in targets.values()}


def _cascade(
    data: bytes, photo: Photo, layouts: set[Layout], *, animated: bool = False
) -> Iterator[tuple[Layout, Canvas]]:
    """Make the whole photo at every size, largest first. Sizes that no other is made from are not kept."""
    descending = sorted(layouts, key=lambda layout: (_area(layout), layout.width), reverse=True)
    if not descending:
        return
    canvas = load(data, photo, descending[0], animated=animated)
    with translate_decoder_errors(photo, pyvips.Error):
        canvas = _through(SHRINK, canvas, descending[0])
    yield descending[0], canvas
    sources = [(descending[0], canvas)]
    for layout in descending[1:]:  # all pixels are decoded: an error from here on is not caused by the file
        while len(sources) > 1 and _area(sources[1][0]) >= _LARGER**2 * _area(layout):
            del sources[0]
        with translate_encoder_errors():
            canvas = _through(SHRINK, sources[0][1], layout)
        sources.append((layout, canvas))
        yield layout, canvas


def _area(layout: Layout) -> int:
    return layout.width * layout.height


def _finish(canvas: Canvas, target: Target) -> Rendition:
    """Make a rendition of the whole photo at its size."""
    with translate_encoder_errors():
        return encode(_through(FINISH, canvas, target), target)


def _finish_later(canvas: Canvas, target: Target) -> Future[Rendition]:
    return _ENCODERS.submit(_finish, canvas, target)


def _finish_now(canvas: Canvas, target: Target) -> Future[Rendition]:
    finished: Future[Rendition] = Future()
    finished.set_result(_finish(canvas, target))
    return finished


_Given = TypeVar("_Given", Layout, Target)


def _through(steps: tuple[Callable[[Canvas, _Given], Canvas], ...], canvas: Canvas, given: _Given) -> Canvas:
    for step in steps:
        canvas = step(canvas, given)
    return canvas
