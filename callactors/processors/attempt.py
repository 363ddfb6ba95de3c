"""One attempt of the AI step: whatever the processor does, an outcome comes of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from callactors.errors import CallError, Unavailable
from callactors.processors.contract import CallRecord, Processor
from callactors.retry import Done, GiveUp, Outcome, Retry
from callactors.store.contents import Contents

_MAX_REASON: Final = 500


async def prepare(
    record: CallRecord, read_contents: Callable[[str], Awaitable[Contents]]
) -> CallRecord | Retry:
    """Return *record* with what *read_contents* tells of its call; a Retry if that cannot be had."""
    try:
        contents = await read_contents(record.call_id)
    except (Unavailable, CallError) as error:
        return Retry(str(error))
    return replace(record, **contents._asdict())


async def run_attempt(processor: Processor, record: CallRecord) -> Outcome:
    """Return what *processor* answers within the record's deadline; an error or silence is a Retry."""
    try:
        async with asyncio.timeout(record.deadline):
            return _check(await processor(record))
    except TimeoutError:
        return Retry(f"no answer within {record.deadline:g} s")
    except Exception as error:  # noqa: BLE001  # it is not our code: whatever it raises is a failed attempt
        return Retry(f"{type(error).__name__}: {error}"[:_MAX_REASON])


def _check(outcome: object) -> Outcome:
    """Return *outcome* if a processor may answer it and its result can be stored."""
    if not isinstance(outcome, Done | Retry | GiveUp):
        return GiveUp(f"the processor answered {type(outcome).__name__}, not Done, Retry or GiveUp")
    if isinstance(outcome, Done):
        try:
            json.dumps(outcome.result, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            return GiveUp(f"the processor's result is not JSON: {error}"[:_MAX_REASON])
    return outcome
