"""Servers and the load, each a process of its own."""

import asyncio
import json
import os
import re
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from tests.benchmarks.load import Plan, Result

_START_TIMEOUT: Final = 30.0
_STOP_TIMEOUT: Final = 30.0
_LISTENS: Final = re.compile(rb"http://127\.0\.0\.1:(\d+)")


class Server(NamedTuple):
    """A server that listens."""

    port: int
    pid: int


def callactors(*flags: str, profile: Path | None = None) -> tuple[str, ...]:
    """Return python's arguments for the server; *profile* takes cProfile's data."""
    profiled = () if profile is None else ("-m", "cProfile", "-o", str(profile))
    return (*profiled, "-m", "callactors", "serve", "--port", "0", *flags)


@asynccontextmanager
async def serving(
    command: Sequence[str], core: int, env: Mapping[str, str], *, exit_code: int = 0
) -> AsyncIterator[Server]:
    """Run `python *command*` on *core*, from when it prints its URL; it must end with *exit_code*.

    Settings of the server in this process's environment are left out, *env* is added.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALLACTORS_")}
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, stdout=PIPE, stderr=errors, env={**inherited, **env}
        )
        try:
            os.sched_setaffinity(process.pid, {core})
            async with asyncio.timeout(_START_TIMEOUT):
                port = await _read_port(process, errors)
            yield Server(port, process.pid)
        finally:
            await _stop(process)
        if process.returncode != exit_code:
            raise RuntimeError(f"{command} ended with {process.returncode}:\n{_tail(errors)}")


async def run_load(plan: Plan) -> Result:
    """Carry *plan* out in a process of its own."""
    return Result(**await run_client("tests.benchmarks.load", asdict(plan)))


async def run_client(module: str, plan: Mapping[str, Any], core: int | None = None) -> Any:
    """Run `python -m *module* PLAN`, on *core* if it is what is measured; return the JSON it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, json.dumps(plan), stdout=PIPE
    )
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"{module} has failed")
    return json.loads(told)


@asynccontextmanager
async def running_client(
    module: str, plan: Mapping[str, Any], ready: bytes
) -> AsyncIterator["asyncio.Future[Any]"]:
    """Let `python -m *module* PLAN` work meanwhile, from when it prints *ready* until its stdin is closed.

    The future has the JSON that it prints then, after that.
    """
    answer = asyncio.get_running_loop().create_future()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, json.dumps(plan), stdin=PIPE, stdout=PIPE
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("there are pipes")
        if await process.stdout.readline() != ready + b"\n":
            raise RuntimeError(f"{module} has failed")
        yield answer
        process.stdin.close()
        told, _ = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"{module} has failed")
        answer.set_result(json.loads(told))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read_port(process: Process, errors: BinaryIO) -> int:
    if process.stdout is not None:
        async for line in process.stdout:
            if found := _LISTENS.search(line):
                return int(found[1])
    raise RuntimeError(f"the server did not start:\n{_tail(errors)}")


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _tail(errors: BinaryIO) -> str:
    errors.seek(0)
    return b"\n".join(errors.read().splitlines()[-20:]).decode(errors="replace")
