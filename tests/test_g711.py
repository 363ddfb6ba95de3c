"""G.711 against the values of the recommendation."""

from struct import unpack

import pytest

from callactors.g711 import decode_alaw, decode_mulaw, encode_mulaw

MULAW = {0x80: 8031, 0x8F: 4191, 0xA0: 1983, 0xEF: 33, 0xFE: 2, 0xFF: 0}  # table 2a: in 14 bits
ALAW = {
    0xAA: 4032,
    0xA5: 2112,
    0xBA: 2016,
    0xF5: 66,
    0xC5: 33,
    0xD4: 3,
    0xD5: 1,
}  # table 1a: in 13 bits


def samples(audio: bytes) -> list[int]:
    return list(unpack(f"<{len(audio) // 2}h", audio))


@pytest.mark.parametrize(("code", "value"), MULAW.items())
def test_mulaw_has_the_values_of_the_recommendation(code: int, value: int) -> None:
    assert samples(decode_mulaw(bytes([code, code & 0x7F]))) == [4 * value, -4 * value]


@pytest.mark.parametrize(("code", "value"), ALAW.items())
def test_alaw_has_the_values_of_the_recommendation(code: int, value: int) -> None:
    assert samples(decode_alaw(bytes([code, code & 0x7F]))) == [8 * value, -8 * value]


def test_mulaw_comes_back_as_it_was() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # which is 0 too, as 0xFF is
    assert encode_mulaw(samples(decode_mulaw(codes))) == codes
