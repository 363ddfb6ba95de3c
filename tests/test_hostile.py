"""The pure parts of the hostile clients: what they send, and how they keep to their share."""

from itertools import islice
from random import Random

import pytest

from tests.benchmarks.mischief import KINDS, Script, Step, Wait, frame, request
from tests.benchmarks.throttle import Throttle


def take(script: Script, steps: int) -> list[Step]:
    return list(islice(script(Random(1)), steps))


@pytest.mark.parametrize("busy", [0.1, 0.3, 1.0])
def test_no_more_than_its_share_is_used(busy: float) -> None:
    throttle = Throttle(0.3, now=0.0, cpu=0.0)
    now = cpu = 0.0
    while now < 10.0:
        now, cpu = now + 0.001, cpu + 0.001 * busy
        now += throttle.pause(now, cpu)
    assert cpu / now == pytest.approx(min(busy, 0.3), abs=0.01)


def test_what_is_saved_in_a_long_silence_is_not_spent_at_once() -> None:
    throttle = Throttle(0.5, now=0.0, cpu=0.0)
    assert throttle.pause(now=1_000.0, cpu=0.0) == 0.0
    assert throttle.pause(now=1_000.1, cpu=0.1) == pytest.approx(0.06)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Throttle(0.0, now=0.0, cpu=0.0)


def test_a_request_is_whole_and_tells_the_length_of_its_body() -> None:
    assert request("POST", "/x", "A: b", body=b"{}") == (
        b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )


def test_a_frame_is_masked_and_whole() -> None:
    assert frame(b"{}") == b"\x81\x82\0\0\0\0{}"
    assert frame(b"", opcode=0x9) == b"\x89\x80\0\0\0\0"


def test_drips_are_single_bytes_with_pauses_between() -> None:
    for script in KINDS["drips"].scripts:
        steps = take(script, 100)
        assert [len(step) for step in steps[-50:] if isinstance(step, bytes)] == [1] * 25
        assert all(0.1 <= step <= 0.4 for step in steps if isinstance(step, float))


@pytest.mark.parametrize("kind", ["floods", "pipelines", "garbage", "compressed"])
def test_who_is_answered_goes_on_then(kind: str) -> None:
    for script in KINDS[kind].scripts:
        sent, wait, *_ = take(script, 2)
        assert isinstance(sent, bytes)
        assert sent
        assert wait is Wait.ANSWER


def test_pipelines_send_what_floods_send_many_times_at_once() -> None:
    for one, many in zip(KINDS["floods"].scripts, KINDS["pipelines"].scripts, strict=True):
        sent, sent_at_once = take(one, 1)[0], take(many, 1)[0]
        assert isinstance(sent, bytes)
        assert sent_at_once == sent * KINDS["pipelines"].together


def test_who_resets_connections_does_not_wait_for_an_answer() -> None:
    for script in KINDS["churn"].scripts:
        steps = take(script, 10)
        assert len(steps) == 1
        assert isinstance(steps[0], bytes)


def test_the_same_seed_sends_the_same() -> None:
    for kind in KINDS.values():
        for script in kind.scripts:
            assert take(script, 20) == take(script, 20)
