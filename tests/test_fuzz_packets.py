"""The reader of packets beside a second one written apart from it: both take the same, and no more."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from callactors.errors import InputError
from callactors.packets import CompleteRequest, Packet, read_complete, read_packet
from callactors.strict_json import read_json
from callactors.web.problems import describe
from tests.fuzz import BODIES, KEYS, VALUES, fuzz
from tests.reference import Wrong, parse_json, parse_packet

PLAIN = b'{"sequence":1,"data":"x","timestamp":1}'


def refer(body: bytes) -> Packet | None:
    """Return the packet that the other reader finds."""
    try:
        sequence, data, timestamp, stream = parse_packet(body)
    except Wrong:
        return None
    return Packet(sequence=sequence, data=data, timestamp=timestamp, stream=stream)


def read(body: bytes | str) -> Packet | None:
    try:
        return read_packet(body)
    except InputError as error:
        told = describe(error)
        json.dumps(told).encode("ascii")
        event(told["type"])
        return None


def attempt(reader: Callable[[bytes], Any], body: bytes, refusal: type[Exception]) -> Any:
    try:
        return reader(body)
    except refusal:
        return Wrong


@fuzz(1_500)
@given(BODIES)
@example(PLAIN)
@example(PLAIN.replace(b"1,", b'1,"sequence":1,', 1))
@example(PLAIN.replace(b"1,", b'1,"sequ\\u0065nce":1,', 1))
def test_a_packet_is_taken_if_and_only_if_the_other_reader_takes_it(body: bytes) -> None:
    wanted = refer(body)
    assert read(body) == wanted
    event("taken" if wanted else "refused")


@fuzz(700)
@given(BODIES, st.text(max_size=20))
def test_text_is_taken_as_its_bytes_are(body: bytes, text: str) -> None:
    for sent in (body.decode(errors="replace"), text):
        assert read(sent) == refer(sent.encode())


@fuzz(500)
@given(st.text(alphabet=st.characters(), max_size=20))
def test_half_a_pair_in_text_is_refused_and_told(text: str) -> None:
    assert read(json.dumps({"sequence": 1, "data": text, "timestamp": 1}, ensure_ascii=False)) == refer(
        json.dumps({"sequence": 1, "data": text, "timestamp": 1}).encode()
    )


@fuzz(700)
@given(BODIES, st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=3))
def test_a_complete_is_a_request_or_refused_and_its_json_is_as_strict(
    body: bytes, members: list[tuple[str, str]]
) -> None:
    metadata = "{" + ",".join(f"{key}:{value}" for key, value in members) + "}"
    for sent in (body, f'{{"metadata":{metadata}}}'.encode()):
        try:
            found = read_complete(sent)
        except InputError as error:
            json.dumps(describe(error)).encode("ascii")
            continue
        assert isinstance(found, CompleteRequest)
        if sent.strip():
            assert parse_json(sent).get("metadata", {}) == found.metadata


@fuzz(1_500)
@given(BODIES)
def test_json_is_read_if_and_only_if_the_other_reader_reads_it(body: bytes) -> None:
    assert attempt(read_json, body, InputError) == attempt(parse_json, body, Wrong)


@pytest.mark.parametrize("sent", [b"", b" ", b"\n"])
def test_the_other_reader_is_strict_too(sent: bytes) -> None:
    for wrong in (sent, b"\xef\xbb\xbf" + PLAIN, PLAIN * 2, PLAIN.replace(b"1}", b"NaN}")):
        with pytest.raises(Wrong):
            parse_packet(wrong)
    assert parse_packet(PLAIN) == (1, "x", 1.0, "")
