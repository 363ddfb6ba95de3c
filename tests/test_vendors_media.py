"""What every vendor's media stream comes down to: the same steps, in order, without false gaps."""

import json

import pytest

from callactors.call import Call
from callactors.packets import Packet, PacketKind
from callactors.vendors.steps import Begin, End, Ignored, WrongMessage, describe_media
from tests.vendor_fixtures import (
    AUDIO,
    CALL_IDS,
    EVERY,
    FIRST,
    JSON_CALLS,
    NUMBERS,
    PAYLOAD,
    STREAMS,
    TAKEN_FOR,
    WITH_STOP,
    call_of,
    feed,
    message,
    packets,
    parser,
    started,
)


@pytest.mark.parametrize("given", [False, True], ids=["recognised", "given"])
@pytest.mark.parametrize("vendor", EVERY)
def test_a_call_is_taken_in_order_without_a_gap(vendor: str, given: bool) -> None:
    made = parser(vendor, given=given)
    steps = [step for step in feed(made, call_of(vendor)) if not isinstance(step, Ignored)]
    assert made.vendor == (vendor if given else TAKEN_FOR.get(vendor, vendor))
    assert isinstance(steps[0], Begin)
    call = Call(steps[0].call_id)
    told = [call.accept(packet)[1] for packet in packets(steps)]
    assert call.call_id == CALL_IDS[vendor]
    assert [accepted.sequence for accepted in told] == list(range(1, len(told) + 1))
    assert not any(accepted.gap or accepted.is_late or accepted.is_duplicate for accepted in told)
    assert {accepted.stream for accepted in told} == {steps[0].stream}


@pytest.mark.parametrize("vendor", EVERY)
def test_a_call_has_a_start_two_of_media_and_a_digit(vendor: str) -> None:
    kinds = [packet.kind for packet in packets(feed(parser(vendor), call_of(vendor)))]
    assert kinds[:4] == [PacketKind.START, PacketKind.MEDIA, PacketKind.MEDIA, PacketKind.DTMF]
    last = {"plivo": [PacketKind.MARK], "mod_audio_fork": [PacketKind.TEXT]}
    whole = [PacketKind.MARK, PacketKind.STOP] if vendor in WITH_STOP else []
    assert kinds[4:] == last.get(vendor, whole)


@pytest.mark.parametrize("vendor", EVERY)
def test_timestamps_are_seconds_and_never_go_back(vendor: str) -> None:
    first, second = [p.timestamp for p in packets(feed(parser(vendor), call_of(vendor)))][1:3]
    assert second - first == pytest.approx(0.02 if vendor in JSON_CALLS or vendor == "asterisk" else 0.01)
    found = [p.timestamp for p in packets(feed(parser(vendor), call_of(vendor)))]
    assert found == sorted(found)
    assert found[0] == 0.0


@pytest.mark.parametrize("vendor", EVERY)
def test_audio_is_kept_as_its_length_and_digest_unless_it_is_wanted(vendor: str) -> None:
    described = [p.data for p in packets(feed(parser(vendor, store_media=False), call_of(vendor)))]
    stored = [p.data for p in packets(feed(parser(vendor), call_of(vendor)))]
    has_track = "track" in stored[1]
    assert has_track == (vendor in JSON_CALLS and vendor != "exotel")
    if has_track:
        track = {"track": "inbound"}
        assert json.loads(stored[1]) == track | {"payload": PAYLOAD}
        assert json.loads(described[1]) == track | json.loads(describe_media(AUDIO))
    else:
        assert (stored[1], described[1]) == (PAYLOAD, describe_media(AUDIO))
    assert not any(PAYLOAD in data for data in described)


@pytest.mark.parametrize("vendor", EVERY)
def test_the_metadata_says_who_and_what_was_told(vendor: str) -> None:
    begin = next(step for step in feed(parser(vendor), call_of(vendor)) if isinstance(step, Begin))
    assert begin.metadata["vendor"] == TAKEN_FOR.get(vendor, vendor)
    place = "channel_variables" if vendor == "asterisk" else "custom_parameters"
    told = begin.metadata[place]
    assert told == "team=sales" if vendor == "plivo" else told["team"] == "sales"
    if vendor in JSON_CALLS:
        assert int(begin.metadata["media_format"]["sample_rate"]) == 8_000
        assert begin.metadata["account"]
    json.dumps(begin.metadata, allow_nan=False)


@pytest.mark.parametrize("vendor", EVERY)
def test_metadata_that_is_too_long_is_left_out(vendor: str) -> None:
    first = FIRST.get(vendor) or message(vendor, "start")
    long = json.dumps(first).replace("sales", "s" * 20_000)
    begin = feed(parser(vendor), [long])[0]
    assert isinstance(begin, Begin)
    assert begin.metadata["vendor"] == TAKEN_FOR.get(vendor, vendor)
    assert "sss" not in json.dumps(begin.metadata)


@pytest.mark.parametrize("vendor", EVERY)
def test_only_who_sends_no_stop_ends_by_a_close(vendor: str) -> None:
    ends = [step for step in feed(parser(vendor), call_of(vendor)) if isinstance(step, End)]
    assert ends == ([End(ends_call=True)] if vendor in WITH_STOP else [])
    assert started(vendor).ends_by_close == parser(vendor, given=True).ends_by_close == (not ends)


@pytest.mark.parametrize("vendor", EVERY)
def test_unknown_fields_are_ignored(vendor: str) -> None:
    messages = [json.loads(m) if isinstance(m, str) and m[0] == "{" else m for m in call_of(vendor)]
    more = [{**m, "zzz": {"a": [1]}} if isinstance(m, dict) and i else m for i, m in enumerate(messages)]
    assert packets(feed(parser(vendor), more)) == packets(feed(parser(vendor), call_of(vendor)))


@pytest.mark.parametrize("vendor", [*JSON_CALLS, "asterisk", "vonage"])
def test_unknown_events_are_ignored_by_a_name_that_is_safe(vendor: str) -> None:
    made = started(vendor)
    prefix = "A" * 10 if vendor == "asterisk" else "a" * 10
    assert made.text(json.dumps({"event": f"{prefix}\n\x7f<é" + "b" * 100})) == [
        Ignored(f"{prefix}????" + "b" * 36)
    ]


@pytest.mark.parametrize("sequence", [7, "7"])
@pytest.mark.parametrize("vendor", JSON_CALLS)
def test_an_unknown_event_with_a_sequence_leaves_no_gap(vendor: str, sequence: int | str) -> None:
    name = NUMBERS.get(vendor, "sequenceNumber")
    (step,) = started(vendor).text(json.dumps({"event": "clear", name: sequence}))
    assert isinstance(step, Packet)
    assert (step.kind, step.data, step.sequence) == (PacketKind.MARK, "clear", 7)


def test_plivos_acknowledgement_with_sequence_0_is_none() -> None:
    text = '{"event":"clearedAudio","sequenceNumber":0,"streamId":"b77e037d"}'
    assert started("plivo").text(text) == [Ignored("clearedAudio")]


def test_an_error_of_telnyx_is_ignored() -> None:
    text = '{"event":"error","stream_id":"32de0dea","payload":{"code":100002}}'
    assert started("telnyx").text(text) == [Ignored("error")]


@pytest.mark.parametrize("vendor", JSON_CALLS)
def test_a_start_without_a_sequence_only_begins(vendor: str) -> None:
    start = message(vendor, "start")
    del start[NUMBERS.get(vendor, "sequenceNumber")]
    assert [type(step) for step in feed(parser(vendor), [start])] == [Begin]


@pytest.mark.parametrize("vendor", WITH_STOP)
def test_a_stop_without_a_sequence_only_ends(vendor: str) -> None:
    stop = message(vendor, "stop")
    del stop[NUMBERS.get(vendor, "sequenceNumber")]
    assert feed(started(vendor), [stop]) == [End()]


@pytest.mark.parametrize(("reason", "ends_call"), [("callended", True), ("stopped", False), (None, False)])
def test_exotel_ends_the_call_only_if_it_says_so(reason: str | None, ends_call: bool) -> None:
    stop = message("exotel", "stop")
    stop["stop"]["reason"] = reason
    assert feed(started("exotel"), [stop])[-1] == End(ends_call)


@pytest.mark.parametrize("vendor", WITH_STOP)
def test_a_stop_that_comes_again_is_ignored_and_late_media_is_taken(vendor: str) -> None:
    made = started(vendor)
    assert made.text(json.dumps(message(vendor, "stop")))
    assert made.text(json.dumps(message(vendor, "stop"))) == [Ignored("stop")]
    assert packets(made.text(json.dumps(message(vendor, "media"))))


@pytest.mark.parametrize("vendor", [v for v in WITH_STOP if v != "signalwire"])
def test_another_stream_stops_without_ending_this_one(vendor: str) -> None:
    made = started(vendor)
    other = message(vendor, "stop") | {STREAMS.get(vendor, "streamSid"): "other"}
    assert made.text(json.dumps(other)) == [Ignored("stop")]
    assert End() in made.text(json.dumps(message(vendor, "stop")))


@pytest.mark.parametrize("vendor", JSON_CALLS)
def test_media_of_another_stream_is_wrong(vendor: str) -> None:
    other = message(vendor, "media") | {STREAMS.get(vendor, "streamSid"): "other"}
    with pytest.raises(WrongMessage, match="another stream"):
        started(vendor).text(json.dumps(other))


@pytest.mark.parametrize("vendor", JSON_CALLS)
def test_the_same_start_again_is_ignored_and_another_is_wrong(vendor: str) -> None:
    made = started(vendor)
    start = json.dumps(message(vendor, "start"))
    assert made.text(start) == [Ignored("start")]
    with pytest.raises(WrongMessage, match="second stream"):
        made.text(start.replace(CALL_IDS[vendor], "other"))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("event", ["media", "dtmf", "mark", "stop"])
def test_nothing_comes_before_the_start(event: str, given: bool) -> None:
    made = parser("twilio", given=given)
    with pytest.raises(WrongMessage, match=f"^{event} came before start$"):
        made.text(json.dumps(message("twilio", event)))


@pytest.mark.parametrize(
    "second", ['{"event":"hello"}', '{"event":"connected"}', '{"event":"start","start":{}}']
)
def test_a_vendor_that_is_not_recognised_can_be_given(second: str) -> None:
    made = parser("twilio")
    made.text('{"event":"connected"}')
    with pytest.raises(WrongMessage, match=r"\?vendor="):
        made.text(second)


def test_a_given_vendor_is_waited_for() -> None:
    made = parser("plivo", given=True)
    assert feed(made, ['{"event":"connected"}'] * 3) == [Ignored("connected")] * 3
    assert packets(feed(made, call_of("plivo")))


def test_a_start_that_is_not_of_the_given_vendor_tells_to_check_it() -> None:
    with pytest.raises(WrongMessage, match=r"check \?vendor="):
        parser("telnyx", given=True).text(json.dumps(message("exotel", "start")))


@pytest.mark.parametrize("vendor", JSON_CALLS)
def test_binary_messages_are_wrong_in_json_streams(vendor: str) -> None:
    with pytest.raises(WrongMessage):
        started(vendor).binary(AUDIO)


@pytest.mark.parametrize("vendor", JSON_CALLS)
def test_two_streams_of_a_call_have_sequences_of_their_own(vendor: str) -> None:
    start = message(vendor, "start")
    other = json.dumps(start).replace(packets(feed(parser(vendor), [start]))[0].stream, "other-stream")
    call = Call(CALL_IDS[vendor])
    told = [call.accept(p)[1] for s in (start, other) for p in packets(feed(parser(vendor), [s]))]
    assert [accepted.is_duplicate for accepted in told] == [False, False]
    assert len(call.streams) == 2


@pytest.mark.parametrize("vendor", EVERY)
def test_20_000_messages_of_one_leg_have_no_gap(vendor: str) -> None:
    made = started(vendor, store_media=False)
    call = Call(CALL_IDS[vendor])
    name = NUMBERS.get(vendor, "sequenceNumber")
    media = message(vendor, "media") if vendor in JSON_CALLS else {}
    for sequence in range(2, 20_002):
        told: str | bytes = json.dumps(media | {name: sequence}) if media else AUDIO
        _, accepted = call.accept(packets(feed(made, [told]))[0])
    assert accepted.sequence == 20_001
    assert list(accepted.gaps) == [(1, 1)]  # the start, which this call was not given


@pytest.mark.parametrize(
    ("vendor", "digit"),
    [
        ("twilio", '{"digit":"2","track":"inbound_track"}'),
        ("signalwire", '{"digit":"2","duration":100}'),
        ("telnyx", "2"),
        ("exotel", '{"digit":"2","duration":"100"}'),
        ("jambonz", '{"digit":"2","duration":"1600"}'),
        ("asterisk", "2"),
        ("vonage", '{"digit":"2","duration":260}'),
    ],
)
def test_a_digit_is_alone_unless_more_is_told(vendor: str, digit: str) -> None:
    found = [p.data for p in packets(feed(parser(vendor), call_of(vendor))) if p.kind is PacketKind.DTMF]
    assert found == [digit]
