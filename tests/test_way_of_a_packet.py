"""What docs/way-of-a-packet.md tells is so: modules, refusals, round trips and tasks."""

import asyncio
import re
from asyncio import AbstractEventLoop, Task
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncpg.connection import LoggedQuery

from callactors.system import CallSystem
from callactors.web.openapi import describe
from callactors.web.problems import PROBLEMS
from callactors.web.routes import ROUTES
from tests.pages import ROOT, read
from tests.scenes import packet, running

_PAGE = read("docs/way-of-a-packet.md")


def test_its_modules_are_there() -> None:
    named = re.findall(r"[a-z_/]+\.py", _PAGE + read("docs/way-of-a-packet.svg"))
    assert [name for name in named if not (ROOT / "callactors" / name).exists()] == []


def test_it_tells_every_refusal_of_a_packet() -> None:
    told = set(re.findall(r"(\d{3}) `([a-z0-9-]+)`", _PAGE))
    assert told <= {(str(problem.status), problem.slug) for problem in PROBLEMS.values()}
    answers = describe(ROUTES)["paths"]["/v1/call/stream/{call_id}"]["post"]["responses"]
    assert told == {
        (status, slug)
        for status, answer in answers.items()
        for slug in re.findall(r"`([a-z0-9-]+)`", answer["description"])
    }


@pytest.fixture
async def tasks() -> AsyncIterator[list[str]]:
    """Names of what is started as a task."""
    started: list[str] = []

    def start(loop: AbstractEventLoop, coroutine: Any, **options: Any) -> "Task[Any]":
        started.append(coroutine.__qualname__)
        return Task(coroutine, loop=loop, **options)

    asyncio.get_running_loop().set_task_factory(start)
    yield started
    asyncio.get_running_loop().set_task_factory(None)


def _listen(system: CallSystem) -> list[str]:
    """Return where the functions are noted, without their version, that packets need in the database."""
    called: list[str] = []

    def note(query: LoggedQuery) -> None:
        called.append(query.query.partition("(")[0].split()[-1].rstrip("_0123456789"))

    for session in (system._claims._session, *(c._session for c in system._journal._committers)):
        assert session._connection is not None
        session._connection.add_query_logger(note)
    return called


async def test_a_packet_costs_as_many_round_trips_and_tasks_as_told(dsn: str, tasks: list[str]) -> None:
    async with running(dsn) as system:
        for call_id in ("a", "b"):  # one for each committer
            await system.accept(call_id, packet(1))
        called = _listen(system)
        tasks.clear()
        await system.accept("a", packet(2))
        assert (called, tasks) == (["flush"], [])
        await system.accept_many("a", [packet(sequence) for sequence in range(3, 500)])
        assert (called, tasks) == (["flush"] * 2, [])
        await system.accept("new", packet(1))
        assert (called[2:], tasks) == (["claim", "flush"], ["_Cell._live"])
