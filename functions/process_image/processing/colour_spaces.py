"""What the numbers of pixels mean without an ICC profile: code points, or a gamma with its primaries.

https://www.itu.int/rec/T-REC-H.273 numbers them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
Chromaticity = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Primaries:
    """White and the three colours that all others are mixed from, as CIE x and y."""

    white: Chromaticity
    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity

    def is_near(self, other: Primaries) -> bool:
        """Whether no difference is visible; files round the numbers."""
        mine = self.white + self.red + self.green + self.blue
        theirs = other.white + other.red + other.green + other.blue
        return all(abs(one - two) < 0.005 for one, two in zip(mine, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Curve:
    """How numbers become light: a power, or sRGB's own curve for None."""

    gamma: float | None = None


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """The meaning of a pixel's numbers.

    Parameters
    ----------
    primaries : Primaries
        The primaries of RGB.
    curve : Curve
        The curve of each.
    hdr : str or None
        ``pq`` or ``hlg``: replaces the curve; light can be brighter than a screen's white.
    instead_of_profile : bool
        Whether it takes precedence over an ICC profile in the file.
    """

    primaries: Primaries
    curve: Curve = Curve()
    hdr: str | None = None
    instead_of_profile: bool = False


_D65: Final = (0.3127, 0.3290)
_C: Final = (0.310, 0.316)
SRGB_PRIMARIES: Final = Primaries(_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_PRIMARIES: Final = {
    4: Primaries(_C, (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    8: Primaries(_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Primaries((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
#: Curves by their code points.
_CURVES: Final = {4: Curve(2.2), 5: Curve(2.8), 8: Curve(1.0), 17: Curve(2.6)}
#: Curves of video. Chromium shows them as sRGB in AVIF, and as a gamma of 2.4 in PNG.
_VIDEO_CURVES: Final = dict.fromkeys((1, 6, 11, 14, 15), Curve(2.4))
_HDR: Final = {16: "pq", 18: "hlg"}

#: Gammas that are meant as sRGB's curve; libpng's own threshold is 5 %.
_SRGB_GAMMAS: Final = (2.2 * 0.975, 2.2 * 1.025)


def colour_space_of_code_points(
    primaries: int, transfer: int, *, instead_of_profile: bool = False, video_curves: bool = False
) -> ColourSpace | None:
    """Return the colour space, or None for sRGB and for code points without a specification."""
    curves = _CURVES | _VIDEO_CURVES if video_curves else _CURVES
    space = ColourSpace(
        _PRIMARIES.get(primaries, SRGB_PRIMARIES),
        curves.get(transfer, Curve()),
        _HDR.get(transfer),
        instead_of_profile,
    )
    return None if space == ColourSpace(SRGB_PRIMARIES) else space


def colour_space_of_gamma(primaries: Primaries, curve: Curve) -> ColourSpace | None:
    """Return the colour space, or None for sRGB and for primaries from which no colour can be mixed."""
    if primaries.is_near(SRGB_PRIMARIES):
        primaries = SRGB_PRIMARIES
        if curve.gamma is not None and _SRGB_GAMMAS[0] <= curve.gamma <= _SRGB_GAMMAS[1]:
            curve = Curve()
    try:
        to_xyz(primaries)
    except ZeroDivisionError:
        return None
    usable = curve.gamma is None or 0.1 <= curve.gamma <= 10
    space = ColourSpace(primaries, curve)
    return space if usable and space != ColourSpace(SRGB_PRIMARIES) else None


def to_xyz(primaries: Primaries) -> Matrix:
    """Return the matrix from linear RGB to CIE XYZ. Raises ZeroDivisionError if there is none."""
    columns = [_xyz(place) for place in (primaries.red, primaries.green, primaries.blue)]
    mixing = _transposed(columns)
    scale = _times(inverse(mixing), _xyz(primaries.white))
    return _matrix([[mixing[row][column] * scale[column] for column in range(3)] for row in range(3)])


def linear_to_srgb(primaries: Primaries) -> Matrix:
    """Return the matrix from linear RGB of these primaries to that of sRGB; white stays white."""
    return product(inverse(to_xyz(SRGB_PRIMARIES)), product(_adapted(primaries.white, _D65), to_xyz(primaries)))


def icc_profile(space: ColourSpace, *, grey: bool) -> bytes:
    """Write an ICC profile, version 4, of a colour space that is not HDR.

    https://www.color.org/specification/ICC.1-2022-05.pdf, sections 7 and 8.3.3.
    """
    d50 = (0.9642, 1.0, 0.8249)
    curve = _curve_tag(space.curve)
    tags = {b"desc": _text_tag("colour space of the file"), b"cprt": _text_tag("none"), b"wtpt": _xyz_tag(d50)}
    if grey:
        tags[b"kTRC"] = curve
    else:
        adapted = product(_adapted(space.primaries.white, None), to_xyz(space.primaries))
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
        columns = zip(*adapted, strict=True)
        tags |= {name: _xyz_tag(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    index, content = b"", b""
    first = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        index += name + struct.pack(">II", first + len(content), len(tag))
        content += tag + bytes(-len(tag) % 4)
    head = bytearray(128)
    head[0:4] = struct.pack(">I", first + len(content))
    head[8:12] = b"\x04\x30\0\0"
    head[12:24] = b"mntr" + (b"GRAY" if grey else b"RGB ") + b"XYZ "
    head[24:36] = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    head[36:40] = b"acsp"
    head[68:80] = b"".join(map(_fixed, d50))
    return bytes(head) + struct.pack(">I", len(tags)) + index + content


def profile_colours(profile: bytes) -> int | None:
    """Return how many colours a pixel has that an ICC profile is for; None if browsers ignore such a profile.

    https://www.color.org/specification/ICC.1-2022-05.pdf, section 7.2.
    """
    is_profile = (
        132 <= int.from_bytes(profile[:4]) <= len(profile)
        and profile[8] <= _NEWEST_ICC_VERSION
        and profile[20:24] in (b"XYZ ", b"Lab ")
        and profile[36:40] == b"acsp"
    )
    return {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4}.get(profile[16:20]) if is_profile else None


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz_tag(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _text_tag(text: str) -> bytes:
    head = struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, 2 * len(text), 28)
    # UTF-16. Python loads its codec from a file at first use, which the decoder's process may not open.
    return b"mluc" + head + struct.pack(f">{len(text)}H", *map(ord, text))


def _curve_tag(curve: Curve) -> bytes:
    if curve.gamma is not None:
        return b"para\0\0\0\0\0\0\0\0" + _fixed(curve.gamma)
    srgb = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para\0\0\0\0\0\3\0\0" + b"".join(map(_fixed, srgb))


_NEWEST_ICC_VERSION: Final = 4
_BRADFORD: Final[Matrix] = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def _adapted(white: Chromaticity, to: Chromaticity | None) -> Matrix:
    """Return the matrix that adapts one white to another, D50 for None, as ICC does."""
    seen = _times(_BRADFORD, _xyz(white))
    wanted = _times(_BRADFORD, _xyz(to) if to else (0.9642, 1.0, 0.8249))
    gain = [[wanted[row] / seen[row] if row == column else 0.0 for column in range(3)] for row in range(3)]
    return product(inverse(_BRADFORD), product(_matrix(gain), _BRADFORD))


def _xyz(place: Chromaticity) -> tuple[float, float, float]:
    x, y = place
    return x / y, 1.0, (1 - x - y) / y


def product(one: Matrix, other: Matrix) -> Matrix:
    """Multiply two matrices."""
    return _matrix([[sum(one[row][k] * other[k][column] for k in range(3)) for column in range(3)] for row in range(3)])


def inverse(m: Matrix) -> Matrix:
    """Invert a matrix. Raises ZeroDivisionError if it has no inverse."""
    cofactors = [
        [
            m[(row + 1) % 3][(column + 1) % 3] * m[(row + 2) % 3][(column + 2) % 3]
            - m[(row + 1) % 3][(column + 2) % 3] * m[(row + 2) % 3][(column + 1) % 3]
            for column in range(3)
        ]
        for row in range(3)
    ]
    determinant = sum(m[0][column] * cofactors[0][column] for column in range(3))
    return _matrix([[cofactors[column][row] / determinant for column in range(3)] for row in range(3)])


def _times(m: Matrix, vector: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = (sum(m[row][k] * vector[k] for k in range(3)) for row in range(3))
    return first, second, third


def _transposed(columns: list[tuple[float, float, float]]) -> Matrix:
    return _matrix([list(row) for row in zip(*columns, strict=True)])


def _matrix(rows: list[list[float]]) -> Matrix:
    first, second, third = ((row[0], row[1], row[2]) for row in rows)
    return first, second, third
