"""The unit, the image, the composition and the manifests say what the server needs of them.

The manifests are held against the schemas of Kubernetes; no API server has taken them.
"""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from callactors.settings import Settings
from callactors.web.routes import ROUTES

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "docs" / "callactors.service"
CONTAINER = ROOT / "examples" / "container"
MANIFESTS = ROOT / "examples" / "kubernetes"
KUBERNETES = ("1.29", "1.37")
LONGEST_DRAIN = 17  # seconds, as docs/operating.md reckons
VARIABLES = {f"CALLACTORS_{name.upper()}" for name in Settings.model_fields} | {"DATABASE_URL"}


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
    assert services["callactors"]["environment"].keys() <= VARIABLES


def read_manifests() -> list[dict[str, Any]]:
    return [one for path in sorted(MANIFESTS.iterdir()) for one in yaml.safe_load_all(path.read_text())]


def find(kind: str, name: str = "callactors") -> dict[str, Any]:
    """The `spec` of the one manifest of *kind*."""
    (found,) = [
        one["spec"] for one in read_manifests() if one["kind"] == kind and one["metadata"]["name"] == name
    ]
    return dict(found)


@pytest.fixture
def pod() -> dict[str, Any]:
    return dict(find("StatefulSet")["template"]["spec"])


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_line_of_the_manifests(version: str) -> None:
    for manifest in read_manifests():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_pods_set_what_there_is(pod: dict[str, Any]) -> None:
    job = find("Job", "callactors-keys")["template"]["spec"]
    for one in (pod, job):
        names = {variable["name"] for variable in one["containers"][0]["env"]}
        assert "DATABASE_URL" in names
        assert names <= VARIABLES
        assert one["enableServiceLinks"] is False, "Kubernetes would set CALLACTORS_PORT to a URL"
    nodes = [one for one in pod["containers"][0]["env"] if one["name"] == "CALLACTORS_NODE"]
    assert nodes[0]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_pods_are_asked_where_they_answer(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": Settings().port}]
    paths = {route.path for route in ROUTES}
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert all(probe["path"] in paths and probe["port"] == "http" for probe in asked.values())
    assert [probe["path"] for probe in asked.values()] == ["/health", "/health", "/ready"]
    labels = find("StatefulSet")["template"]["metadata"]["labels"]
    for kind, name in (("Service", "callactors"), ("Service", "callactors-nodes")):
        assert find(kind, name)["selector"] == labels
        assert find(kind, name)["ports"][0]["targetPort"] == "http"
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert find(kind)[key]["matchLabels"] == labels
    assert find("StatefulSet")["serviceName"] == "callactors-nodes"
    assert find("NetworkPolicy")["ingress"] == [{"ports": [{"port": Settings().port}]}]


def test_pods_have_the_time_to_drain(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    _, slept = container["lifecycle"]["preStop"]["exec"]["command"]
    readiness = container["readinessProbe"]
    assert pod["terminationGracePeriodSeconds"] > int(slept) + LONGEST_DRAIN
    assert int(slept) > readiness["periodSeconds"] * readiness["failureThreshold"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > Settings().database_patience


def test_pods_are_no_root_and_show_what_nats_wants(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == 10_001
    assert "USER 10001\n" in (CONTAINER / "Dockerfile").read_text()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert mounted.keys() == volumes.keys()
    (ca,) = [one["value"] for one in container["env"] if one["name"] == "CALLACTORS_NATS_CA"]
    (item,) = volumes["ca"]["secret"]["items"]
    assert ca == f"{mounted['ca']}/{item['path']}"
    extras = re.findall(r"\{wheel\}\[(.*?)\]", (CONTAINER / "Dockerfile").read_text())
    assert "cluster" in extras[0].split(",")
