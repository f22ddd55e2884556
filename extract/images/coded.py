"""What a picture coded as AV1 or HEVC measures, by its own headers; 0 where there is none.

A decoder makes room for what these say, whatever the file says around them.
"""

from typing import Final

_AV1_SEQUENCE: Final = 1
_HEVC_SEQUENCE: Final = 33
_MOST_UNITS: Final = 1_000  # pictures have some
_LONGEST_HEADER: Final = 512


Coded = bytes | memoryview


class _Bits:
    def __init__(self, data: Coded) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._number >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """The next number of Exp-Golomb's code, which AV1 has as well."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros == 32:
                return (1 << 32) - 1
        return (1 << zeros) - 1 + self.take(zeros)


def av1(data: Coded) -> int:
    """Pixels of the largest picture of a sequence of OBUs (section 5.3 of AV1)."""
    at, most = 0, 0
    for _ in range(_MOST_UNITS):
        if at >= len(data) or data[at] & 0x80:
            break
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extended
        size, shift = 0, 0
        while sized and at < len(data):
            size |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 0x80 or shift == 56:
                break
        end = at + size if sized else len(data)
        if kind == _AV1_SEQUENCE:
            try:
                most = max(most, _av1_sequence(_Bits(data[at : min(end, at + _LONGEST_HEADER)])))
            except EOFError:
                break
        at = end
    return most


def _av1_sequence(bits: _Bits) -> int:
    bits.take(4)  # profile, still picture
    if bits.take(1):
        bits.take(5)
    else:
        delay = _av1_timing(bits)
        shown = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delay and bits.take(1):
                bits.take(2 * delay + 1)
            if shown and bits.take(1):
                bits.take(4)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(across) + 1) * (bits.take(down) + 1)


def _av1_timing(bits: _Bits) -> int:
    """Skip the timing; the bits of a delay, or 0 if none are said."""
    if not bits.take(1):
        return 0
    bits.take(64)
    if bits.take(1):
        bits.golomb()
    if not bits.take(1):
        return 0
    delay = bits.take(5) + 1
    bits.take(42)
    return delay


def hevc(data: Coded) -> int:
    """Pixels of the largest picture of a sequence of NAL units with their lengths before them."""
    at, most = 0, 0
    for _ in range(_MOST_UNITS):
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if size < 2 or at + size > len(data):
            break
        most = max(most, _hevc_unit(data[at : at + min(size, _LONGEST_HEADER)]))
        at += size
    return most


def hevc_of_configuration(data: bytes) -> int:
    """The same, of the content of a box ``hvcC``."""
    at, most = 23, 0
    for _ in range(data[22] if len(data) > 22 else 0):
        count = int.from_bytes(data[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            at += 2
            if at + size > len(data):
                return most
            most = max(most, _hevc_unit(data[at : at + min(size, _LONGEST_HEADER)]))
            at += size
    return most


def _hevc_unit(unit: Coded) -> int:
    if len(unit) < 3 or unit[0] >> 1 & 63 != _HEVC_SEQUENCE:
        return 0
    try:
        return _hevc_sequence(_Bits(bytes(unit[2:]).replace(b"\0\0\3", b"\0\0")))
    except EOFError:
        return 0


def _hevc_sequence(bits: _Bits) -> int:
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)
    flags = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in flags:
        bits.take(88 * profile + 8 * level)
    bits.golomb()
    if bits.golomb() == 3:
        bits.take(1)
    return bits.golomb() * bits.golomb()
