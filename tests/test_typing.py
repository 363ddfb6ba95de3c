"""The public types, as mypy --strict finds them in programs of others."""

import re
from pathlib import Path

import pytest
from mypy import api

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parent.parent
USER = """
from asyncio import Future
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, assert_type

from aiohttp import web

import callactors
from callactors import *
from callactors.actors import *
from callactors.testing import Databases


@dataclass(frozen=True, slots=True)
class Count(OwnMessage[int]):
    what: str


class Own(CallActor):
    def __init__(self, key: str, home: Home[Message], services: CallServices, *, name: str) -> None:
        super().__init__(key, home, services)
        assert_type(self.key, str)

    def on_packet(self, packet: Packet, accepted: Accepted) -> None:
        assert_type(packet.kind, PacketKind)
        assert_type(accepted.gap, tuple[int, int] | None)

    def on_event(self, event: Event) -> None:
        assert_type(event.from_state, CallState | None)

    def receive_other(self, message: OwnMessage[Any]) -> int:
        return 1

    def on_packets(self) -> None: ...


async def give_up(call: CallRecord) -> Outcome:
    async for packet in call.packets():
        assert_type(packet, StoredPacket)
    return GiveUp("why")


class Callable_:
    async def __call__(self, call: CallRecord) -> Done:
        return Done({"any": "thing"})


async def use(request: web.Request, dsn: str) -> None:
    calls = get_calls(request)
    assert_type(calls, CallSystem)
    assert_type(calls.accept("c", Packet(sequence=1, data="x", timestamp=1.0)), Future[Accepted])
    assert_type(await calls.complete("c"), Completed)
    assert_type(await calls.ask("c", Count("x")), int)
    assert_type(calls.subscribe(), AsyncGenerator[CallEvent, None])
    async for event in calls.subscribe(since="x"):
        assert_type(event.to_state, CallState)
        assert_type(event.kind, EventKind)
        assert_type(event.at, datetime)
        assert_type(event.detail, Mapping[str, Any])
    registry = RegistryLimits(mailbox=1)
    options = SystemOptions(node="n", registry=registry, gate=GateLimits(), journal=JournalLimits())
    system = CallSystem(dsn, Callable_(), options, actor=partial(Own, name="x"))
    setup(web.Application(), system, rules=GuardRules(), limits=Limits(), vendors=VendorRules())
    assert_type(routes(prefix="/x"), list[web.RouteDef])
    with Databases() as databases, databases.new() as other:
        assert_type(other, str)

    calls.tell("c", "text")  # arg-type
    calls.ask("c", Packet(sequence=1, data="x", timestamp=1.0))  # arg-type
    CallSystem(dsn, give_up)  # call-arg
    CallSystem(dsn, give_up, options, Own)  # call-arg, arg-type
    CallSystem(dsn, lambda call: Done(), options)  # arg-type, return-value
    SystemOptions()  # call-arg
    SystemOptions("node")  # call-arg
    get_calls(web.Application())  # arg-type
    routes("/x")  # call-arg
    RetryPolicy(attempts=1)  # call-arg
    ActorRegistry(Own)  # arg-type
    callactors.get_system  # attr-defined


class Wrong(CallActor):
    def on_packet(self, packet: Packet) -> None:  # override
        pass

    async def on_event(self, event: Event) -> None:  # override
        pass
"""


def blocks(page: str) -> list[str]:
    """The Python programs on a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def check(programs: list[Path], cache: Path) -> set[tuple[str, int, str]]:
    """File, line and code of all that mypy finds there, and not in callactors itself."""
    options = ["--strict", "--follow-imports=silent", "--config-file=", f"--cache-dir={cache}"]
    out, problems, _ = api.run([*options, *map(str, programs)])
    assert problems == ""
    found = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", out, re.MULTILINE)
    assert len(found) == out.count("error:"), out
    return {(Path(path).name, int(line), code) for path, line, code in found}


def test_programs_of_others_are_typed_as_promised(
    tmp_path: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    programs = [tmp_path / "user.py", *sorted((ROOT / "examples").glob("*.py"))]
    programs[0].write_text(USER)
    for page in ("README.md", "docs/ai-step.md", "docs/embedding.md", "docs/security.md"):
        for number, block in enumerate(blocks(page)):
            programs.append(tmp_path / f"{Path(page).stem.replace('-', '_').lower()}_{number}.py")
            programs[-1].write_text(block)
    assert pytestconfig.cache is not None
    wanted = {
        ("user.py", number, code)
        for number, line in enumerate(USER.splitlines(), start=1)
        for codes in re.findall(r"  # ([a-z, -]+)$", line)
        for code in codes.split(", ")
    }
    assert len(wanted) == 16
    assert check(programs, pytestconfig.cache.mkdir("mypy")) == wanted
