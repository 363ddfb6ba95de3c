"""What is refused on the wire, by which error, and in words that never hold the packet's data."""

import traceback

import pytest

from callactors.errors import InputError, InvalidCallId, InvalidFields, InvalidJson
from callactors.packets import (
    MAX_DATA,
    MAX_SEQUENCE,
    CompleteRequest,
    EndReason,
    Packet,
    check_call_id,
    read_complete,
    read_packet,
)

DATA = "bm90IGZvciBsb2dz"


def body(
    *, sequence: str = "1", data: str = f'"{DATA}"', timestamp: str = "1.5", more: str = "", start: str = ""
) -> bytes:
    return f'{start}{{"sequence":{sequence},"data":{data},"timestamp":{timestamp}{more}}}'.encode()


NOT_JSON = {
    "nothing": b"",
    "only a space": b" ",
    "cut off": body()[:-1],
    "trailing bytes": body() + b"x",
    "two packets": body() * 2,
    "trailing comma": body(more=","),
    "raw control character": body(data=f'"{DATA}\n"'),
    "raw NUL": body(data=f'"{DATA}\x00"'),
    "leading zero": body(sequence="01"),
    "5,000 digits": body(sequence="9" * 5_000),
    "1,000 levels deep": body(data="[" * 1_000 + f'"{DATA}"' + "]" * 1_000),
    "not UTF-8": body().replace(DATA.encode(), DATA.encode() + b"\xff"),
    "surrogate in UTF-8": body().replace(DATA.encode(), DATA.encode() + b"\xed\xa0\x80"),
    "lone high surrogate": body(data=rf'"{DATA}\ud800"'),
    "lone low surrogate": body(data=rf'"{DATA}\udc00"'),
    "byte order mark": body(start="\ufeff"),
    "UTF-16": body().decode().encode("utf-16"),
    "UTF-16 without a mark": body().decode().encode("utf-16-le"),
}
NO_PACKET = {
    "array": (f'["{DATA}"]'.encode(), "", "model_type"),
    "string": (f'"{DATA}"'.encode(), "", "model_type"),
    "null": (b"null", "", "model_type"),
    "unknown field": (body(more=f',"strem":"{DATA}"'), "/strem", "extra_forbidden"),
    "unknown field to escape": (body(more=',"a/b~c":1'), "/a~1b~0c", "extra_forbidden"),
    "unknown field of 100 characters": (body(more=f',"{"k" * 100}":1'), "/" + "k" * 64, "extra_forbidden"),
    "sequence true": (body(sequence="true"), "/sequence", "int_type"),
    "sequence 1.0": (body(sequence="1.0"), "/sequence", "int_type"),
    "sequence 1e2": (body(sequence="1e2"), "/sequence", "int_type"),
    "sequence in quotes": (body(sequence='"1"'), "/sequence", "int_type"),
    "sequence null": (body(sequence="null"), "/sequence", "int_type"),
    "sequence NaN": (body(sequence="NaN"), "/sequence", "int_type"),
    "sequence -1": (body(sequence="-1"), "/sequence", "greater_than_equal"),
    "sequence 2^63": (body(sequence=str(2**63)), "/sequence", "less_than_equal"),
    "sequence 2^64": (body(sequence=str(2**64)), "/sequence", "less_than_equal"),
    "timestamp NaN": (body(timestamp="NaN"), "/timestamp", "finite_number"),
    "timestamp Infinity": (body(timestamp="Infinity"), "/timestamp", "finite_number"),
    "timestamp 1e400": (body(timestamp="1e400"), "/timestamp", "finite_number"),
    "timestamp in milliseconds": (body(timestamp="1e12"), "/timestamp", "out_of_range"),
    "timestamp 1e18": (body(timestamp="1e18"), "/timestamp", "out_of_range"),
    "timestamp just after 2099": (body(timestamp="4102444800.001"), "/timestamp", "out_of_range"),
    "timestamp -1e12": (body(timestamp="-1e12"), "/timestamp", "greater_than_equal"),
    "timestamp true": (body(timestamp="true"), "/timestamp", "float_type"),
    "timestamp in quotes": (body(timestamp='"1.5"'), "/timestamp", "float_type"),
    "data null": (body(data="null"), "/data", "string_type"),
    "data 1": (body(data="1"), "/data", "string_type"),
    "data an object": (body(data=f'{{"{DATA}":1}}'), "/data", "string_type"),
    "data with NUL": (body(data=rf'"{DATA}\u0000"'), "/data", "invalid_text"),
    "data too long": (body(data=f'"{DATA.ljust(MAX_DATA + 1)}"'), "/data", "string_too_long"),
    "stream null": (body(more=',"stream":null'), "/stream", "string_type"),
    "stream with NUL": (body(more=r',"stream":"a\u0000"'), "/stream", "invalid_text"),
    "stream too long": (body(more=f',"stream":"{"s" * 129}"'), "/stream", "string_too_long"),
}
NO_COMPLETE = {
    "array": (b"[]", "", "model_type"),
    "unknown field": (b'{"last_sequense":{}}', "/last_sequense", "extra_forbidden"),
    "unknown reason": (b'{"reason":"bored"}', "/reason", "enum"),
    "last_sequence a number": (b'{"last_sequence":5}', "/last_sequence", "dict_type"),
    "last_sequence true": (b'{"last_sequence":{"a":true}}', "/last_sequence/a", "int_type"),
    "last_sequence 1.0": (b'{"last_sequence":{"a":1.0}}', "/last_sequence/a", "int_type"),
    "last_sequence -1": (b'{"last_sequence":{"a":-1}}', "/last_sequence/a", "greater_than_equal"),
    "last_sequence 2^63": (b'{"last_sequence":{"a":%d}}' % 2**63, "/last_sequence/a", "less_than_equal"),
    "metadata an array": (b'{"metadata":[]}', "/metadata", "dict_type"),
    "metadata with NUL": (rb'{"metadata":{"a":[{"b":"\u0000"}]}}', "/metadata", "invalid_text"),
    "metadata with NUL in a key": (rb'{"metadata":{"a\u0000":1}}', "/metadata", "invalid_text"),
    "metadata NaN": (b'{"metadata":{"a":NaN}}', "/metadata", "finite_number"),
    "metadata 1e400": (b'{"metadata":{"a":[1e400]}}', "/metadata", "finite_number"),
}
BAD_CALL_IDS = {
    "empty": "",
    "slash": "a/b",
    "dot dot": "..",
    "first a dot": ".a",
    "first a dash": "-a",
    "NUL": "a\x00b",
    "CRLF": "a\r\nb",
    "newline at the end": "a\n",
    "space": "a b",
    "percent": "%ff",
    "not ASCII": "é",
    "a digit that is not ASCII": "\u0661",
    "129 characters": "a" * 129,
    "5,000 characters": "a" * 5_000,
    "the route stream": "stream",
    "the route complete": "complete",
}


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_refused_with_line_and_column(raw: bytes) -> None:
    with pytest.raises(InvalidJson, match=r"at line \d+ column \d+$"):
        read_packet(raw)


@pytest.mark.parametrize(("raw", "pointer", "code"), NO_PACKET.values(), ids=NO_PACKET)
def test_json_that_is_no_packet_is_refused_with_a_pointer_to_the_field(
    raw: bytes, pointer: str, code: str
) -> None:
    with pytest.raises(InvalidFields) as caught:
        read_packet(raw)
    assert [(error.pointer, error.code) for error in caught.value.errors] == [(pointer, code)]


@pytest.mark.parametrize(("raw", "pointer", "code"), NO_COMPLETE.values(), ids=NO_COMPLETE)
def test_json_that_is_no_complete_is_refused_with_a_pointer_to_the_field(
    raw: bytes, pointer: str, code: str
) -> None:
    with pytest.raises(InvalidFields) as caught:
        read_complete(raw)
    assert [(error.pointer, error.code) for error in caught.value.errors] == [(pointer, code)]


@pytest.mark.parametrize(
    "raw", [*NOT_JSON.values(), *(row[0] for row in NO_PACKET.values())], ids=[*NOT_JSON, *NO_PACKET]
)
def test_data_of_a_refused_packet_is_in_no_text_of_the_error(raw: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_packet(raw)
    error = caught.value
    details = [field.detail for field in error.errors] if isinstance(error, InvalidFields) else []
    assert DATA not in " ".join([repr(error), *details, *traceback.format_exception(error)])


def test_every_missing_field_is_told_at_once() -> None:
    with pytest.raises(InvalidFields) as caught:
        read_packet(b"{}")
    found = {(error.pointer, error.code) for error in caught.value.errors}
    assert found == {("/sequence", "missing"), ("/data", "missing"), ("/timestamp", "missing")}


def test_packet_of_a_thousand_wrong_fields_gets_a_short_answer() -> None:
    with pytest.raises(InvalidFields) as caught:
        read_packet(body(more="".join(f',"k{number}":1' for number in range(1_000))))
    assert len(caught.value.errors) == 20


def test_milliseconds_are_answered_with_the_unit_that_is_meant() -> None:
    with pytest.raises(InvalidFields, match=r"^/timestamp: must be seconds .* not milliseconds$"):
        read_packet(body(timestamp="1700000000000"))


def test_packet_without_a_stream_belongs_to_the_stream_without_a_name() -> None:
    assert read_packet(body()) == Packet(sequence=1, data=DATA, timestamp=1.5, stream="")


@pytest.mark.parametrize("sequence", [0, 1, MAX_SEQUENCE])
def test_sequence_of_63_bits_is_accepted(sequence: int) -> None:
    assert read_packet(body(sequence=str(sequence))).sequence == sequence


@pytest.mark.parametrize("timestamp", ["0", "1700000000", "1700000000.25", "4102444800"])
def test_timestamp_in_seconds_is_accepted_whole_or_not(timestamp: str) -> None:
    assert read_packet(body(timestamp=timestamp)).timestamp == float(timestamp)


@pytest.mark.parametrize(
    "text", ["", "x" * MAX_DATA, "é \U0001f600 \ufeff"], ids=["empty", "longest", "Unicode"]
)
def test_data_is_kept_as_it_was_sent(text: str) -> None:
    assert read_packet(body(data=f'"{text}"')).data == text


def test_complete_without_a_body_has_every_default() -> None:
    default = CompleteRequest(last_sequence={}, reason=EndReason.API, metadata={})
    assert read_complete(b"") == read_complete(b" \n") == read_complete(b"{}") == default


def test_complete_says_the_last_sequences_the_reason_and_metadata() -> None:
    request = read_complete(b'{"last_sequence":{"":3,"a":0},"reason":"busy","metadata":{"a":[1.5,null,"b"]}}')
    assert request.last_sequence == {"": 3, "a": 0}
    assert request.reason is EndReason.BUSY
    assert request.metadata == {"a": [1.5, None, "b"]}


@pytest.mark.parametrize("call_id", BAD_CALL_IDS.values(), ids=BAD_CALL_IDS)
def test_bad_call_id_is_refused(call_id: str) -> None:
    with pytest.raises(InvalidCallId):
        check_call_id(call_id)


@pytest.mark.parametrize("call_id", ["a", "7", "CA-9f.b:c_d", "streams", "completed", "a" * 128])
def test_good_call_id_is_handed_back(call_id: str) -> None:
    assert check_call_id(call_id) == call_id


@pytest.mark.parametrize("reason", ["poison", "idle_timeout", "max_duration"])
def test_a_client_cannot_end_a_call_for_a_reason_of_the_servers(reason: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        read_complete(b'{"reason": "%s"}' % reason.encode())
    assert [error.pointer for error in refused.value.errors] == ["/reason"]
