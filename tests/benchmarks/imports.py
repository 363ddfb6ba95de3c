"""How long `import callactors` takes, over the import of the libraries that it stands on."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.benchmarks.machine import versions
from tests.benchmarks.report import Options, Report

_LIMIT: Final = 1.5
_RUNS: Final = 5  # of each in a round
_LONG: Final = 5  # times as many
_LIBRARIES: Final = "import aiohttp, asyncpg, pydantic, transitions"
_MODEL: Final = """
class Model(pydantic.BaseModel, defer_build=True):
    number: int
"""
_ARMS: Final = {
    "libraries": _LIBRARIES,
    "model": _LIBRARIES + _MODEL,
    "callactors": "import callactors",
    "web": f"{_LIBRARIES}, aiohttp.web{_MODEL}",
    "all": "from callactors import *",
}
_PROGRAM: Final = """\
from time import perf_counter, process_time
cpu, begin = process_time(), perf_counter()
{what}
print(process_time() - cpu, perf_counter() - begin)
"""


class _Took(NamedTuple):
    """Milliseconds of the CPU, and by the clock, which is more where others have the core."""

    cpu: float
    clock: float


async def imports(options: Options) -> Report:
    """Import each in a new interpreter, in turn, with bytecode that is there already."""
    runs = options.rounds * _RUNS * (_LONG if options.is_long else 1)
    with TemporaryDirectory() as bytecode:
        env = os.environ | {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        took = await _measure(runs, env)
    ours, theirs = took["all"], took["libraries"]
    lines = [
        f"imports: the fastest of {runs} runs each, in ms; model: and one model; web: and aiohttp.web",
        "",
        f"{'':12}{'CPU':>8}{'clock':>8}{'ratio':>8}",
    ]
    lines += [
        f"{name:12}{fastest.cpu:8.1f}{fastest.clock:8.1f}{fastest.cpu / theirs.cpu:8.2f}"
        for name, fastest in took.items()
    ]
    ratio = ours.cpu / theirs.cpu
    return Report(
        name="imports",
        ratio=ratio,
        wanted=_LIMIT,
        is_limit=True,
        problems=[],
        lines=[*lines, f"ratio {ratio:.2f} (at most {_LIMIT:g})"],
        parts={
            "runs": runs,
            **{f"{name}_cpu_ms": round(fastest.cpu, 1) for name, fastest in took.items()},
            **{f"{name}_clock_ms": round(fastest.clock, 1) for name, fastest in took.items()},
            "versions": versions(),
        },
    )


async def _measure(runs: int, env: Mapping[str, str]) -> dict[str, _Took]:
    for name in _ARMS:
        await _import(name, env)  # writes the bytecode
    told: dict[str, list[_Took]] = {name: [] for name in _ARMS}
    for _ in range(runs):
        for name, seen in told.items():
            seen.append(await _import(name, env))
    return {
        name: _Took(min(took.cpu for took in seen), min(took.clock for took in seen))
        for name, seen in told.items()
    }


async def _import(name: str, env: Mapping[str, str]) -> _Took:
    program = _PROGRAM.format(what=_ARMS[name])
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=env, stdout=PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the import of {name} failed")
    cpu, clock = map(float, output.split())
    return _Took(cpu * 1e3, clock * 1e3)
