"""What a long run concludes from its samples: made-up series that are flat, grow, fall, or only look so."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scenes import Sql, packet, running
from tests.soak.report import SERIES, judge_samples, make_table, tell_sample
from tests.soak.run import Soak, count_lost
from tests.soak.samples import Sample
from tests.soak.trend import fit

TIMES = [number / 240 for number in range(240)]  # an hour


def made(memory: Callable[[float], float], *, held: tuple[float, float] = (1 / 3, 1 / 2)) -> list[Sample]:
    """Samples whose memory is as *memory* says, at each time in hours; the rest never changes."""
    return [
        Sample(
            at=at,
            is_held=held[0] <= at < held[1],
            memory=memory(at),
            blocks=300,
            files=20,
            tasks=30,
            connections=8,
            resident=100,
            latency=3,
            lag=1,
            dead=at,
            size=100 * at,
        )
        for at in TIMES
    ]


def judge(memory: Callable[[float], float]) -> str:
    """What is said of that memory."""
    [judged] = [judged for judged in judge_samples(made(memory)) if judged.name == "memory"]
    assert judged.verdict is not None
    return judged.verdict


def noise(size: float) -> Callable[[float], float]:
    rng = random.Random(1)
    return lambda _: rng.gauss(0, size)


def test_a_straight_line_has_its_slope_and_no_error() -> None:
    assert tuple(fit([0, 1, 2, 3], [5, 7, 9, 11])) == pytest.approx((2, 0))


def test_the_error_is_the_textbooks() -> None:
    slope, error = fit([1, 2, 3, 4, 5], [1, 3, 2, 5, 4])
    assert slope == pytest.approx(0.8)
    assert error == pytest.approx((3.6 / 3 / 10) ** 0.5)


def test_two_samples_make_no_trend() -> None:
    with pytest.raises(ValueError, match="three samples"):
        fit([0, 1], [1, 2])


def test_two_standard_errors_hold_nearly_always_where_there_is_only_noise() -> None:
    rng = random.Random(7)
    flat = [fit(TIMES, [rng.gauss(50, 3) for _ in TIMES]).is_flat(1.0, allowed=0.0) for _ in range(400)]
    assert 0.93 < sum(flat) / len(flat) < 0.98


def test_what_stays_is_flat() -> None:
    assert judge(lambda _: 80.0) == "flat"


def test_noise_is_flat() -> None:
    around = noise(10.0)
    assert judge(lambda at: 80 + around(at)) == "flat"


def test_a_leak_grows_also_below_noise() -> None:
    around = noise(5.0)
    assert judge(lambda at: 80 + 40 * at + around(at)) == "GROWS"


def test_a_leak_that_is_small_enough_is_flat() -> None:
    assert judge(lambda at: 80 + at) == "flat"


def test_what_grows_only_at_first_is_flat() -> None:
    assert judge(lambda at: 80 + 200 * min(at, 0.25)) == "flat"


def test_what_grows_only_later_is_found() -> None:
    assert judge(lambda at: 80 + 20 * max(at - 0.6, 0)) == "GROWS"


def test_what_falls_is_said_to_fall() -> None:
    assert judge(lambda at: 80 - 40 * at) == "falls"


def test_what_is_told_for_information_is_not_judged() -> None:
    judged = {one.name: one.verdict for one in judge_samples(made(lambda _: 80.0))}
    assert judged.keys() == SERIES.keys()
    assert {name for name, verdict in judged.items() if verdict is None} == {"lag", "dead", "size"}


def test_means_are_told_before_while_and_after_the_snapshot_was_open() -> None:
    told = make_table(judge_samples(made(lambda at: 10.0 if at < 1 / 3 else 20.0 if at < 1 / 2 else 30.0)))
    [line] = [line for line in told.splitlines() if line.startswith("memory")]
    assert line.split()[2:5] == ["10.0", "20.0", "30.0"]


def test_a_sample_is_told_in_a_line() -> None:
    assert tell_sample(made(lambda _: 80.25)[120]).split()[:3] == ["1800", "s", "80.2"]


async def test_packets_that_are_missing_or_others_are_counted_as_lost(dsn: str, sql: Sql) -> None:
    async with running(dsn) as system:
        for call_id, sequences in {"a": (1, 2, 3), "b": (1, 3)}.items():
            for sequence in sequences:
                await system.accept(call_id, packet(sequence, f"{call_id}/{sequence}"))
        await system.accept("c", packet(1, "c/2"))
    assert await count_lost(dsn, {"a": 3}) == 0
    assert await count_lost(dsn, {"a": 3, "b": 3, "c": 1, "nobody": 4}) == 1 + 1 + 4
    assert await count_lost(dsn, {}) == 0


async def test_a_very_short_run_loses_nothing_and_looks_at_everything(tmp_path: Path) -> None:
    told: list[Sample] = []
    outcome = await Soak(3.5, 60, on_sample=told.append).run(tmp_path)
    assert (outcome.lost, outcome.unended, outcome.wrong) == (0, 0, {})
    assert outcome.acked > 60
    assert told == outcome.samples
    assert all(sample.memory > 10 < sample.tasks and sample.connections >= 5 for sample in told)
