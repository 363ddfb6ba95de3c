"""The unit, the image and the composition say what the server needs of them."""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from callactors.settings import Settings

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "docs" / "callactors.service"
CONTAINER = ROOT / "examples" / "container"
LONGEST_DRAIN = 17  # seconds, as docs/operating.md reckons


@pytest.fixture
def service() -> dict[str, str]:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # as configparser's documentation has it
    unit.read(UNIT)
    return dict(unit["Service"])


@pytest.fixture
def services() -> dict[str, Any]:
    composed: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]
    return composed


def test_the_unit_waits_for_what_the_server_does(service: dict[str, str]) -> None:
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"].removesuffix("s")) > LONGEST_DRAIN
    assert int(service["LimitNOFILE"]) >= Settings().open_files
    assert service["RestartPreventExitStatus"] == "2"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd looks at it")
def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    mine = tmp_path / UNIT.name
    mine.write_text(UNIT.read_text().replace("/opt/callactors/bin/callactors", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", mine], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_has_all_that_a_wheel_is_made_of_and_no_root() -> None:
    text = (CONTAINER / "Dockerfile").read_text()
    _, build, final = text.split("\nFROM ")
    copied = {name for line in re.findall(r"^COPY (.*)$", build, re.MULTILINE) for name in line.split()[:-1]}
    assert copied == {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "callactors", "sql"}
    assert all((ROOT / name).exists() for name in copied)
    assert final.startswith("python:3.12-slim\n")
    assert "USER 10001\n" in final
    assert not re.search(r"pip|apt", final)


def test_the_server_of_the_composition_waits_for_its_database(services: dict[str, Any]) -> None:
    server, postgres = services["callactors"], services["postgres"]
    assert (ROOT / "examples" / "container" / server["build"]["context"]).resolve() == ROOT
    assert (ROOT / server["build"]["dockerfile"]).is_file()
    assert server["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "healthcheck" in postgres
    assert postgres["image"] == "postgres:17"
    assert "@postgres/callactors" in server["environment"]["DATABASE_URL"]
    assert server["ports"] == ["127.0.0.1:8000:8000"]
    assert server["ulimits"]["nofile"] >= Settings().open_files
    assert int(server["stop_grace_period"].removesuffix("s")) > LONGEST_DRAIN


def test_the_composition_sets_what_there_is(services: dict[str, Any]) -> None:
    known = {f"CALLACTORS_{name.upper()}" for name in Settings.model_fields} | {"DATABASE_URL"}
    assert services["callactors"]["environment"].keys() <= known
