"""Simulated calls and replays on real connections to a little server, as fast as they can be sent."""

from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from pathlib import Path

import pytest

from callactors.simulate.actions import Close, Cut, Send
from callactors.simulate.calls import Plan, Report, Simulation
from callactors.simulate.captures import Captured, Recorder, read_capture
from callactors.simulate.checks import Checked, Checker
from callactors.simulate.connection import Pace, make_session
from callactors.simulate.dialects import DIALECTS
from callactors.simulate.ledger import Ledger
from callactors.simulate.replay import Replay
from callactors.simulate.trouble import Trouble
from tests.phone_server import PhoneServer, number, serving

TROUBLE = Trouble(0.05, 0.05, 0.05, 0.3)
KEY = "ca_0123456789ab_x"

Simulate = Callable[..., Awaitable[Report]]


@pytest.fixture
def phone() -> PhoneServer:
    return PhoneServer()


@pytest.fixture
async def url(phone: PhoneServer) -> AsyncIterator[str]:
    async with serving(phone) as url:
        yield url


@pytest.fixture
def simulate(url: str) -> Simulate:
    async def run(vendor: str = "twilio", *, recorder: Recorder | None = None, **options: object) -> Report:
        chosen = {"calls": 10, "seconds": 2.0, "run": "test", "seed": 1, "patience": 5.0} | options
        plan = Plan(url=url, vendor=vendor, **chosen)  # type: ignore[arg-type]
        return await Simulation(plan, Pace(inf), None if recorder is None else recorder.record).run()

    return run


@pytest.mark.parametrize("vendor", DIALECTS)
async def test_a_server_that_hears_all_agrees(vendor: str, phone: PhoneServer, simulate: Simulate) -> None:
    trouble = TROUBLE if DIALECTS[vendor].is_numbered else Trouble(drop=0.3)
    report = await simulate(vendor, trouble=trouble)
    assert report.differences == []
    assert report.agrees
    assert 0 < sum(ledger.is_cut for ledger in report.ledgers) < 10
    assert report.messages == sum(len(heard.messages) for heard in phone.heard)
    assert sum(ledger.packets for ledger in report.ledgers) == sum(len(set(number(h))) for h in phone.heard)
    assert report.missing == sum(ledger.lost for ledger in report.ledgers)
    assert (report.missing > 0) == DIALECTS[vendor].is_numbered
    assert {heard.subprotocol for heard in phone.heard} == {DIALECTS[vendor].subprotocol}
    assert {heard.close_code for heard in phone.heard} == {1000, 1006}


async def test_one_seed_makes_the_same_trouble(simulate: Simulate) -> None:
    first, again = [await simulate(run=run, trouble=TROUBLE) for run in ("a", "b")]
    assert [(x.packets, x.lost, x.is_cut) for x in first.ledgers] == [
        (x.packets, x.lost, x.is_cut) for x in again.ledgers
    ]


@pytest.mark.parametrize("vendor", ["twilio", "jambonz"])
async def test_the_key_is_in_the_path_of_the_socket_and_in_a_header_of_the_question(
    vendor: str, phone: PhoneServer, simulate: Simulate
) -> None:
    assert (await simulate(vendor, calls=1, key=KEY)).agrees
    assert phone.heard[0].path == f"{DIALECTS[vendor].path}/{KEY}"
    assert phone.asked[0][1] == f"Bearer {KEY}"


async def test_a_server_that_loses_something_is_found_out(phone: PhoneServer, simulate: Simulate) -> None:
    phone.forgets = 3
    report = await simulate(calls=2, patience=0.0)
    assert not report.agrees
    assert [difference.what for difference in report.differences] == ["packets", "missing"] * 2


async def test_a_call_that_the_server_closes_is_told_and_not_asked_for(
    phone: PhoneServer, simulate: Simulate
) -> None:
    phone.close_after = 5
    report = await simulate(calls=1, seconds=60)
    assert not report.agrees
    (difference,) = report.differences
    assert (difference.what, difference.seen) == ("connection", "closed with 1013")
    assert phone.asked == []


async def test_refused_calls_are_counted_without_the_key(url: str) -> None:
    plan = Plan(f"{url}/nowhere", "twilio", 3, 1.0, "run", 1, key=KEY)
    report = await Simulation(plan, Pace(inf)).run()
    assert not report.agrees
    assert report.refused == {"HTTP status 404": 3}


async def test_lateness_is_reckoned_from_one_start_and_does_not_add_up() -> None:
    now, wanted = 0.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        wanted.append(round(seconds, 6))
        now += seconds + 0.005

    pace = Pace(clock=lambda: now, sleep=sleep)
    for at in (0.02, 0.04, 0.06):
        await pace.wait(0.0, at)
    assert wanted == [0.02, 0.015, 0.015]
    assert [round(late, 6) for late in pace.lateness] == [0.005] * 3


@pytest.mark.parametrize(("speed", "waited"), [(1.0, 3.0), (2.0, 1.5), (inf, 0.0)])
async def test_speed_divides_the_time(speed: float, waited: float) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await Pace(speed, clock=lambda: 7.0, sleep=sleep).wait(7.0, 3.0)
    assert slept == [waited]


async def check(url: str, statuses: list[int], phone: PhoneServer) -> tuple[Checked, list[float]]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    phone.statuses = statuses
    async with make_session() as session:
        checker = Checker(session, url, None, patience=5.0, sleep=sleep)
        return await checker.check(Ledger("unknown", None)), slept


async def test_a_call_that_is_not_known_is_asked_for_until_patience_ends(
    url: str, phone: PhoneServer
) -> None:
    checked, slept = await check(url, [503], phone)
    assert [difference.seen for difference in checked.differences] == ["404"]
    assert slept == [0.2, 0.4, 0.8, 1.6, 2.0]


async def test_who_may_not_ask_does_not_ask_again(url: str, phone: PhoneServer) -> None:
    checked, slept = await check(url, [403], phone)
    assert [difference.seen for difference in checked.differences] == ["403"]
    assert slept == []


@pytest.mark.parametrize("vendor", ["plivo", "jambonz"])
async def test_what_was_recorded_is_heard_again(
    vendor: str, phone: PhoneServer, url: str, simulate: Simulate, tmp_path: Path
) -> None:
    file = tmp_path / "capture.jsonl"
    with file.open("w") as opened:
        dialect = DIALECTS[vendor]
        recorder = Recorder(opened, dialect.path, dialect.subprotocol)
        await simulate(vendor, calls=3, key=KEY, trouble=Trouble(drop=0.5), recorder=recorder)
    assert KEY not in file.read_text()
    first, phone.heard = phone.heard, []
    with file.open() as opened:
        played = await Replay(read_capture(opened), url, KEY, Pace(inf)).run()
    assert played.is_whole
    assert (played.connections, played.messages) == (3, sum(len(heard.messages) for heard in first))
    assert sorted(phone.heard, key=str) == sorted(first, key=str)


async def test_replay_sends_the_key_in_a_header_where_no_vendor_comes(url: str, phone: PhoneServer) -> None:
    captured = {"a": Captured("/v1/call/c", None, [Send(0, "x"), Close(0)])}
    played = await Replay(captured, url, KEY, Pace(inf)).run()
    assert played.refused == {"HTTP status 404": 1}
    assert phone.asked == [("c", f"Bearer {KEY}")]


async def test_replay_tells_what_the_server_closed(url: str, phone: PhoneServer) -> None:
    phone.close_after = 1
    captured = {"a": Captured("/v1/media", None, [*(Send(0, "x") for _ in range(10_000)), Cut(0)])}
    played = await Replay(captured, url, None, Pace(inf)).run()
    assert not played.is_whole
    assert played.closed_early == {"closed with 1013": 1}
