"""Where a provider may be."""

import pytest

from callactors.processors.addresses import is_private
from callactors.retry import Done, GiveUp
from tests.provider_scenes import (
    JSON,
    answering,
    asking,
    make_call,
    provide,
)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "10.0.0.1",
        "0.0.0.0",
        "localhost",
    ],
)
async def test_private_addresses_are_not_connected_to_whatever_they_are_called(host: str) -> None:
    async with provide(answering(200, JSON)) as provider:
        url = provider.url.replace("127.0.0.1", host)
        async with asking(url, is_private_allowed=False) as processor:
            outcome = await processor(make_call())
        assert provider.talks == 0
    assert isinstance(outcome, GiveUp)
    assert "set CALLACTORS_HTTP_ALLOW_PRIVATE" in outcome.reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_with_the_switch_they_are(host: str) -> None:
    async with provide(answering(200, JSON)) as provider:
        url = provider.url.replace("127.0.0.1", host)
        async with asking(url) as processor:
            assert await processor(make_call()) == Done(JSON)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
        ("::ffff:8.8.8.8", False),
        ("ai.example", False),
        ("100.100.100.200", True),
        ("168.63.129.16", True),
        ("192.168.1.1", True),
        ("172.16.0.1", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("2002:7f00:1::", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("localhost.", True),
    ],
)
def test_which_are_private(host: str, *, private: bool) -> None:
    assert is_private(host) is private
