"""`import callactors` loads what serves calls, and not what a program that embeds it may never use."""

import subprocess
import sys
from typing import Final

import pytest

_LOADED: Final = """
import sys
import callactors
for name in callactors.__all__:
    getattr(callactors, name)
print(*sys.modules)
"""
_LATER: Final = [
    "callactors.admin",
    "callactors.app",
    "callactors.cli",
    "callactors.demo",
    "callactors.doctor",
    "callactors.serve",
    "callactors.settings",
    "callactors.simulate",
    "callactors.processors.http",
    "callactors.processors.recordings",
    "callactors.processors.speech",
    "callactors.store.embedded",
    "callactors.vendors.callbacks",
    "callactors.vendors.json_media",
    "callactors.vendors.preamble",
    "callactors.web.answers",
    "callactors.web.descriptions",
    "callactors.web.doorman",
    "callactors.web.frames",
    "callactors.web.metrics",
    "callactors.web.openapi",
    "importlib.metadata",  # by pydantic, as soon as a model is built
    "opentelemetry",
    "prometheus_client",
    "pydantic_settings",
    "unittest",
]


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return {*subprocess.check_output([sys.executable, "-c", _LOADED], text=True).split()}


@pytest.mark.parametrize("name", _LATER)
def test_what_may_never_be_used_is_not_loaded(loaded: set[str], name: str) -> None:
    assert "callactors.web.routes" in loaded
    assert name not in loaded
