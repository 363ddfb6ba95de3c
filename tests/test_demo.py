"""What a demo may touch, and what it says of that."""

from pathlib import Path

import pytest

from callactors.demo import set_up_demo, tell_demo
from callactors.errors import WrongSettings
from callactors.settings import Settings

SOMEBODYS = "postgresql://somebody@elsewhere/calls"


def test_a_demo_keeps_nothing() -> None:
    settings = set_up_demo(Settings(demo="own"))
    assert settings.ephemeral
    assert "deleted at the end" in tell_demo(settings)


def test_a_demo_keeps_its_calls_where_that_is_wanted(tmp_path: Path) -> None:
    settings = set_up_demo(Settings(demo="own", data_dir=tmp_path))
    assert not settings.ephemeral
    assert str(tmp_path) in tell_demo(settings)


def test_a_database_that_is_not_its_own_is_touched_only_by_wish() -> None:
    with pytest.raises(WrongSettings, match="--demo=any"):
        set_up_demo(Settings(demo="own", database_url=SOMEBODYS))
    settings = set_up_demo(Settings(demo="any", database_url=SOMEBODYS))
    assert settings.database_url == SOMEBODYS
    assert "where they stay" in tell_demo(settings)


def test_calls_that_could_not_come_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match="TLS"):
        set_up_demo(Settings(demo="own", tls_cert=tmp_path))


def test_calls_fail_often_unless_it_was_said_how_often() -> None:
    assert set_up_demo(Settings(demo="own")).flaky_failure_rate > Settings().flaky_failure_rate
    assert set_up_demo(Settings(demo="own", flaky_failure_rate=0.0)).flaky_failure_rate == 0.0
