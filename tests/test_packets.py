"""What is refused on the wire, by which error, and in words that never hold the packet's data."""

import json
import traceback
from collections.abc import Callable

import pytest

from callactors.errors import (
    CallactorsError,
    DataTooLong,
    DuplicateKey,
    InputError,
    InvalidCallId,
    InvalidFields,
    InvalidJson,
    InvalidText,
    InvalidUtf8,
    JsonTooDeep,
)
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
    "sequence -1": (body(sequence="-1"), "/sequence", "out_of_range"),
    "sequence 2^63": (body(sequence=str(2**63)), "/sequence", "out_of_range"),
    "sequence 2^64": (body(sequence=str(2**64)), "/sequence", "out_of_range"),
    "timestamp 1e400": (body(timestamp="1e400"), "/timestamp", "finite_number"),
    "timestamp in milliseconds": (body(timestamp="1e12"), "/timestamp", "out_of_range"),
    "timestamp 1e18": (body(timestamp="1e18"), "/timestamp", "out_of_range"),
    "timestamp just after 2099": (body(timestamp="4102444800.001"), "/timestamp", "out_of_range"),
    "timestamp -1e12": (body(timestamp="-1e12"), "/timestamp", "out_of_range"),
    "timestamp true": (body(timestamp="true"), "/timestamp", "float_type"),
    "timestamp in quotes": (body(timestamp='"1.5"'), "/timestamp", "float_type"),
    "data null": (body(data="null"), "/data", "string_type"),
    "data 1": (body(data="1"), "/data", "string_type"),
    "data an object": (body(data=f'{{"{DATA}":1}}'), "/data", "string_type"),
    "stream null": (body(more=',"stream":null'), "/stream", "string_type"),
    "stream too long": (body(more=f',"stream":"{"s" * 129}"'), "/stream", "string_too_long"),
}
NO_COMPLETE = {
    "array": (b"[]", "", "model_type"),
    "unknown field": (b'{"last_sequense":{}}', "/last_sequense", "extra_forbidden"),
    "unknown reason": (b'{"reason":"bored"}', "/reason", "enum"),
    "last_sequence a number": (b'{"last_sequence":5}', "/last_sequence", "dict_type"),
    "last_sequence true": (b'{"last_sequence":{"a":true}}', "/last_sequence/a", "int_type"),
    "last_sequence 1.0": (b'{"last_sequence":{"a":1.0}}', "/last_sequence/a", "int_type"),
    "last_sequence -1": (b'{"last_sequence":{"a":-1}}', "/last_sequence/a", "out_of_range"),
    "last_sequence 2^63": (b'{"last_sequence":{"a":%d}}' % 2**63, "/last_sequence/a", "out_of_range"),
    "metadata an array": (b'{"metadata":[]}', "/metadata", "dict_type"),
    "metadata 1e400": (b'{"metadata":{"a":[1e400]}}', "/metadata", "finite_number"),
}
NO_JSON_OF_OURS = {
    "5,000 digits": (body(sequence="9" * 5_000), InvalidJson),
    "sequence NaN": (body(sequence="NaN"), InvalidJson),
    "timestamp Infinity": (body(timestamp="Infinity"), InvalidJson),
    "timestamp -Infinity": (body(timestamp="-Infinity"), InvalidJson),
    "NaN that comes twice": (body(more=',"timestamp":NaN'), InvalidJson),
    "33 levels": (body(data="[" * 32 + "]" * 32), JsonTooDeep),
    "1,000 levels": (body(data="[" * 1_000 + f'"{DATA}"' + "]" * 1_000), JsonTooDeep),
    "100,000 levels": (body(data='{"a":' * 100_000), JsonTooDeep),
    "not UTF-8": (body().replace(DATA.encode(), DATA.encode() + b"\xff"), InvalidUtf8),
    "surrogate in UTF-8": (body().replace(DATA.encode(), DATA.encode() + b"\xed\xa0\x80"), InvalidUtf8),
    "NUL in two bytes": (body().replace(DATA.encode(), b"\xc0\x80"), InvalidUtf8),
}
TWICE = {
    "same value": (body(more=',"sequence":1'), "/sequence"),
    "other value": (body(more=',"data":"b"'), "/data"),
    "wrong before right": (body().replace(b"{", b'{"sequence":[],', 1), "/sequence"),
    "one of them escaped": (body(more=r',"sequ\u0065nce":2'), "/sequence"),
    "stream": (body(more=',"stream":"a","stream":""'), "/stream"),
    "behind escaped quotes": (body(data=r'"\"\\"', more=',"data":"b"'), "/data"),
    "behind a backslash": (body(data=r'"\\"', more=r',"data":"\"\\\""'), "/data"),
    "with two backslashes": (body(data=r'"\\"', more=r',"stream":"\\","sequence":1'), "/sequence"),
    "in a field": (body(data=f'[{{"a/":"{DATA}","a/":2}}]'), "/data/0/a~1"),
    "unknown": (body(more=',"a":1,"a":1'), "/a"),
}
NO_TEXT = {
    "data with NUL": (body(data=rf'"{DATA}\u0000"'), "/data"),
    "data with half a pair": (body(data=rf'"{DATA}\ud800"'), "/data"),
    "data with the other half": (body(data=rf'"{DATA}\uDFFF"'), "/data"),
    "halves in the wrong order": (body(data=r'"\udc00\ud800"'), "/data"),
    "stream with NUL": (body(more=r',"stream":"a\u0000"'), "/stream"),
    "key with NUL": (body(more=r',"a\u0000":1'), "/a\x00"),
    "key with half a pair": (body(more=r',"a\ud800":1'), "/a?"),
}
NO_COMPLETE_JSON = {
    "metadata NaN": (b'{"metadata":{"a":NaN}}', InvalidJson),
    "metadata 33 levels deep": (b'{"metadata":{"a":' + b"[" * 31 + b"]" * 31 + b"}}", JsonTooDeep),
    "reason twice": (b'{"reason":"api","reason":"api"}', DuplicateKey),
    "metadata with a key twice": (b'{"metadata":{"a":[{"b":1,"b":1}]}}', DuplicateKey),
    "metadata with NUL": (rb'{"metadata":{"a":[{"b":"\u0000"}]}}', InvalidText),
    "metadata with NUL in a key": (rb'{"metadata":{"a\u0000":1}}', InvalidText),
    "metadata with half a pair": (rb'{"metadata":{"a":"\ud800"}}', InvalidText),
    "last_sequence of a stream with NUL": (rb'{"last_sequence":{"\u0000":1}}', InvalidText),
    "not UTF-8": (b'{"metadata":{"a":"\xff"}}', InvalidUtf8),
    "UTF-16": ('{"reason":"api"}'.encode("utf-16"), InvalidJson),
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


@pytest.mark.parametrize(("raw", "error"), NO_JSON_OF_OURS.values(), ids=NO_JSON_OF_OURS)
def test_json_that_others_take_is_refused(raw: bytes, error: type[CallactorsError]) -> None:
    with pytest.raises(InputError) as caught:
        read_packet(raw)
    assert type(caught.value) is error


@pytest.mark.parametrize(("raw", "pointer"), TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("make", [bytes, bytes.decode], ids=["bytes", "text"])
def test_a_key_that_is_there_twice_is_pointed_at(
    raw: bytes, pointer: str, make: Callable[[bytes], bytes | str]
) -> None:
    with pytest.raises(DuplicateKey) as caught:
        read_packet(make(raw))
    assert [error.pointer for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize(("raw", "pointer"), NO_TEXT.values(), ids=NO_TEXT)
def test_text_that_cannot_be_stored_is_pointed_at(raw: bytes, pointer: str) -> None:
    with pytest.raises(InvalidText) as caught:
        read_packet(raw)
    assert [error.pointer for error in caught.value.errors] == [pointer]


@pytest.mark.parametrize(("raw", "error"), NO_COMPLETE_JSON.values(), ids=NO_COMPLETE_JSON)
def test_a_complete_is_read_as_strictly(raw: bytes, error: type[CallactorsError]) -> None:
    with pytest.raises(InputError) as caught:
        read_complete(raw)
    assert type(caught.value) is error


@pytest.mark.parametrize("length", [MAX_DATA + 1, 1_000_000])
def test_data_that_is_too_long_is_too_large(length: int) -> None:
    with pytest.raises(DataTooLong) as caught:
        read_packet(body(data=f'"{"x" * length}"'))
    assert [error.pointer for error in caught.value.errors] == ["/data"]


@pytest.mark.parametrize("data", [r'"\""', r'"\\"', r'"\\\""', r'"\\\\"', r'"\":\",\""', r'"\u0022"'])
@pytest.mark.parametrize("stream", ["", r',"stream":""', r',"stream":"\\\""'])
def test_quotes_and_backslashes_in_data_are_no_keys(data: str, stream: str) -> None:
    assert read_packet(body(data=data, more=stream)).data == json.loads(data)


def test_metadata_may_be_32_levels_deep() -> None:
    raw = b'{"metadata":{"a":' + b"[" * 30 + b"]" * 30 + b"}}"
    assert read_complete(raw).metadata == json.loads(raw)["metadata"]


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
    "raw",
    [
        *NOT_JSON.values(),
        *(row[0] for rows in (NO_JSON_OF_OURS, TWICE, NO_TEXT, NO_PACKET) for row in rows.values()),
    ],
    ids=[*NOT_JSON, *NO_JSON_OF_OURS, *TWICE, *NO_TEXT, *NO_PACKET],
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
