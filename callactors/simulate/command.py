"""Runs the commands `simulate` and `replay`, and says what came out."""

import argparse
import asyncio
import resource
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from callactors.simulate.calls import Plan, Report, Simulation
from callactors.simulate.captures import Recorder, WrongCapture, read_capture
from callactors.simulate.connection import Pace
from callactors.simulate.dialects import DIALECTS
from callactors.simulate.replay import Replay
from callactors.simulate.report import make_json, make_table, tell_played
from callactors.simulate.trouble import Trouble

_OTHER_FILES: Final = 64
_PROGRESS_INTERVAL: Final = 1.0


class WrongUsage(Exception):
    """What is asked for cannot be done; the text says why."""


class Finished(NamedTuple):
    """What to print, and the exit code."""

    text: str
    code: int


async def run_simulate(options: argparse.Namespace) -> Finished:
    """Do what `simulate` was asked for.

    Raises:
        WrongUsage: it cannot be done.
    """
    plan, dialect = _make_plan(options), DIALECTS[options.vendor]
    _allow_files(plan.calls + _OTHER_FILES)
    with ExitStack() as stack:
        record = None
        if options.record is not None:
            file = stack.enter_context(_open(options.record, is_new=True))
            record = Recorder(file, dialect.path, dialect.subprotocol).record
        simulation = Simulation(plan, Pace(), record)
        async with _progress(simulation.report, sys.stderr):
            report = await simulation.run()
    make = make_json if options.json else make_table
    return Finished(make(plan, report), 0 if report.agrees else 1)


async def run_replay(options: argparse.Namespace) -> Finished:
    """Do what `replay` was asked for.

    Raises:
        WrongUsage: it cannot be done.
    """
    try:
        with _open(options.file) as file:
            connections = read_capture(file)
    except (WrongCapture, UnicodeDecodeError) as error:
        reason = error if isinstance(error, WrongCapture) else "it is not UTF-8"
        raise WrongUsage(f"{options.file}: {reason}") from None
    _allow_files(len(connections) + _OTHER_FILES)
    played = await Replay(connections, options.url, options.key, Pace(options.speed)).run()
    return Finished(tell_played(played), 0 if played.is_whole else 1)


def _make_plan(options: argparse.Namespace) -> Plan:
    trouble = Trouble(options.loss, options.reorder, options.duplicate, options.drop)
    if trouble.is_of_messages and not DIALECTS[options.vendor].is_numbered:
        raise WrongUsage(
            f"{options.vendor} does not number its messages, so that the server could not see --loss,"
            " --reorder or --duplicate: leave them out"
        )
    return Plan(
        url=options.url,
        vendor=options.vendor,
        calls=options.calls,
        seconds=options.seconds,
        run=secrets.token_hex(8),
        seed=secrets.randbelow(10**6) if options.seed is None else options.seed,
        key=options.key,
        trouble=trouble,
        ramp=options.ramp,
        patience=options.patience,
    )


@asynccontextmanager
async def _progress(report: Report, out: TextIO) -> AsyncIterator[None]:
    """Tell on *out* what goes on, if somebody looks at it."""
    if not out.isatty():
        yield
        return
    telling = asyncio.create_task(_tell(report, out))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        out.write("\r\x1b[K")


async def _tell(report: Report, out: TextIO) -> None:
    while True:
        now = "asking the server" if report.is_checking else f"{report.open_calls} calls are open"
        out.write(f"\r\x1b[K{now}, {report.messages} messages sent, {report.refused.total()} refused")
        out.flush()
        await asyncio.sleep(_PROGRESS_INTERVAL)


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < wanted:
        with suppress(ValueError):  # what is then beyond the limit counts as refused
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open(path: Path, *, is_new: bool = False) -> TextIO:
    try:
        return path.open("w" if is_new else "r", encoding="utf-8")
    except OSError as error:
        raise WrongUsage(f"cannot open {path}: {error.strerror}") from None
