"""What the README and the docs say is so."""

import re
from typing import Any

import pytest
from pytest_aiohttp.plugin import AiohttpClient

from callactors.facts import FRESH
from callactors.settings import Settings
from callactors.states import TRANSITIONS, CallState
from callactors.web.problems import PROBLEMS
from tests.pages import PAGES, ROOT, blocks, read
from tests.scenes import Sql, until_state


async def test_the_embedding_example_works(dsn: str, sql: Sql, aiohttp_client: AiohttpClient) -> None:
    ((_, _, _, code),) = blocks("python", page="README.md")
    assert len(code.strip().splitlines()) <= 25
    names: dict[str, Any] = {}
    exec(code.replace('node="web-1"', 'node="web-1", is_unsafe_durability_allowed=True'), names)
    client = await aiohttp_client(names["make_app"](dsn))
    sent = {"sequence": 1, "data": "x", "timestamp": 1}
    assert (await client.post("/v1/call/stream/c", json=sent)).status == 202
    assert (await client.post("/v1/call/complete/c", json={"last_sequence": {"": 1}})).status == 202
    assert await (await client.get("/hello")).text() == "my own page"
    await until_state(sql, "c", "ARCHIVED")
    told = await (await client.get("/v1/call/c")).json()
    assert (told["result"], told["attempt"]) == ({"transcript": "1 packets"}, 2)


def test_its_commands_are_those_of_the_quick_start() -> None:
    told = [line for block in blocks("sh", page="docs/index.md") for line in block.text.splitlines()]
    lines = [line for block in blocks("sh", page="README.md") for line in block.text.splitlines()]
    assert [line for line in lines if line.startswith((".venv/bin/callactors", "curl"))] == told[1:]
    assert told[0] in lines


def test_the_table_of_states_is_the_code() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \| (\w+) \| ([A-Z_]+) \|", read("docs/states.md"), re.MULTILINE)
    assert rows == [(source, trigger, dest) for trigger, source, dest in TRANSITIONS]


def test_the_chart_of_states_is_the_code() -> None:
    (chart,) = blocks("mermaid", page="docs/states.md")
    lines = ["stateDiagram-v2", "direction LR", f"[*] --> {FRESH.state}"]
    lines += [f"{source} --> {dest}: {trigger}" for trigger, source, dest in TRANSITIONS]
    lines += [f"{state} --> [*]" for state in CallState if state.is_final]
    assert [line.strip() for line in chart.text.splitlines()] == lines


def test_every_problem_is_documented() -> None:
    rows = set(re.findall(r"^\| (\d+) \| ([a-z0-9-]+) \|", read("docs/protocol.md"), re.MULTILINE))
    assert {(str(p.status), p.slug) for p in PROBLEMS.values()} <= rows


def test_every_setting_is_documented() -> None:
    text = read("docs/operating.md").replace("`_MAX`", "`CALLACTORS_FLAKY_LATENCY_MAX`")
    told = set(re.findall(r"CALLACTORS_([A-Z_]+)`", text)) | {"DATABASE_URL"}
    assert {name.upper() for name in Settings.model_fields} <= told


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", read(page)):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), f"{link}#{anchor}"


def _anchors(text: str) -> set[str]:
    """Return what GitHub makes of the headings in *text*."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
