"""The pytest plugin, in test suites of others, and what docs/embedding.md shows of it."""

import asyncpg
import pytest

from callactors.testing import Databases
from tests.test_typing import blocks

pytest_plugins = ["pytester"]

LOOPLESS = """
import asyncio

import pytest

from callactors import CallSystem, Packet


async def send(dsn, options):
    async with CallSystem(dsn, None, options) as calls:
        return await calls.accept("c", Packet(sequence=1, data="x", timestamp=1.0))


@pytest.mark.parametrize("time", [1, 2])
def test_each_has_a_database_of_its_own(callactors_dsn, callactors_options, time):
    assert not asyncio.run(send(callactors_dsn, callactors_options)).is_duplicate
"""


def test_a_suite_without_a_loop_has_databases(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LOOPLESS)
    ran = pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:aiohttp", "-W", "error")
    ran.assert_outcomes(passed=2)


def test_the_test_on_the_page_passes_without_waiting(pytester: pytest.Pytester) -> None:
    (shown,) = [block for block in blocks("docs/embedding.md") if "callactors_dsn" in block]
    pytester.makepyfile(shown)
    loop = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    ran = pytester.runpytest_subprocess(*loop, "-W", "error", "-o", "timeout=50")  # it would wait for 120 s
    ran.assert_outcomes(passed=1)


def test_the_plugin_is_there_without_being_asked_for_and_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['callactors.testing']")
    ran = pytester.runpytest_subprocess("--fixtures", "-o", "asyncio_default_fixture_loop_scope=function")
    ran.stdout.fnmatch_lines(["callactors_dsn*", "callactors_options*"])
    pytester.makeconftest("")
    ran = pytester.runpytest_subprocess("--fixtures", "-p", "no:callactors.testing")
    ran.stdout.no_fnmatch_line("callactors_dsn*")


async def test_a_database_is_gone_behind_its_use(callactors_databases: Databases) -> None:
    with callactors_databases.new() as dsn:
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("select count(*) from calls") == 0
        await connection.close()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(dsn)
