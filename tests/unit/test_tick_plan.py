"""The sampler's times as plain arithmetic: which tick comes next, how long to wait for it, and what is due in it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_leak_stress_test import SCAN_S, TICK_S, Tick, TickPlan, schedule

START = 100.0
INTERVALS = [0.2, 0.25, 0.3, 0.7, 1.0, 2.5, 10.0, 60.0]


def ticks(plan: TickPlan, count: int, work: Callable[[Tick], float] = lambda _: 0.0) -> list[Tick]:
    """The first ticks of a sampler on a clock that moves only while it waits and works; `work` takes that long."""
    now, seen = plan.start, list[Tick]()
    while len(seen) < count:
        now += plan.wait(now, seen[-1] if seen else None)
        seen.append(plan.tick(now, seen[-1] if seen else None))
        now += work(seen[-1])
    return seen


def numbers(seen: Sequence[Tick]) -> list[int]:
    return [tick.number for tick in seen]


# ------------------------------------------------------------------------------------------------- when ticks come


def test_a_stop_ends_the_schedule_at_once() -> None:
    stop = threading.Event()
    seen = schedule(TickPlan(time.monotonic(), 60.0), stop)
    assert next(seen).number == 0
    stop.set()
    assert list(seen) == []


@pytest.mark.parametrize("interval", INTERVALS)
def test_ticks_stand_on_fixed_deadlines_however_long_the_work_takes(interval: float) -> None:
    plan = TickPlan(START, interval)
    seen = ticks(plan, 30, lambda tick: plan.period * (0.95 if tick.number % 2 else 0.1))
    assert numbers(seen) == list(range(30))
    assert [tick.at - START for tick in seen] == pytest.approx([n * plan.period for n in range(30)])


def test_a_missed_tick_is_skipped_and_the_others_keep_their_places() -> None:
    seen = ticks(TickPlan(START, 1.0), 20, lambda tick: 0.5 if tick.number == 3 else 0.02)
    at = {tick.number: tick.at - START for tick in seen}
    assert numbers(seen[:7]) == [0, 1, 2, 3, 5, 6, 7]
    assert at[5] == pytest.approx(1.1)  # late: due while the work of 3 went on
    assert at[6] == pytest.approx(1.2)
    assert at[20] == pytest.approx(4.0)


def test_work_that_always_takes_too_long_skips_and_does_not_pile_up() -> None:
    plan = TickPlan(START, 1.0)
    seen = ticks(plan, 30, lambda _: 0.3)
    assert all(0 <= tick.at - START - tick.number * plan.period < plan.period for tick in seen)
    assert numbers(seen) == sorted(set(numbers(seen)))


def test_a_wait_is_never_longer_than_a_tick_so_that_a_stop_is_heard_at_once() -> None:
    for interval in INTERVALS:
        plan = TickPlan(START, interval)
        assert plan.period <= TICK_S
        assert plan.wait(START, None) == 0.0
        assert plan.wait(START, plan.tick(START, None)) == pytest.approx(plan.period)


def test_a_sampler_that_woke_a_hair_too_early_takes_the_tick_that_it_waited_for() -> None:
    """Waits end some microseconds off, and 3 * 0.2 is not 0.6: no tick may be taken twice or left out for that."""
    plan = TickPlan(START, 1.0)
    before = plan.tick(START + 0.4, plan.tick(START + 0.2, plan.tick(START, None)))
    assert before.number == 2
    assert plan.tick(START + 0.6 - 1e-9, before).number == 3


# --------------------------------------------------------------------------------------------- what is due at them


def due_at(numbers_looked_at: Sequence[int]) -> list[Tick]:
    """What is due where only these ticks of a second's fifths are not missed."""
    plan, seen = TickPlan(START, 1.0), list[Tick]()
    for number in numbers_looked_at:
        seen.append(plan.tick(START + (number + 0.01) * plan.period, seen[-1] if seen else None))
    return seen


def test_a_row_and_a_search_whose_tick_was_missed_are_late_and_not_left_out() -> None:
    seen = due_at([0, 1, 4, 6, 7, 10, 21])  # 5 per second: 5 and 15-20 were missed
    assert numbers(seen) == [0, 1, 4, 6, 7, 10, 21]
    assert [tick.number for tick in seen if tick.rows] == [0, 6, 10, 21]
    assert [tick.number for tick in seen if tick.scan] == [0, 6, 10, 21]


@pytest.mark.parametrize("interval", INTERVALS)
def test_rows_come_once_per_interval_and_the_machine_is_searched_about_once_a_second(interval: float) -> None:
    plan = TickPlan(START, interval)
    seen = ticks(plan, 1000)
    rows, scans = ([tick.at - START for tick in seen if due(tick)] for due in (row_due, scan_due))
    assert rows == pytest.approx([n * interval for n in range(len(rows))])
    assert len(rows) == math.ceil(1000 / plan.row_ticks)
    between = [after - before for before, after in zip(scans, scans[1:], strict=False)]
    assert scans[0] == 0.0
    assert min(between) >= SCAN_S - 1e-9
    assert max(between) < SCAN_S + plan.period


def row_due(tick: Tick) -> bool:
    return tick.rows


def scan_due(tick: Tick) -> bool:
    return tick.scan


def test_gaps_are_between_looks_and_not_between_rows() -> None:
    """A CSV every 10 s must not pass for a hole of 10 s in which a worker could be replaced unseen."""
    seen = ticks(TickPlan(START, 10.0), 600)
    assert max(tick.gap for tick in seen) == pytest.approx(TICK_S)


def test_a_hole_between_looks_is_a_gap_of_its_length() -> None:
    seen = ticks(TickPlan(START, 1.0), 120, lambda tick: 7.0 if tick.number == 20 else 0.0)
    assert max(tick.gap for tick in seen) == pytest.approx(7.0)
    assert sum(tick.gap > 0.21 for tick in seen) == 1


@given(st.sampled_from(INTERVALS), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_whatever_the_work_takes_no_interval_with_a_look_in_it_is_without_its_row(
    interval: float, works: list[float]
) -> None:
    plan, left = TickPlan(START, interval), iter(works)
    seen = ticks(plan, len(works), lambda _: next(left))
    assert numbers(seen) == sorted(set(numbers(seen)))
    assert sum(tick.gap for tick in seen) == pytest.approx(seen[-1].at - START)
    looked_in = {number // plan.row_ticks for number in numbers(seen)}
    assert [tick.number // plan.row_ticks for tick in seen if tick.rows] == sorted(looked_in)
