"""The quick start of docs/index.md, command by command, in an empty environment."""

import asyncio
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.acceptance.server import QUICK, environment
from tests.pages import SERVER, blocks
from tests.sources import copy_source, link_dependencies

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]

_INSTALL, *_COMMANDS = [block.text for block in blocks("sh", page="docs/index.md")]
_OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # 0 is no isolation


async def _run(command: str, place: Path, env: Mapping[str, str]) -> str:
    shell = ("bash", "-euo", "pipefail", "-c", command)
    process = await asyncio.create_subprocess_exec(*shell, cwd=place, env=env, stdout=PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@asynccontextmanager
async def _serving(command: str, place: Path, env: Mapping[str, str]) -> AsyncIterator[str]:
    process: Process = await asyncio.create_subprocess_shell(
        f"exec {command}", cwd=place, env=env, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        told = (await process.stdout.readline()).decode()
        yield told.split()[-1]
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def _until_archived(url: str, call_id: str) -> None:
    async with ClientSession() as session, session.ws_connect(f"{url}/ws/supervisor?snapshot=1") as ws:
        state = None
        while state != "ARCHIVED":
            frame = json.loads((await ws.receive()).data)
            for told in frame.get("calls", [frame]):
                state = told["state"] if told.get("call_id") == call_id else state


async def test_the_quick_start_works(tmp_path: Path, data_dir: Path) -> None:
    source = tmp_path / "source"
    copy_source(source)
    link_dependencies(tmp_path / "dependencies")
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\n")
    settings = {**QUICK, "port": 0, "data_dir": str(data_dir)}
    del settings["unsafe_durability"]
    plain = environment(tmp_path, None, settings)
    env = {
        **plain,
        **_OFFLINE,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{plain['PATH']}",  # for the python3 of this test
        "PYTHONPATH": str(tmp_path / "dependencies"),
        "CURL_HOME": str(tmp_path),
    }
    install, serve = _INSTALL.splitlines()
    await _run(install, source, env)
    async with _serving(serve, source, env) as url:
        sent = await _run(_COMMANDS[0].replace(SERVER, url), source, env)
        (shown,) = blocks("http", page="docs/index.md")
        assert json.loads(sent.splitlines()[-1]) == json.loads(shown.text.partition("\n\n")[2])
        ended = await _run(_COMMANDS[1].replace(SERVER, url), source, env)
        assert re.findall(r"HTTP/1\.1 (\d+)", sent + ended) == ["202", "202", "200"]
        await _until_archived(url, "demo-1")
        async with ClientSession() as session, session.get(url) as page:
            assert (page.status, page.content_type) == (200, "text/html")
        await _run(_COMMANDS[2].replace(SERVER, url), source, env)
