"""Media streams of vendors that break their own rules: WrongMessage, and never another exception."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callactors.packets import MAX_DATA, MAX_SEQUENCE
from callactors.vendors.steps import Begin, WrongMessage
from tests.fuzz import VALUES, fuzz
from tests.vendor_fixtures import EVERY, PAYLOAD, call_of, feed, message, packets, parser, started

BAD_PARTS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "no sequence": ("media", lambda m: m.pop("sequenceNumber")),
    "sequence true": ("media", lambda m: m.update(sequenceNumber=True)),
    "sequence 1.0": ("media", lambda m: m.update(sequenceNumber=1.0)),
    "sequence -1": ("media", lambda m: m.update(sequenceNumber=-1)),
    "sequence -1 in quotes": ("media", lambda m: m.update(sequenceNumber="-1")),
    "sequence 2^63": ("media", lambda m: m.update(sequenceNumber=MAX_SEQUENCE + 1)),
    "sequence 2^63 in quotes": ("media", lambda m: m.update(sequenceNumber=str(MAX_SEQUENCE + 1))),
    "sequence of 5,000 digits": ("media", lambda m: m.update(sequenceNumber="9" * 5_000)),
    "sequence of other digits": ("media", lambda m: m.update(sequenceNumber="\u0661")),
    "sequence empty": ("media", lambda m: m.update(sequenceNumber="")),
    "no media": ("media", lambda m: m.pop("media")),
    "media a text": ("media", lambda m: m.update(media=PAYLOAD)),
    "no payload": ("media", lambda m: m["media"].pop("payload")),
    "payload no base64": ("media", lambda m: m["media"].update(payload="no!")),
    "payload in lines": ("media", lambda m: m["media"].update(payload="YWJj\nYWJj")),
    "payload not padded": ("media", lambda m: m["media"].update(payload="YQ")),
    "payload not ASCII": ("media", lambda m: m["media"].update(payload="é")),
    "payload half a pair": ("media", lambda m: m["media"].update(payload="\ud800")),
    "payload too long": ("media", lambda m: m["media"].update(payload="AAAA" * (MAX_DATA // 4 + 1))),
    "track with a quote": ("media", lambda m: m["media"].update(track='a"b')),
    "track a number": ("media", lambda m: m["media"].update(track=1)),
    "timestamp no number": ("media", lambda m: m["media"].update(timestamp="soon")),
    "timestamp true": ("media", lambda m: m["media"].update(timestamp=True)),
    "timestamp NaN in quotes": ("media", lambda m: m["media"].update(timestamp="NaN")),
    "timestamp NaN": ("media", lambda m: m["media"].update(timestamp=float("nan"))),
    "timestamp infinite": ("media", lambda m: m["media"].update(timestamp="1e400")),
    "timestamp negative": ("media", lambda m: m["media"].update(timestamp=-1)),
    "timestamp of 400 digits": ("media", lambda m: m["media"].update(timestamp=10**400)),
    "timestamp an object": ("media", lambda m: m["media"].update(timestamp={})),
    "no digit": ("dtmf", lambda m: m["dtmf"].pop("digit")),
    "digit with NUL": ("dtmf", lambda m: m["dtmf"].update(digit="1\x00")),
    "digit a number": ("dtmf", lambda m: m["dtmf"].update(digit=1)),
    "duration NaN": ("dtmf", lambda m: m["dtmf"].update(duration=float("nan"))),
    "duration no number": ("dtmf", lambda m: m["dtmf"].update(duration="long")),
    "mark without a name": ("mark", lambda m: m["mark"].pop("name")),
    "mark with NUL": ("mark", lambda m: m["mark"].update(name="a\x00")),
    "mark with half a pair": ("mark", lambda m: m["mark"].update(name="\ud800")),
    "event a number": ("mark", lambda m: m.update(event=1)),
    "no event": ("mark", lambda m: m.pop("event")),
}
BAD_STARTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no call": lambda m: m["start"].pop("callSid"),
    "call with a slash": lambda m: m["start"].update(callSid="a/b"),
    "call a reserved word": lambda m: m["start"].update(callSid="stream"),
    "call a number": lambda m: m["start"].update(callSid=1),
    "stream empty": lambda m: (m.update(streamSid=""), m["start"].update(streamSid="")),
    "stream too long": lambda m: m["start"].update(streamSid="s" * 129),
    "stream with NUL": lambda m: m["start"].update(streamSid="a\x00"),
    "stream with half a pair": lambda m: m["start"].update(streamSid="\ud800"),
    "sequence a text": lambda m: m.update(sequenceNumber="first"),
    "parameter with NUL": lambda m: m["start"]["customParameters"].update(a="\x00"),
    "parameter with half a pair": lambda m: m["start"]["customParameters"].update(a="\ud800"),
    "parameter NaN": lambda m: m["start"]["customParameters"].update(a=float("nan")),
    "start a text": lambda m: m.update(start="now"),
}
NO_OBJECTS = {
    "nothing": "",
    "array": "[]",
    "text": '"start"',
    "cut off": '{"event":"media"',
    "NaN": '{"event":"media","a":NaN}',
    "Infinity": '{"event":"media","a":-Infinity}',
    "5,000 digits": '{"event":"media","a":' + "9" * 5_000 + "}",
    "deep": '{"event":"media","a":' + "[" * 200_000,
    "byte order mark": '\ufeff{"event":"media"}',
    "raw NUL": '{"event":"media\x00"}',
}


@pytest.mark.parametrize(("event", "spoil"), BAD_PARTS.values(), ids=BAD_PARTS)
def test_a_message_with_a_wrong_part_is_wrong_and_the_next_is_read(
    event: str, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    made, bad = started("twilio"), message("twilio", event)
    spoil(bad)
    with pytest.raises(WrongMessage):
        made.text(json.dumps(bad))
    assert packets(made.text(json.dumps(message("twilio", "dtmf"))))[0].timestamp == 0.0


@pytest.mark.parametrize("spoil", BAD_STARTS.values(), ids=BAD_STARTS)
def test_a_wrong_start_begins_nothing(spoil: Callable[[dict[str, Any]], Any]) -> None:
    made, bad = parser("twilio", given=True), message("twilio", "start")
    spoil(bad)
    with pytest.raises(WrongMessage):
        made.text(json.dumps(bad))
    assert feed(made, [message("twilio", "start")])


def test_a_number_of_the_metadata_must_be_finite() -> None:
    text = json.dumps(message("twilio", "start")).replace('"sales"', "1e400")
    with pytest.raises(WrongMessage, match="not finite"):
        parser("twilio").text(text)


@pytest.mark.parametrize("text", NO_OBJECTS.values(), ids=NO_OBJECTS)
@pytest.mark.parametrize("vendor", ["twilio", "vonage", "asterisk"])
def test_what_is_no_json_object_is_wrong(vendor: str, text: str) -> None:
    for made in (parser(vendor), started(vendor)):
        with pytest.raises(WrongMessage):
            made.text(text)


def test_the_text_of_an_error_repeats_nothing() -> None:
    bad = message("twilio", "media")
    bad["media"]["payload"] = "secret!"
    with pytest.raises(WrongMessage) as caught:
        started("twilio").text(json.dumps(bad))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([PAYLOAD, "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoiled(draw: st.DrawFn) -> tuple[str, list[str | bytes]]:
    """A vendor's call, in which some values, at any depth, are others."""
    vendor = draw(st.sampled_from(EVERY))
    messages = call_of(vendor)
    for place in draw(st.lists(st.integers(0, len(messages) - 1), min_size=1, max_size=4, unique=True)):
        message = messages[place]
        if isinstance(message, bytes) or message[:1] != "{" or draw(st.integers(0, 9)) == 0:
            messages[place] = draw(st.text(max_size=20) | st.binary(max_size=20) | st.sampled_from(messages))
            continue
        fields = json.loads(message)
        inner = fields
        while nested := [v for v in inner.values() if isinstance(v, dict) and v]:
            if draw(st.booleans()):
                break
            inner = draw(st.sampled_from(nested))
        inner[draw(st.sampled_from(sorted(inner) or ["a"]))] = "@"
        value = draw(_JSON.map(json.dumps) | st.sampled_from(VALUES))
        messages[place] = json.dumps(fields).replace('"@"', value)
    return vendor, messages


@fuzz(600)
@given(spoiled(), st.booleans(), st.booleans())
def test_no_message_raises_anything_else(
    call: tuple[str, list[str | bytes]], given: bool, store_media: bool
) -> None:
    vendor, messages = call
    made = parser(vendor, given=given, store_media=store_media)
    for told in messages:
        try:
            steps = feed(made, [told])
        except WrongMessage:
            continue
        for step in steps:
            if isinstance(step, Begin):
                json.dumps(step.metadata, allow_nan=False, ensure_ascii=False).encode()


@fuzz(200)
@given(_JSON.map(json.dumps) | st.sampled_from(VALUES) | st.text(), st.sampled_from(EVERY), st.booleans())
def test_no_text_raises_anything_else(text: str, vendor: str, is_first: bool) -> None:
    made = parser(vendor) if is_first else started(vendor)
    try:
        made.text(text)
    except WrongMessage:
        return
