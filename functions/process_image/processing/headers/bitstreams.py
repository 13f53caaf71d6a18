"""The colours of a coded picture, for containers that do not state them: HEVC's and AV1's sequence headers."""

from __future__ import annotations

#: Primaries and transfer, as https://www.itu.int/rec/T-REC-H.273 numbers them.
CodePoints = tuple[int, int]

_HEVC_SEQUENCE, _AV1_SEQUENCE = 33, 1


class _Bits:
    """Reads bits, the most significant first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        """Read a number with this many bits."""
        if count > self._left:
            raise IndexError("the sequence header ends early")
        self._left -= count
        return self._number >> self._left & (1 << count) - 1

    def take_exponential(self) -> int:
        """Read a number in HEVC's ue(v) or AV1's uvlc(): as many bits follow a one as zeros came before it."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("no number has so many zeros")
        return (1 << zeros) - 1 + self.take(zeros)


def hevc_colours(configuration: bytes) -> CodePoints | None:
    """Read the code points from an ``hvcC`` box, ISO/IEC 14496-15 section 8.3.3; None if there are none."""
    at = 23
    for _ in range(configuration[22]):
        kind, count = configuration[at] & 63, int.from_bytes(configuration[at + 1 : at + 3])
        at += 3
        for _ in range(count):
            length = int.from_bytes(configuration[at : at + 2])
            unit = configuration[at + 2 : at + 2 + length]
            at += 2 + length
            if kind == _HEVC_SEQUENCE:
                try:
                    return _of_hevc_sequence(unit[2:].replace(b"\0\0\3", b"\0\0"))
                except (IndexError, ValueError):
                    return None
    return None


def _of_hevc_sequence(unit: bytes) -> CodePoints | None:
    """Read H.265 section 7.3.2.2 up to the colours in E.2.1."""
    bits = _Bits(unit)
    bits.take(4)
    sub_layers = bits.take(3)
    bits.take(1)
    _skip_profile(bits, sub_layers)
    bits.take_exponential()
    if bits.take_exponential() == 3:  # the chroma format
        bits.take(1)
    bits.take_exponential()
    bits.take_exponential()
    if bits.take(1):
        for _ in range(4):
            bits.take_exponential()
    bits.take_exponential()
    bits.take_exponential()
    order_bits = bits.take_exponential() + 4
    for _ in range(1 if not bits.take(1) else sub_layers + 1):
        for _ in range(3):
            bits.take_exponential()
    for _ in range(6):
        bits.take_exponential()
    if bits.take(1) and bits.take(1):
        _skip_scaling_lists(bits)
    bits.take(2)
    if bits.take(1):
        bits.take(8)
        bits.take_exponential()
        bits.take_exponential()
        bits.take(1)
    if bits.take_exponential():  # references between pictures, which a still does not have
        return None
    if bits.take(1):
        for _ in range(bits.take_exponential()):
            bits.take(order_bits + 1)
    bits.take(2)
    if not bits.take(1):  # no usability information
        return None
    if bits.take(1) and bits.take(8) == 255:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if not bits.take(1):
        return None
    bits.take(4)
    return (bits.take(8), bits.take(8)) if bits.take(1) else None


def _skip_profile(bits: _Bits, sub_layers: int) -> None:
    bits.take(88)
    bits.take(8)
    present = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
    if sub_layers:
        bits.take(2 * (8 - sub_layers))
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)


def _skip_scaling_lists(bits: _Bits) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.take(1):
                bits.take_exponential()
                continue
            if size > 1:
                bits.take_exponential()
            for _ in range(min(64, 1 << (4 + 2 * size))):
                bits.take_exponential()


def av1_colours(units: bytes) -> CodePoints | None:
    """Read the code points from the units that an ``av1C`` box and the picture begin with; None if there are none.

    https://aomediacodec.github.io/av1-isobmff/#av1codecconfigurationbox-section
    """
    try:
        bits = _up_to_av1_colours(units)
        return (bits.take(8), bits.take(8)) if bits and bits.take(1) else None
    except (IndexError, ValueError):
        return None


def av1_grey_is_full(units: bytes) -> bool:
    """Tell from the same whether grey has all values from black to white, rather than video's range."""
    try:
        bits = _up_to_av1_colours(units)
        if bits and bits.take(1):
            bits.take(24)
        return bits is None or bool(bits.take(1))
    except (IndexError, ValueError):
        return True


def _up_to_av1_colours(units: bytes) -> _Bits | None:
    """Read section 5.5 of https://aomediacodec.github.io/av1-spec/ up to its colours; None if it has times."""
    at = 0
    while units[at] >> 3 & 15 != _AV1_SEQUENCE:
        at = sum(_av1_content(units, at))
    bits = _Bits(units[_av1_content(units, at)[0] :])
    profile = bits.take(3)
    bits.take(1)
    is_reduced = bits.take(1)
    if is_reduced:
        bits.take(5)
    elif not _skip_operating_points(bits):
        return None
    width, height = bits.take(4) + 1, bits.take(4) + 1
    bits.take(width + height)
    if not is_reduced and bits.take(1):
        bits.take(7)
    bits.take(3)
    if not is_reduced:
        _skip_av1_video(bits)
    bits.take(3)
    high_depth = bits.take(1)
    if profile == 2 and high_depth:
        bits.take(1)
    if profile != 1:
        bits.take(1)  # monochrome
    return bits


def _av1_content(units: bytes, at: int) -> tuple[int, int]:
    """Return where the content of a unit begins, and its length; 0 if the unit does not say it."""
    has_length = units[at] & 2
    at += 1 + (units[at] >> 2 & 1)
    length = 0
    for place in range(8 if has_length else 0):
        byte = units[at]
        at += 1
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return at, length


def _skip_operating_points(bits: _Bits) -> bool:
    if bits.take(1):  # times
        return False
    has_delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if has_delays and bits.take(1):
            bits.take(4)
    return True


def _skip_av1_video(bits: _Bits) -> None:
    bits.take(4)
    has_order = bits.take(1)
    bits.take(2 * has_order)
    has_screen_content = bits.take(1) or bits.take(1)
    if has_screen_content and not bits.take(1):
        bits.take(1)
    bits.take(3 * has_order)
