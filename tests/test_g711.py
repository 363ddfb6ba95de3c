"""G.711 against the values of the recommendation."""

from struct import unpack

import pytest

from callactors.g711 import decode_alaw, decode_ulaw
from callactors.simulate.audio import Encoding

ULAW = {
    0x80: 8031,
    0x8F: 4191,
    0x90: 3999,
    0xAF: 1023,
    0xB0: 975,
    0xDF: 99,
    0xE0: 93,
    0xEF: 33,
    0xFE: 2,
    0xFF: 0,
}
"""ITU-T G.711, table 2a: codes, and the decoder's output of 14 bits."""
ALAW = {
    0xD5: 1,
    0xC5: 33,
    0xF5: 66,
    0xE5: 132,
    0x95: 264,
    0x85: 528,
    0xB5: 1056,
    0xA5: 2112,
    0xAA: 4032,
}
"""Table 1a: codes as they are sent, and the decoder's output of 13 bits."""


def samples(data: bytes) -> list[int]:
    return list(unpack(f"<{len(data) // 2}h", data))


@pytest.mark.parametrize(("code", "value"), ULAW.items())
def test_mulaw_has_the_values_of_the_recommendation(code: int, value: int) -> None:
    assert samples(decode_ulaw(bytes([code, code & 0x7F]))) == [4 * value, -4 * value]


@pytest.mark.parametrize(("code", "value"), ALAW.items())
def test_alaw_has_the_values_of_the_recommendation(code: int, value: int) -> None:
    assert samples(decode_alaw(bytes([code, code & 0x7F]))) == [8 * value, -8 * value]


@pytest.mark.parametrize("decode", [decode_ulaw, decode_alaw])
def test_each_law_is_odd_and_rises(decode: type[bytes]) -> None:
    values = sorted(samples(decode(bytes(range(256)))))
    assert values == sorted(-value for value in values)
    assert len(set(values)) >= 255


def test_what_simulate_encodes_is_decoded() -> None:
    assert Encoding.MULAW.encode(samples(decode_ulaw(bytes(range(128, 256))))) == bytes(range(128, 256))


def test_nothing_is_nothing() -> None:
    assert decode_ulaw(b"") == decode_alaw(b"") == b""
