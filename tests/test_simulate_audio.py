"""Made-up sound: G.711 against the values of the recommendation, and against a decoder of its own."""

from struct import unpack

import pytest

from callactors.simulate.audio import Encoding, cut_up, make_speech

ENDS_OF_SEGMENTS = {  # ITU-T G.711, table 2a: the decoder's output of 14 bits, and the code
    8031: 0x80,
    4191: 0x8F,
    3999: 0x90,
    2079: 0x9F,
    1983: 0xA0,
    1023: 0xAF,
    975: 0xB0,
    495: 0xBF,
    471: 0xC0,
    231: 0xCF,
    219: 0xD0,
    99: 0xDF,
    93: 0xE0,
    33: 0xEF,
    30: 0xF0,
    2: 0xFE,
    0: 0xFF,
}


def decode(code: int) -> int:
    """Return the 14 bits that *code* stands for, by the formula of the recommendation."""
    turned = ~code & 0xFF
    magnitude = (2 * (turned & 0xF) + 33 << (turned >> 4 & 7)) - 33
    return -magnitude if turned & 0x80 else magnitude


def mulaw(*samples: int) -> list[int]:
    return list(Encoding.MULAW.encode(samples))


@pytest.mark.parametrize(("value", "code"), ENDS_OF_SEGMENTS.items())
def test_mulaw_has_the_codes_of_the_recommendation(value: int, code: int) -> None:
    assert mulaw(4 * value) == [code]
    assert value == 0 or mulaw(-4 * value) == [code & 0x7F]


def test_silence_is_ff() -> None:
    assert Encoding.MULAW.encode([0] * 160) == b"\xff" * 160


def test_every_code_is_made_again_of_what_it_stands_for() -> None:
    minus_zero = 0x7F
    for code in set(range(256)) - {minus_zero}:
        assert mulaw(4 * decode(code)) == [code]


def test_no_sample_is_further_from_its_code_than_half_a_step() -> None:
    for sample in range(-32_768, 32_768, 7):
        (code,) = mulaw(sample)
        step = 8 << (~code >> 4 & 7)
        error = abs(4 * decode(code) - max(-32_124, min(sample, 32_124)))
        assert error <= step / 2


def test_the_loudest_samples_are_clipped() -> None:
    assert mulaw(32_767, -32_768) == [0x80, 0x00]


def test_speech_is_a_second_that_goes_on_from_its_end() -> None:
    samples = make_speech(8_000)
    assert len(samples) == 8_000
    assert 2_000 < max(map(abs, samples)) <= 8_000
    assert abs(samples[-1] - samples[0]) < 100


def test_16_bits_are_little_endian() -> None:
    audio = Encoding.S16LE.encode([1, -2, 256])
    assert audio == b"\x01\x00\xfe\xff\x00\x01"
    assert unpack("<3h", audio) == (1, -2, 256)


def test_audio_is_cut_into_pieces_of_one_length() -> None:
    pieces = cut_up(bytes(range(200)), 50)
    assert {len(piece) for piece in pieces} == {4}
    assert b"".join(pieces) == bytes(range(200))
