"""Step 10: what a page shows until the picture arrives: a blurred miniature of about 25 bytes, and one colour."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable
from operator import mul

from functions.process_image.processing.canvas import Canvas

#: In pixels. ThumbHash takes up to 100, but its highest frequency has three and a half waves across. A side twice as
#: long would take four times as long, 14 ms a photo, and give the same hash except for rounding.
SIDE = 32


def rgba_of(canvas: Canvas) -> tuple[int, int, bytes]:
    """Return width, height and RGBA pixels of a canvas's first frame, which must fit in :data:`SIDE`."""
    frame = canvas.frames[0]
    if not frame.hasalpha():
        frame = frame.addalpha()
    return frame.width, frame.height, bytes(frame.write_to_memory())


def thumb_hash(width: int, height: int, rgba: bytes) -> str:
    """Hash a miniature to a ThumbHash, https://github.com/evanw/thumbhash.

    Parameters
    ----------
    width, height : int
        In pixels. The time grows with them: 4 ms for 32 x 24.
    rgba : bytes
        ``width * height * 4`` bytes, row by row, alpha not premultiplied.

    Returns
    -------
    str
        The hash in base64, as ``thumbHashToDataURL(base64ToBinary(...))`` takes it.
    """
    count = width * height
    alpha = [value / 255 for value in rgba[3::4]]
    bands = [[a / 255 * value for a, value in zip(alpha, rgba[band::4], strict=True)] for band in range(3)]
    opacity = _sum(alpha)
    # The mean colour of the visible pixels, and every pixel on that background.
    means = [_sum(band) / (opacity or 1) for band in bands]
    red, green, blue = (
        [mean * (1 - a) + value for a, value in zip(alpha, band, strict=True)]
        for band, mean in zip(bands, means, strict=True)
    )
    luminance = [(r + g + b) / 3 for r, g, b in zip(red, green, blue, strict=True)]
    yellow_blue = [(r + g) / 2 - b for r, g, b in zip(red, green, blue, strict=True)]
    red_green = [r - g for r, g in zip(red, green, strict=True)]

    has_alpha = opacity < count
    limit = 5 if has_alpha else 7
    across = max(1, _round(limit * width / max(width, height)))
    down = max(1, _round(limit * height / max(width, height)))

    l_dc, l_ac, l_scale = _transform(luminance, width, height, max(3, across), max(3, down))
    p_dc, p_ac, p_scale = _transform(yellow_blue, width, height, 3, 3)
    q_dc, q_ac, q_scale = _transform(red_green, width, height, 3, 3)

    landscape = width > height
    head = _round(63 * l_dc) | _round(31.5 + 31.5 * p_dc) << 6 | _round(31.5 + 31.5 * q_dc) << 12
    head |= _round(31 * l_scale) << 18 | has_alpha << 23
    tail = (down if landscape else across) | _round(63 * p_scale) << 3 | _round(63 * q_scale) << 9 | landscape << 15
    hashed = bytearray(head.to_bytes(3, "little") + tail.to_bytes(2, "little"))
    varying = [*l_ac, *p_ac, *q_ac]
    if has_alpha:
        a_dc, a_ac, a_scale = _transform(alpha, width, height, 5, 5)
        hashed.append(_round(15 * a_dc) | _round(15 * a_scale) << 4)
        varying += a_ac
    nibbles = [_round(15 * factor) for factor in varying] + [0] * (len(varying) % 2)
    hashed += bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    return base64.b64encode(hashed).decode("ascii")


def _transform(
    channel: list[float], width: int, height: int, across: int, down: int
) -> tuple[float, list[float], float]:
    """Return the low frequencies of a cosine transform: the constant, the others from 0 to 1, and their scale."""
    down_waves = [[fy for fy in _wave(height, cy) for _ in range(width)] for cy in range(down)]
    factors = {}
    for cx in range(across):
        waved = list(map(mul, channel, _wave(width, cx) * height))
        for cy in range(down):
            # Only the triangle at the origin of the rectangle of frequencies is kept.
            if cx * down < across * (down - cy):
                factors[cy, cx] = _sum(map(mul, waved, down_waves[cy])) / (width * height)
    constant, *varying = (factors[place] for place in sorted(factors))
    scale = max(map(abs, varying), default=0.0)
    return constant, [0.5 + 0.5 / scale * factor for factor in varying] if scale else varying, scale


def _wave(length: int, frequency: int) -> list[float]:
    return [math.cos(math.pi / length * frequency * (place + 0.5)) for place in range(length)]


def _sum(values: Iterable[float]) -> float:
    """Add in order, as the reference implementation does.

    From Python 3.12 on, ``sum`` compensates rounding errors. Some factors are zero except for rounding, so that would
    give another hash.
    """
    total = 0.0
    for value in values:
        total += value
    return total


def _round(value: float) -> int:
    """Round halves up, as JavaScript does, the reference implementation's language; Python rounds them to even."""
    return math.floor(value + 0.5)


def dominant_colour(rgba: bytes) -> str:
    """Find the colour that is most common in the picture, approximately.

    Parameters
    ----------
    rgba : bytes
        Pixels, 4 bytes each.

    Returns
    -------
    str
        ``#rrggbb``: the mean of the fullest of 16 x 16 x 16 boxes of colours, with pixels weighted by opacity. White
        for a picture that is entirely transparent.
    """
    pixels: Counter[bytes] = Counter(rgba[at : at + 4] for at in range(0, len(rgba), 4))
    boxes: Counter[tuple[int, int, int]] = Counter()
    for (red, green, blue, alpha), count in pixels.items():
        boxes[red >> 4, green >> 4, blue >> 4] += alpha * count
    (box, weight), *_ = boxes.most_common(1)
    if weight == 0:
        return "#ffffff"
    sums = [0, 0, 0]
    for (red, green, blue, alpha), count in pixels.items():
        if (red >> 4, green >> 4, blue >> 4) == box:
            for band, value in enumerate((red, green, blue)):
                sums[band] += value * alpha * count
    return "#" + "".join(f"{_round(total / weight):02x}" for total in sums)
