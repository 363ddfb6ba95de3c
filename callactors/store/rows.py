"""A call's row: from Row to the JSON that flush_3 takes, and back from what claim_5 returns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from asyncpg import Record

from callactors.call import Call
from callactors.facts import Event, Facts, Row
from callactors.legs import NO_LEGS, Legs
from callactors.packets import EndReason
from callactors.sequence import StreamSequence
from callactors.states import CallState


class Claimed(NamedTuple):
    """A call as the database has it. If it is not mine, a living server runs its AI step, or it is erased.

    *idle* are the seconds since its last packet or its start, *age* those since its start, *step_age* those
    since its AI step began, if it is there.
    """

    call_no: int
    epoch: int
    is_mine: bool
    call: Call
    is_erased: bool
    idle: float
    age: float
    step_age: float | None


def write_row(call_no: int, row: Row) -> dict[str, Any]:
    """Return *row* as an element of flush_3's rows."""
    facts = row.facts
    return {
        "call_no": call_no,
        "state": facts.state,
        "version": facts.version,
        "generation": facts.generation,
        "attempt": facts.attempt,
        "attempt_running": facts.is_attempting,
        "crashes": facts.crashes,
        "wake_in": facts.wake_in,
        "wakes_anew": row.wakes_anew,
        "end_reason": facts.end_reason,
        "streams": _write_streams(row),
        "packets": row.packets,
        "late": row.late,
        "duplicates": row.duplicates,
        "legs": _write_legs(row.legs),
        "streaming": bool(row.legs.live),
        "metadata": row.metadata,
        "result": row.result,
        "last_error": row.last_error,
        "released": row.is_released,
    }


def write_event(call_no: int, call_id: str, event: Event) -> dict[str, Any]:
    """Return *event* as an element of flush_3's events."""
    return {
        "call_no": call_no,
        "call_id": call_id,
        "version": event.version,
        "kind": event.kind,
        "from_state": event.from_state,
        "to_state": event.to_state,
        "attempt": event.attempt,
        "detail": event.detail,
    }


def read_claimed(record: Record) -> Claimed:
    """Return the call in *record*, a row of claim_5."""
    call = read_call(record)
    is_mine, is_erased = record["is_mine"], record["is_erased"]
    times = record["idle"], record["age"], record["step_age"]
    return Claimed(record["call_no"], record["epoch"], is_mine, call, is_erased, *times)


def read_call(record: Record) -> Call:
    """Return the call in *record*: the row, and the packets committed after the row was written."""
    is_fresh = record["version"] == 1 and not record["crashes"]
    tail: tuple[Sequence[str], Sequence[int]] = (record["tail_streams"] or (), record["tail_sequences"] or ())
    if is_fresh and record["streams"] == "{}" and not tail[1]:  # as at nearly every first claim
        return Call(record["call_id"])
    facts = (
        Facts()
        if is_fresh
        else Facts(
            state=CallState(record["state"]),
            version=record["version"],
            generation=record["generation"],
            attempt=record["attempt"],
            is_attempting=record["attempt_running"],
            crashes=record["crashes"],
            wake_in=record["wake_in"],
            end_reason=EndReason(record["end_reason"]) if record["end_reason"] else None,
        )
    )
    states = json.loads(record["streams"])
    streams = {name: _stream(state) for name, state in states.items()}
    size = sum(state.get("size", 0) for state in states.values())
    legs = _read_legs(record["legs"])
    row = Row(facts, streams, record["packets"], record["late"], record["duplicates"], size, legs)
    call = Call(record["call_id"], row)
    for stream, sequence in zip(*tail, strict=True):
        call.restore(stream, sequence)
    return call


def _write_streams(row: Row) -> dict[str, Any]:
    """Return the column `streams`; the size of all stands with the first."""
    states: dict[str, Any] = {
        name: {"last": stream.next - 1, "missing": stream.missing} for name, stream in row.streams.items()
    }
    for state in states.values():
        state["size"] = row.size
        break
    return states


def _write_legs(legs: Legs) -> dict[str, Any]:
    """Return the column `legs`: `{}` for nearly every call."""
    live, dropped = sorted(legs.live), sorted(legs.dropped)
    known = {"live": live, "servers": legs.servers, "dropped": dropped, "callbacks": legs.callbacks}
    told: dict[str, Any] = {name: found for name, found in known.items() if found}
    return told | {"controls": legs.controls} if legs.controls else told


def _read_legs(column: str) -> Legs:
    if column == "{}":
        return NO_LEGS
    told = json.loads(column)
    return Legs(
        live=frozenset(told.get("live", ())),
        dropped=frozenset(told.get("dropped", ())),
        callbacks=tuple(told.get("callbacks", ())),
        controls=told.get("controls", 0),
        servers=told.get("servers", {}),
    )


def _stream(state: Mapping[str, Any]) -> StreamSequence:
    return StreamSequence(state["last"] + 1, tuple((first, last) for first, last in state["missing"]))
