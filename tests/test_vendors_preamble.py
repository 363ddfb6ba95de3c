"""Streams of a text message and then audio: who names the call, when time is known, what comes too early."""

import json

import pytest

from callactors.packets import MAX_DATA, Packet, PacketKind
from callactors.vendors.preamble import MAX_EARLY, PREAMBLE_VENDORS
from callactors.vendors.steps import Begin, Ignored, WrongMessage
from tests.vendor_fixtures import AUDIO, CALL_IDS, FIRST, PLAIN_START, feed, packets, parser, started


@pytest.mark.parametrize("vendor", PREAMBLE_VENDORS)
def test_audio_before_the_first_text_is_kept_for_a_while(vendor: str) -> None:
    made = parser(vendor)
    assert feed(made, [AUDIO] * MAX_EARLY) == []
    steps = feed(made, [json.dumps(FIRST[vendor])])
    assert [type(step) for step in steps[:2]] == [Begin, Packet]
    assert [packet.sequence for packet in packets(steps)] == list(range(1, MAX_EARLY + 2))
    late = parser(vendor)
    feed(late, [AUDIO] * MAX_EARLY)
    with pytest.raises(WrongMessage, match="too much audio"):
        late.binary(AUDIO)
    with pytest.raises(WrongMessage, match="too much audio"):
        parser(vendor).binary(bytes(500_001))


def test_asterisks_plain_messages_are_read_as_those_in_json() -> None:
    made = parser("asterisk")
    steps = feed(made, [AUDIO, PLAIN_START, AUDIO, "DTMF_END digit:2", "MEDIA_XOFF", "STATUS queue_length:3"])
    assert isinstance(steps[0], Begin)
    assert steps[0].call_id == CALL_IDS["asterisk"]
    assert [p.kind.value for p in packets(steps)] == ["start", "media", "media", "dtmf"]
    assert [p.timestamp for p in packets(steps)] == [0.0, 0.0, 0.02, 0.04]
    assert steps[-2:] == [Ignored("MEDIA_XOFF"), Ignored("STATUS")]


def test_an_event_before_asterisks_start_is_ignored() -> None:
    assert feed(parser("asterisk"), ["MEDIA_XON", PLAIN_START])[0] == Ignored("MEDIA_XON")


def test_an_event_of_somebody_else_is_not_taken_for_asterisks() -> None:
    made = parser("mod_audio_fork")
    feed(made, [{"event": "CALL_STARTED", "uuid": "a"}])
    assert made.vendor == "mod_audio_fork"


@pytest.mark.parametrize("text", ["MEDIA_START channel_id:a\x00", "MEDIA_START channel_id:a x:\ud800"])
def test_plain_messages_that_cannot_be_stored_are_wrong(text: str) -> None:
    with pytest.raises(WrongMessage):
        parser("asterisk").text(text)


def test_the_call_of_the_url_goes_before_that_of_asterisks_own_channel() -> None:
    begin = feed(parser("asterisk", call_id="caller-1"), [PLAIN_START])[0]
    assert isinstance(begin, Begin)
    assert begin.call_id == "caller-1"


@pytest.mark.parametrize("vendor", ["mod_audio_fork", "vonage"])
def test_a_first_message_that_names_no_call_needs_that_of_the_url(vendor: str) -> None:
    first = {name: value for name, value in FIRST[vendor].items() if "uuid" not in name}
    with pytest.raises(WrongMessage, match=r"\?call_id="):
        feed(parser(vendor), [first])
    begin = feed(parser(vendor, call_id="mine"), [first])[0]
    assert isinstance(begin, Begin)
    assert begin.call_id == "mine"


@pytest.mark.parametrize("vendor", ["jambonz", "mod_audio_fork", "vonage"])
def test_a_call_that_the_first_message_names_goes_before_that_of_the_url(vendor: str) -> None:
    begin = feed(parser(vendor, call_id="mine"), [FIRST[vendor]])[0]
    assert isinstance(begin, Begin)
    assert begin.call_id == CALL_IDS[vendor]


def test_stereo_has_twice_the_bytes_and_an_unknown_rate_no_time() -> None:
    stereo = feed(parser("jambonz"), [FIRST["jambonz"] | {"mixType": "stereo"}, AUDIO, AUDIO])
    assert packets(stereo)[-1].timestamp == 0.005
    unknown = feed(parser("mod_audio_fork"), [{"uuid": "a", "sampleRate": "fast"}, AUDIO, AUDIO])
    assert packets(unknown)[-1].timestamp == 0.0


def test_a_first_message_of_another_vendor_than_vonage_is_wrong() -> None:
    with pytest.raises(WrongMessage, match="vonage"):
        parser("vonage", given=True).text(json.dumps(FIRST["jambonz"]))


def test_texts_after_the_first_are_kept_but_not_what_jambonz_acknowledges() -> None:
    made = started("jambonz")
    assert made.text('{"type":"playDone"}') == [Ignored("playDone")]
    (packet,) = packets(made.text('{"note":1}'))
    assert (packet.kind, packet.data) == (PacketKind.TEXT, '{"note":1}')
    for text in ("a\x00", "\ud800", "x" * (MAX_DATA + 1)):
        with pytest.raises(WrongMessage):
            made.text(text)
