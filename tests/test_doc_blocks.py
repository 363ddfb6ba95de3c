"""Every block of code in the documentation can be read, and what can be run is run."""

import asyncio
import configparser
import importlib.util
import inspect
import json
import re
import shlex
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from callactors import cli
from tests.pages import PAGES, ROOT, SERVER, Block, blocks, read
from tests.scenes import make_app

_KINDS = {"http", "ini", "json", "jsonl", "mermaid", "python", "sh", "sql", "text", "xml", "yaml"}
# test_quick_start.py runs these pages' commands, behind the install and the start that they begin with.
_IN_A_SCENE = {"README.md", "docs/index.md"}
_CURLS = [block for block in blocks("sh") if "curl " in block.text and block.page not in _IN_A_SCENE]
_VARIABLE = re.compile(r"[A-Z_]+=")


def _commands() -> list[list[str]]:
    """Return the words of each command in the blocks, without variables in front and directories."""
    found = []
    for block in blocks("sh"):
        for command in re.split(r" && | \|\s|\n", block.text):
            words = shlex.split(command, comments=True)
            while words and _VARIABLE.match(words[0]):
                words.pop(0)
            if words:
                found.append([words[0].rpartition("/")[2], *words[1:]])
    return found


_COMMANDS = _commands()
_OURS = [words for words in _COMMANDS if words[0] == "callactors"]
_DEVELOPERS = [words for words in _COMMANDS if words[0] in ("python", "tox")]


def test_the_blocks_are_of_kinds_that_are_looked_at() -> None:
    for page in PAGES:
        assert set(re.findall(r"^ *```(\w+)", read(page), re.MULTILINE)) <= _KINDS, page


@pytest.mark.parametrize("block", blocks("python"), ids=str)
async def test_python_runs(block: Block, dsn: str) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block.text, str(block), "exec"), names)
    if (main := names.get("main")) is not None:
        await (main(dsn) if inspect.signature(main).parameters else main())


@pytest.mark.parametrize("block", blocks("json", "jsonl"), ids=str)
def test_json_can_be_read(block: Block) -> None:
    for text in block.text.splitlines() if block.kind == "jsonl" else [block.text]:
        assert json.loads(text)


@pytest.mark.parametrize("block", blocks("http"), ids=str)
def test_http_is_a_head_and_json(block: Block) -> None:
    head, _, body = block.text.partition("\n\n")
    first, *headers = head.splitlines()
    assert re.fullmatch(r"[A-Z]+ /\S* HTTP/1\.1|HTTP/1\.1 \d{3} [A-Za-z ]+", first)
    assert all(re.fullmatch(r"[A-Za-z-]+: \S.*", header) for header in headers)
    assert json.loads(body)


@pytest.mark.parametrize("block", blocks("xml"), ids=str)
def test_xml_can_be_read(block: Block) -> None:
    ElementTree.fromstring(block.text)


@pytest.mark.parametrize("block", blocks("ini"), ids=str)
def test_ini_can_be_read(block: Block) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(f"[none]\n{block.text}")


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
async def test_the_shell_can_read_it(block: Block) -> None:
    process = await asyncio.create_subprocess_exec("bash", "-n", "-c", block.text)
    assert await process.wait() == 0


@pytest.mark.parametrize("words", _OURS, ids=" ".join)
def test_our_command_takes_such_arguments(words: list[str]) -> None:
    cli._parser().parse_args(words[1:])


@pytest.mark.parametrize("words", _DEVELOPERS, ids=" ".join)
def test_what_developers_run_is_there(words: list[str]) -> None:
    match words:
        case ["tox", "-e", name, *_]:
            assert f"[testenv:{name}]" in (ROOT / "tox.ini").read_text(encoding="utf-8")
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module) is not None
        case ["python", program, *_]:
            assert (ROOT / program).exists()
        case _:
            assert words == ["tox"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("block", _CURLS, ids=str)
async def test_curl_is_answered(
    block: Block, dsn: str, aiohttp_client: AiohttpClient, tmp_path: Path
) -> None:
    client = await aiohttp_client(make_app(dsn))
    (tmp_path / ".curlrc").write_text("fail-with-body\nsilent\n")
    commands = block.text.replace(SERVER, str(client.make_url("")).rstrip("/"))
    shell = ("bash", "-euo", "pipefail", "-c", commands)
    process = await asyncio.create_subprocess_exec(*shell, env={"CURL_HOME": str(tmp_path)}, stdout=PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
