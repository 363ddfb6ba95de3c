"""Audio of all vendors becomes 16 bits, 16 kHz, one channel."""

from collections.abc import Mapping
from math import pi, sin
from struct import pack, unpack
from typing import Any

import pytest

from callactors.errors import UnknownAudio
from callactors.processors.waveforms import RATE, Format, Waveform, read_format
from callactors.vendors.steps import Begin
from tests.vendor_fixtures import call_of, feed, parser


def samples(data: bytes) -> list[int]:
    return list(unpack(f"={len(data) // 2}h", data))


def l16(*values: int) -> bytes:
    return pack(f"<{len(values)}h", *values)


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({}, Format("ulaw", 8_000, 1)),
        ({"media_format": {"encoding": "audio/x-mulaw", "sample_rate": 8_000, "channels": 1}}, Format()),
        ({"media_format": {"encoding": "PCMU"}}, Format()),
        ({"media_format": {"encoding": "PCMA", "sample_rate": 8_000}}, Format("alaw")),
        ({"media_format": {"encoding": "audio/x-raw", "sample_rate": "8000"}}, Format("s16le")),
        ({"media_format": {"encoding": "audio/x-l16;rate=16000"}}, Format("s16le", 16_000)),
        (
            {"media_format": {"encoding": "L16", "sample_rate": 16_000, "channels": 2}},
            Format("s16le", 16_000, 2),
        ),
        ({"vendor": "vonage", "content_type": "audio/l16;rate=16000"}, Format("s16le", 16_000)),
        ({"vendor": "asterisk", "format": "ulaw"}, Format()),
        ({"vendor": "asterisk", "format": "slin44"}, Format("s16le", 44_100)),
        ({"vendor": "jambonz", "sample_rate": 8_000, "mix_type": "stereo"}, Format("s16le", 8_000, 2)),
        (
            {"vendor": "mod_audio_fork", "custom_parameters": {"sampleRate": 16_000, "mixType": "mono"}},
            Format("s16le", 16_000),
        ),
    ],
)
def test_the_format_is_what_the_metadata_tell(metadata: Mapping[str, Any], wanted: Format) -> None:
    assert read_format(metadata) == wanted


@pytest.mark.parametrize(
    ("vendor", "encoding"),
    [("twilio", "ulaw"), ("telnyx", "ulaw"), ("exotel", "s16le"), ("jambonz", "s16le"), ("vonage", "s16le")],
)
def test_the_format_of_a_vendors_own_start_is_known(vendor: str, encoding: str) -> None:
    begin = next(step for step in feed(parser(vendor), call_of(vendor)) if isinstance(step, Begin))
    assert read_format(begin.metadata) == Format(encoding)


@pytest.mark.parametrize(
    "told",
    [
        {"encoding": "OPUS", "sample_rate": 48_000},
        {"encoding": "G722"},
        {"encoding": ["ulaw"]},
        {"encoding": "PCMU", "sample_rate": 0},
        {"encoding": "PCMU", "sample_rate": "fast"},
        {"encoding": "PCMU", "sample_rate": 1e4},
        {"encoding": "L16", "channels": 7},
        {"encoding": "x" * 1_000},
    ],
)
def test_other_formats_are_refused_in_few_words(told: Mapping[str, Any]) -> None:
    with pytest.raises(UnknownAudio) as caught:
        read_format({"media_format": told})
    assert "mu-law" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_audio_at_the_wanted_rate_stays_as_it_is() -> None:
    assert samples(Waveform(Format("s16le", RATE)).feed(l16(1, -2, 32_767, -32_768))) == [
        1,
        -2,
        32_767,
        -32_768,
    ]


def test_between_two_samples_lies_their_mean() -> None:
    assert samples(Waveform(Format("s16le", 8_000)).feed(l16(100, 200, -200))) == [0, 50, 100, 150, 200, 0]


def test_g711_is_decoded() -> None:
    assert samples(Waveform(Format("ulaw", RATE)).feed(b"\x80\x00\xff")) == [32_124, -32_124, 0]
    assert samples(Waveform(Format("alaw", RATE)).feed(b"\xaa\x2a")) == [32_256, -32_256]


def test_two_channels_become_one() -> None:
    assert samples(Waveform(Format("s16le", RATE, 2)).feed(l16(100, 300, -32_768, -32_768))) == [200, -32_768]


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_pieces_of_any_size_give_what_the_whole_gives(rate: int) -> None:
    audio = l16(*(round(10_000 * sin(number / 9)) for number in range(997)))
    whole = Waveform(Format("s16le", rate)).feed(audio)
    waveform = Waveform(Format("s16le", rate))
    parts = b"".join(waveform.feed(audio[start : start + 7]) for start in range(0, len(audio), 7))
    assert parts == whole
    assert len(whole) // 2 == pytest.approx(997 * RATE / rate, abs=1)


def test_a_tone_keeps_its_pitch_and_loudness() -> None:
    tone = [round(10_000 * sin(2 * pi * 440 * number / 8_000)) for number in range(8_000)]
    made = samples(Waveform(Format("s16le", 8_000)).feed(l16(*tone)))
    wanted = [10_000 * sin(2 * pi * 440 * (number / 2 - 1) / 8_000) for number in range(len(made))]
    assert max(abs(a - b) for a, b in zip(made[2:], wanted[2:], strict=True)) < 200
