"""How much memory rendering a photo takes at its peak, so that a batch can stay inside its function's."""

from __future__ import annotations

from functions.process_image.formats import INPUT_FORMATS
from functions.process_image.photo import Photo
from functions.process_image.processing.layout import Layout, lay_out
from functions.process_image.processing.load import webp_scale
from functions.process_image.rendition_set import RenditionSet

_MB = 1_000_000

#: Libraries' tables, buffers of encoders, the miniature.
_FIXED = 24 * _MB

#: Bytes per pixel of width: the lines under way between decoder and resizer. Alpha is premultiplied in floats.
_LINES, _LINES_WITH_ALPHA = 4_000, 20_000

#: Beside these, of WebP: bytes per pixel of what the decoder shrinks to, and per stored pixel for the alpha, which it
#: decodes before that, and for the two canvases of an animation.
_WEBP_SCALED, _WEBP_ALPHA, _WEBP_ANIMATED = 6, 5, 10

#: Bytes per rendition pixel as it stands in memory.
_CANVAS = 4


def estimate_memory(photo: Photo, rendition_set: RenditionSet) -> int:
    """Estimate what :func:`~functions.process_image.processing.render` takes at most, beside the file's own bytes.

    Parameters
    ----------
    photo : Photo
        What to render.
    rendition_set : RenditionSet
        What to make of it.

    Returns
    -------
    int
        Bytes, rather too many than too few.

    Notes
    -----
    Measured growth of the resident set by ``render`` in a fresh process, and this estimate, in MB; libvips 8.18.7,
    the default rendition set:

    =============================  ========  ========
    photo                          measured  estimate
    =============================  ========  ========
    12 MP JPEG                           55        97
    12 MP JPEG, rotated                  60        97
    12 MP JPEG, progressive              61       177
    49 MP JPEG, progressive 4:4:4       305       431
    12 MP PNG                            54        97
    12 MP PNG, interlaced                54       195
    12 MP PNG, alpha                    100       162
    12 MP PNG, 16 bits                   65        97
    12 MP TIFF                           52       195
    12 MP WebP                           43       114
    49 MP WebP                           43       130
    24 MP WebP, 1500 x 16000, alpha     122       183
    49 MP WebP, lossless                207       374
    2 frames of that                    303       567
    12 MP HEIC                           96       171
    49 MP HEIC                          233       406
    12 MP AVIF                          191       293
    49 MP AVIF                          725       894
    GIF, 60 frames of 800 x 600         154       233
    WebP, 60 frames of 800 x 600        177       229
    =============================  ========  ========
    """
    upright = (photo.display_width, photo.display_height)
    targets = [(lay_out(upright, (s.width, s.height), s.fit), s.output.encoder_bytes) for s in rendition_set.specs]
    largest = max((layout for layout, _ in targets), key=_area)

    image_format = INPUT_FORMATS[photo.format]
    decoder = (photo.decoded_whole and image_format.decoder_bytes_whole) or image_format.decoder_bytes
    stored = max(photo.width * photo.height, photo.coded_pixels)
    decoding = stored * decoder + photo.width * (_LINES_WITH_ALPHA if photo.has_alpha else _LINES)
    if photo.format == "webp":
        decoding += stored * _WEBP_SCALED * webp_scale(photo, largest) ** 2
        decoding += stored * (_WEBP_ALPHA * photo.has_alpha + _WEBP_ANIMATED * (photo.frames > 1))

    # A still's sizes all stand in memory while two encoders are at work; of an animation, one size and the next.
    areas = sorted({layout: _area(layout) for layout, _ in targets}.values(), reverse=True)
    canvases = sum(areas) if photo.frames == 1 else sum(areas[:2]) * photo.frames
    encoders = sorted((_area(layout) * encoder_bytes for layout, encoder_bytes in targets), reverse=True)
    return int(_FIXED + decoding + canvases * _CANVAS + sum(encoders[:2]))


def _area(layout: Layout) -> int:
    return layout.width * layout.height
