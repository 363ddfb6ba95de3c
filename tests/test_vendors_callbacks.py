"""What vendors' callbacks come down to, and that a wrong one is refused, whatever is wrong with it."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from callactors.packets import EndReason, check_call_id
from callactors.strict_json import read_json
from callactors.vendors.bodies import MAX_FIELDS
from callactors.vendors.callbacks import MAX_TEXT, VENDORS, read_callback
from callactors.vendors.steps import Status, WrongCallback
from tests.fuzz import BODIES, fuzz

FORM = "application/x-www-form-urlencoded"
JSON = "application/json; charset=utf-8"
CALL = "CA1234567890ABCDE"
TWILIO = {
    "CallSid": CALL,
    "AccountSid": "AC1",
    "From": "+14158675309",
    "To": "+18005551212",
    "CallStatus": "completed",
    "Direction": "outbound-api",
    "CallDuration": "12",
    "SipResponseCode": "200",
    "Timestamp": "Tue, 24 Nov 2026 10:00:00 +0000",
    "CallbackSource": "call-progress-events",
    "SequenceNumber": "3",
    "RecordingUrl": "https://api.twilio.com/secret",
    "AnsweredBy": "",
}
TEXML = {
    "AccountSid": "cb6cfbbc",
    "CallDuration": "2",
    "CallSid": "v2:7V3r4VFCGLTzKLOveE0-7vM9dX17-NRQgU1byo-uuOIX9JcDadLLKw",
    "CallStatus": "completed",
    "From": "+18445931290",
    "HangupSource": "callee",
    "SequenceNumber": "0",
    "Timestamp": "2021-04-28 21:51:18.731479Z",
}
STREAM = {
    "CallSid": CALL,
    "StreamSid": "MZ1",
    "StreamName": "s",
    "StreamEvent": "stream-error",
    "StreamError": "31921",
    "Timestamp": "2026-11-24T10:00:00Z",
}
PLIVO = {
    "CallUUID": "8c9b-1",
    "CallStatus": "completed",
    "Event": "Hangup",
    "HangupCauseName": "Normal Hangup",
}
PLIVO_STREAM = {"CallUUID": "8c9b-1", "Event": "DroppedStream", "StreamID": "s1", "Timestamp": "10:00"}
JAMBONZ = {
    "call_sid": "c0ffee",
    "direction": "inbound",
    "from": "+1",
    "to": "+2",
    "call_status": "completed",
    "sip_status": 200,
    "duration": 12,
    "customer_data": {"a": [1]},
}
VONAGE = {
    "uuid": "aaaa-1",
    "conversation_uuid": "CON-1",
    "status": "completed",
    "from": "442079460000",
    "to": "447700900000",
    "duration": "2",
    "timestamp": "2026-11-24T10:00:00.000Z",
}
TELNYX_CALL = "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg"


def telnyx(
    event_type: str = "call.hangup", *, data: dict[str, Any] | None = None, **payload: Any
) -> dict[str, Any]:
    told = {"call_control_id": TELNYX_CALL, "from": "+35319605860", "client_state": "aGF2", **payload}
    data = (
        {"record_type": "event", "id": "0ccc", "occurred_at": "2026-11-24T10:00:00Z"}
        if data is None
        else data
    )
    return {"data": {"event_type": event_type, "payload": told, **data}}


SAMPLES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "form": [
        *(("twilio", form) for form in (TWILIO, STREAM)),
        *(("texml", TEXML), ("signalwire", TWILIO), ("plivo", PLIVO), ("plivo", PLIVO_STREAM)),
        ("jambonz", {"call_sid": "c0ffee", "call_status": "busy"}),
    ],
    "json": [("telnyx", telnyx()), ("jambonz", JAMBONZ), ("vonage", VONAGE)],
}


def read(vendor: str, fields: dict[str, Any], **changed: Any) -> Status | None:
    fields = {**fields, **changed}
    if vendor in ("telnyx", "vonage", "jambonz"):
        return read_callback(vendor, JSON, json.dumps(fields).encode())
    return read_callback(vendor, FORM, urlencode(fields).encode())


def told(vendor: str, fields: dict[str, Any], **changed: Any) -> Status:
    status = read(vendor, fields, **changed)
    assert status is not None
    return status


def test_a_status_of_twilio_is_told_with_its_numbers_and_without_what_nobody_asked_for() -> None:
    assert told("twilio", TWILIO) == Status(
        call_id=CALL,
        vendor="twilio",
        status="completed",
        key="3:completed",
        ends=EndReason.PROVIDER,
        detail={
            "from": "+14158675309",
            "to": "+18005551212",
            "direction": "outbound-api",
            "timestamp": "Tue, 24 Nov 2026 10:00:00 +0000",
            "sequence": "3",
            "duration": "12",
            "sip_code": "200",
        },
    )


ENDS = [
    *(
        ("twilio", TWILIO, "CallStatus", word, None)
        for word in ("queued", "initiated", "ringing", "in-progress")
    ),
    ("twilio", TWILIO, "CallStatus", "busy", EndReason.BUSY),
    ("twilio", TWILIO, "CallStatus", "no-answer", EndReason.NO_ANSWER),
    ("twilio", TWILIO, "CallStatus", "failed", EndReason.FAILED),
    ("twilio", TWILIO, "CallStatus", "canceled", EndReason.CANCELED),
    ("twilio", TWILIO, "CallStatus", "a-new-one", None),
    ("texml", TEXML, "CallStatus", "completed", EndReason.PROVIDER),
    ("signalwire", TWILIO, "CallStatus", "busy", EndReason.BUSY),
    ("plivo", PLIVO, "CallStatus", "completed", EndReason.PROVIDER),
    ("plivo", PLIVO, "CallStatus", "timeout", EndReason.NO_ANSWER),
    ("plivo", PLIVO, "CallStatus", "cancel", EndReason.CANCELED),
    ("plivo", PLIVO, "CallStatus", "ringing", None),
    *(("jambonz", JAMBONZ, "call_status", word, None) for word in ("trying", "early-media", "in-progress")),
    ("jambonz", JAMBONZ, "call_status", "completed", EndReason.PROVIDER),
    ("jambonz", JAMBONZ, "call_status", "no-answer", EndReason.NO_ANSWER),
    ("jambonz", JAMBONZ, "call_status", "busy", EndReason.BUSY),
    ("jambonz", JAMBONZ, "call_status", "failed", EndReason.FAILED),
    *(
        ("vonage", VONAGE, "status", word, None)
        for word in ("started", "answered", "machine", "disconnected")
    ),
    ("vonage", VONAGE, "status", "completed", EndReason.PROVIDER),
    ("vonage", VONAGE, "status", "busy", EndReason.BUSY),
    ("vonage", VONAGE, "status", "timeout", EndReason.NO_ANSWER),
    ("vonage", VONAGE, "status", "unanswered", EndReason.NO_ANSWER),
    ("vonage", VONAGE, "status", "cancelled", EndReason.CANCELED),
    ("vonage", VONAGE, "status", "rejected", EndReason.FAILED),
    ("vonage", VONAGE, "status", "failed", EndReason.FAILED),
]


@pytest.mark.parametrize(("vendor", "fields", "name", "word", "ends"), ENDS)
def test_the_vendors_word_says_whether_and_why_a_call_ended(
    vendor: str, fields: dict[str, Any], name: str, word: str, ends: EndReason | None
) -> None:
    status = told(vendor, fields, **{name: word})
    assert (status.vendor, status.status, status.ends) == (vendor, word, ends)


@pytest.mark.parametrize(
    ("cause", "ends"),
    [
        ("normal_clearing", EndReason.PROVIDER),
        ("time_limit", EndReason.PROVIDER),
        ("unspecified", EndReason.PROVIDER),
        ("a_new_one", EndReason.PROVIDER),
        (None, EndReason.PROVIDER),
        ("user_busy", EndReason.BUSY),
        ("no_answer", EndReason.NO_ANSWER),
        ("timeout", EndReason.NO_ANSWER),
        ("originator_cancel", EndReason.CANCELED),
        ("call_rejected", EndReason.FAILED),
        ("not_found", EndReason.FAILED),
    ],
)
def test_a_hangup_of_telnyx_has_failed_only_if_its_cause_says_so(cause: str | None, ends: EndReason) -> None:
    status = told("telnyx", telnyx(hangup_cause=cause))
    assert (status.status, status.ends, status.key) == ("call.hangup", ends, "0ccc")
    assert status.call_id == TELNYX_CALL


def test_a_cause_ends_no_call_that_has_not_been_hung_up() -> None:
    assert told("telnyx", telnyx("call.bridged", hangup_cause="user_busy")).ends is None


@pytest.mark.parametrize(
    ("vendor", "fields"),
    [
        ("twilio", {"CallSid": CALL, "RecordingStatus": "completed", "RecordingSid": "RE1"}),
        ("twilio", {}),
        ("plivo", {"CallUUID": "8c9b-1", "Event": "PlayedStream"}),
        ("telnyx", telnyx("call.dtmf.received", digit="1")),
        ("telnyx", telnyx("message.received")),
        ("telnyx", {"data": {"event_type": "call.conversation_insights.generated"}}),
        ("jambonz", {"call_sid": "c0ffee", "queue_sid": "q"}),
        ("vonage", {"uuid": "aaaa-1", "dtmf": {"digits": "1"}}),
        ("vonage", {"conversation_uuid_from": "CON-1", "type": "transfer"}),
    ],
)
def test_what_is_not_of_a_calls_state_is_none(vendor: str, fields: dict[str, Any]) -> None:
    assert read(vendor, fields) is None


def test_the_end_of_a_stream_is_told_and_the_call_goes_on() -> None:
    status = told("twilio", STREAM)
    assert (status.status, status.ends) == ("stream-error", None)
    assert (status.detail["stream"], status.detail["error"]) == ("MZ1", "31921")
    status = told("plivo", {**PLIVO_STREAM, "CallStatus": "completed"})
    assert (status.status, status.ends, status.detail["stream"]) == ("DroppedStream", None, "s1")


def test_a_repeat_has_the_same_key_and_another_callback_another() -> None:
    keys = {
        told(vendor, fields, **changed).key
        for vendor, fields, changed in (
            ("twilio", TWILIO, {}),
            ("twilio", TWILIO, {"AccountSid": "AC2", "Timestamp": "later"}),
            ("twilio", TWILIO, {"SequenceNumber": "4"}),
            ("twilio", TWILIO, {"CallStatus": "ringing"}),
            ("twilio", TWILIO, {"SequenceNumber": ""}),
            ("twilio", TWILIO, {"SequenceNumber": "", "Timestamp": "2021-04-28 21:51:18.731479Z"}),
            ("twilio", TWILIO, {"SequenceNumber": "", "Timestamp": ""}),
            ("twilio", STREAM, {}),
            ("twilio", STREAM, {"StreamSid": "MZ2"}),
        )
    }
    assert len(keys) == 8
    assert told("twilio", TWILIO, SequenceNumber="0").key == "0:completed"


def test_keys_of_the_others_are_of_what_they_send_to_tell_callbacks_apart() -> None:
    assert told("telnyx", telnyx(data={"occurred_at": "10:00"})).key == "10:00:call.hangup"
    assert told("jambonz", JAMBONZ).key == "completed"
    assert told("jambonz", JAMBONZ, msgid="m1").key == "m1:completed"
    assert told("vonage", VONAGE).key == "2026-11-24T10:00:00.000Z:completed"
    assert told("plivo", PLIVO).key == "Hangup:completed"


def test_vonages_machine_detection_has_its_own_name_for_the_call() -> None:
    fields = {"call_uuid": "bbbb-1", "status": "machine", "sub_state": "beep_start", "timestamp": "10:00"}
    status = told("vonage", fields)
    assert (status.call_id, status.key) == ("bbbb-1", "10:00:machine:beep_start")


def test_numbers_stay_numbers_and_what_is_nested_is_left_out() -> None:
    detail = told("jambonz", JAMBONZ, sip_reason=["OK"]).detail
    assert detail == {
        "from": "+1",
        "to": "+2",
        "direction": "inbound",
        "sip_code": 200,
        "duration": 12,
    }


def test_long_text_is_cut_in_the_detail_and_in_the_key() -> None:
    status = told("twilio", TWILIO, From="é" * 10_000, SequenceNumber="9" * 10_000)
    assert status.detail["from"] == "é" * MAX_TEXT
    assert len(status.key) < 200


WRONG = {
    "no content type": ("twilio", "", urlencode(TWILIO).encode()),
    "other content type": ("twilio", "multipart/form-data", urlencode(TWILIO).encode()),
    "unknown vendor": ("acme", FORM, urlencode(TWILIO).encode()),
    "form with a field twice": ("twilio", FORM, urlencode(TWILIO).encode() + b"&CallStatus=failed"),
    "form without =": ("twilio", FORM, urlencode(TWILIO).encode() + b"&x"),
    "form with NUL": ("twilio", FORM, urlencode({**TWILIO, "From": "\x00"}).encode()),
    "form with NUL in a name": ("twilio", FORM, urlencode({**TWILIO, "\x00": ""}).encode()),
    "form with a surrogate": ("twilio", FORM, urlencode(TWILIO).encode() + b"&x=%ed%a0%80"),
    "form in Latin-1": ("twilio", FORM, urlencode(TWILIO).encode() + b"&x=%e9"),
    "form with raw bytes": ("twilio", FORM, urlencode(TWILIO).encode() + b"&x=\xc3\xa9"),
    "form of many fields": ("twilio", FORM, b"&".join(b"%d=" % n for n in range(MAX_FIELDS + 1))),
    "form without a call": ("twilio", FORM, b"CallStatus=ringing"),
    "form with a reserved call": ("twilio", FORM, b"CallStatus=ringing&CallSid=stream"),
    "form with a path for a call": ("plivo", FORM, b"CallStatus=ringing&CallUUID=..%2Fa"),
    "long status": ("twilio", FORM, b"CallSid=a&CallStatus=" + b"x" * 65),
    "empty JSON": ("telnyx", JSON, b""),
    "JSON array": ("telnyx", JSON, b"[]"),
    "no data": ("telnyx", JSON, b"{}"),
    "data an array": ("telnyx", JSON, b'{"data":[]}'),
    "no payload": ("telnyx", JSON, b'{"data":{"event_type":"call.hangup"}}'),
    "event type an object": ("telnyx", JSON, b'{"data":{"event_type":{}}}'),
    "id true": ("telnyx", JSON, json.dumps(telnyx(data={"id": True})).encode()),
    "NaN": ("vonage", JSON, b'{"uuid":"a","status":"busy","duration":NaN}'),
    "1e400": ("vonage", JSON, b'{"uuid":"a","status":"busy","duration":1e400}'),
    "2^63": ("vonage", JSON, b'{"uuid":"a","status":"busy","duration":%d}' % 2**63),
    "5,000 digits": ("vonage", JSON, b'{"uuid":"a","status":"busy","x":%s}' % (b"9" * 5_000)),
    "status true": ("vonage", JSON, b'{"uuid":"a","status":true}'),
    "deep": ("vonage", JSON, b'{"uuid":"a","status":"busy","x":' + b"[" * 100_000),
    "JSON with a key twice": ("vonage", JSON, b'{"uuid":"a","status":"busy","status":"busy"}'),
    "JSON with NUL": ("vonage", JSON, rb'{"uuid":"a","status":"busy","from":"\u0000"}'),
    "JSON with half a pair": ("vonage", JSON, rb'{"uuid":"a","status":"busy","from":"\ud800"}'),
    "JSON not UTF-8": ("vonage", JSON, b'{"uuid":"a","status":"\xff"}'),
}


@pytest.mark.parametrize(("vendor", "content_type", "body"), WRONG.values(), ids=WRONG)
def test_a_wrong_callback_is_refused(vendor: str, content_type: str, body: bytes) -> None:
    with pytest.raises(WrongCallback):
        read_callback(vendor, content_type, body)


def test_a_refusal_repeats_nothing_of_the_callback() -> None:
    for body in (b"CallSid=%2Bsecret&CallStatus=busy", b"secret", b"secret=1&secret=2"):
        with pytest.raises(WrongCallback) as refused:
            read_callback("twilio", FORM, body)
        assert "secret" not in f"{refused.value!r} {refused.value.__cause__!r}"


TEXTS = st.text(max_size=600) | st.sampled_from(["", "\x00", "x" * 70, CALL, "completed", "stream-stopped"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def check(vendor: str, content_type: str, body: bytes) -> None:
    try:
        status = read_callback(vendor, content_type, body)
    except WrongCallback:
        event("refused")
        return
    event("none" if status is None else "told")
    if status is None:
        return
    assert check_call_id(status.call_id) == status.call_id
    assert status.vendor == vendor
    assert 0 < len(status.status) <= 64
    assert 0 < len(status.key) < 200
    assert len(status.detail) <= 20
    for value in status.detail.values():
        assert isinstance(value, int | float) or len(value) <= MAX_TEXT
    assert read_json(json.dumps(status._asdict(), allow_nan=False))


@fuzz(500)
@given(st.sampled_from(sorted(VENDORS)), st.sampled_from([FORM, JSON, ""]), st.binary() | BODIES)
def test_whatever_comes_is_told_or_refused(vendor: str, content_type: str, body: bytes) -> None:
    check(vendor, content_type, body)


@fuzz(700)
@given(st.sampled_from(SAMPLES["form"]), st.data())
def test_a_changed_form_is_told_or_refused(sample: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    vendor, fields = sample
    name = data.draw(st.sampled_from(sorted(fields)))
    check(vendor, FORM, urlencode({**fields, name: data.draw(TEXTS)}).encode())


@fuzz(700)
@given(st.sampled_from(SAMPLES["json"]), st.data())
def test_changed_json_is_told_or_refused(sample: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    vendor, fields = sample
    changed = json.loads(json.dumps(fields))
    place = changed["data"] if vendor == "telnyx" else changed
    place = place["payload"] if vendor == "telnyx" and data.draw(st.booleans()) else place
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(VALUES)
    check(vendor, JSON, json.dumps(changed).encode())


@fuzz(500)
@given(st.sampled_from(SAMPLES["json"] + SAMPLES["form"]), st.data())
def test_a_callback_with_other_bytes_in_it_is_told_or_refused(
    sample: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    vendor, fields = sample
    is_json = sample in SAMPLES["json"]
    body = json.dumps(fields).encode() if is_json else urlencode(fields).encode()
    start = data.draw(st.integers(0, len(body)))
    mutated = body[:start] + data.draw(st.binary(max_size=4)) + body[start + data.draw(st.integers(0, 4)) :]
    check(vendor, JSON if is_json else FORM, mutated)
