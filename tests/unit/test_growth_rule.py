"""The growth rule: the series it must accuse and must not, its arithmetic, and what interrupts a series."""
from __future__ import annotations

import dataclasses
import itertools
import math
import random
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_leak_stress_test import (
    MOST_READINGS,
    GrowthVerdict,
    ProcessMemory,
    Rise,
    RoleMemory,
    RoleVerdict,
    TaskResult,
    cycles_by_size,
    cycles_by_time,
    enough_cycles,
    find_rises,
    fit,
    judge_growth,
    judge_history,
    judge_leak,
    judge_tasks,
    looks,
    moving_turn,
    noise_sd,
    slope_factor,
    t_quantile,
    working_role,
)
from stress_report.memory import growth_rates, growth_under_load
from stress_report.saying import Words, reason
from stress_report.words import WORDS

# reasons of no series of readings
READERS_OWN = ("reason_wrong_process", "reason_gap_unknown", "reason_old_record", "reason_no_work",
               "reason_no_work_other", "reason_no_rest", "reason_ramp_leak",
               *(key for key in WORDS if key.startswith("reason_unwatched_")))
GROWTH_REASONS = {key.removeprefix("reason_"): texts[0] for key, texts in WORDS.items()
                  if key.startswith("reason_") and key not in READERS_OWN}


def reason_sentence(growth: GrowthVerdict) -> str:
    return reason(growth, Words("en"))


# ------------------------------------------------------------------------------------------------------ series


def line(mb_per_cycle: float, cycles: int, start: float = 0.0) -> list[float]:
    return [start + mb_per_cycle * cycle for cycle in range(cycles)]


def stairs(jump: float, every: int, cycles: int) -> list[float]:
    return [jump * (cycle // every) for cycle in range(cycles)]


def wobble(readings: Sequence[float], size: float) -> list[float]:
    """Add a fixed noise of known size without a trend."""
    pattern = (1, -1, -1, 1, 0, 1, -1, 0, -1, 1)
    return [mb + size * pattern[place % 10] for place, mb in enumerate(readings)]


def decided(readings: Sequence[float], **settings: Any) -> GrowthVerdict:
    """Judge after each cycle, as the leak phase does, until the rule decides or the readings end."""
    verdict = judge_growth([])
    for n in range(1, len(readings) + 1):
        verdict = judge_growth(readings[:n], **settings)
        if verdict.verdict != "INCONCLUSIVE":
            break
    return verdict


warm_up = [600 * (1 - math.exp(-cycle / 2)) for cycle in range(1, 21)]
slow_warm_up = [600 * (1 - math.exp(-cycle / 4)) for cycle in range(1, 21)]
one_of_two_workers = [0.0, 120, 120, 240, 360, 360, 360, 480, 600, 600, 720, 720, 840]

MUST_ACCUSE = [  # why, readings, cycles it may take
    ("20 MB per cycle, the smallest leak the budget cares for", line(20, 20), 13),
    ("20 MB per cycle under noise", wobble(line(20, 20), 10), 13),
    ("12 MB per cycle is above the tolerance when it is clean", wobble(line(12, 20), 1), 13),
    ("300 MB per cycle is seen before a heap would have been collected", wobble(line(300, 20), 10), 10),
    ("50 MB per cycle likewise", wobble(line(50, 20), 10), 10),
    ("a leak goes on after a warm-up ends", [a + b for a, b in zip(warm_up, line(20, 20), strict=True)], 17),
    ("jumps of 58 MB every third cycle keep coming", wobble(stairs(58, 3, 20), 3), 14),
    ("jumps of 120 MB every fourth cycle", wobble(stairs(120, 4, 20), 3), 20),
    ("a leak in one of two workers, hit by chance", one_of_two_workers, 13),
    ("a leak that begins late", [0.0] * 5 + line(30, 15), 20),
    ("a leak above a saw-tooth", [30.0 * (cycle % 2) + 20 * cycle for cycle in range(20)], 16),
]

MUST_CLEAR = [  # why, readings, cycles it may take
    ("exactly constant", [512.0] * 20, 10),
    ("flat under noise", wobble([512.0] * 20, 10), 12),
    ("one step at the first task", [600.0] * 20, 10),
    ("a step in the second cycle, quiet for 17 since", [0.0] + [150.0] * 19, 18),
    ("a step too small to matter, as often as it may come", [0.0] * 6 + [20.0] * 14, 11),
    ("a warm-up that saturates", warm_up, 14),
    ("a slow warm-up that saturates", [300 * (1 - math.exp(-cycle / 4)) for cycle in range(1, 21)], 18),
    ("3 MB per cycle is below the tolerance", wobble(line(3, 20), 0.1), 10),
    ("8 MB per cycle is below the tolerance", wobble(line(8, 20), 2), 12),
    ("memory falls", line(-30, 20, 2000), 10),
    ("a saw-tooth", [30.0 * (cycle % 2) for cycle in range(20)], 16),
    ("a spike is no rise", [0.0] * 8 + [60.0] + [0.0] * 11, 15),
    ("a cache of 16 entries", [50.0 * min(cycle, 7) for cycle in range(20)], 14),
]

MUST_NOT_DECIDE = [  # why, readings, reason at the end
    ("a step in the third cycle may come again", [0.0] * 2 + [150.0] * 18, "rises_not_over"),
    ("a late jump may come again", [0.0] * 9 + [150.0] * 11, "rises_not_over"),
    ("a jump in the last cycles", [0.0] * 8 + [150.0] * 4, "one_jump"),
    ("jumps of 120 MB every ninth cycle, two seen", stairs(120, 9, 20), "one_jump"),
    ("a saw-tooth of 160 MB", [160.0 * (cycle % 2) for cycle in range(20)], "too_noisy"),
    ("a heap that grows for nine cycles and is collected", [60.0 * (cycle % 9) for cycle in range(20)], "swings"),
    ("a heap collected in the twelfth", [30.0 * ((cycle + 1) % 12) for cycle in range(13)], "swings"),
    ("a warm-up of tens of cycles", [3000 * (1 - math.exp(-cycle / 7)) for cycle in range(1, 15)], "slowing_down"),
    ("fewer readings than a window", [100.0] * 5, "too_few"),
    ("a growing service, stopped before a heap's collection would show", line(20, 12), "unconfirmed"),
    ("noise hides 10 MB per cycle", wobble([500.0] * 10, 40), "too_noisy"),
]


def rows(table: Sequence[tuple[str, list[float], object]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("readings", "expected"), [pytest.param(*row[1:], id=row[0]) for row in table])


@rows(MUST_ACCUSE)
def test_a_leak_is_accused_in_time(readings: list[float], expected: int) -> None:
    verdict = decided(readings)
    assert (verdict.verdict, verdict.cycles <= expected) == ("LEAK", True), reason_sentence(verdict)


@rows(MUST_CLEAR)
def test_a_healthy_service_is_cleared_in_time(readings: list[float], expected: int) -> None:
    verdict = decided(readings)
    assert (verdict.verdict, verdict.cycles <= expected) == ("NO LEAK", True), reason_sentence(verdict)


@rows(MUST_NOT_DECIDE)
def test_what_cannot_be_known_is_inconclusive_and_says_why(readings: list[float], expected: str) -> None:
    verdict = decided(readings)
    assert (verdict.verdict, verdict.reason) == ("INCONCLUSIVE", expected), reason_sentence(verdict)


# -------------------------------------------------------------------------------------------------- arithmetic

T_99 = {4: 3.746947, 5: 3.364930, 8: 2.896459, 13: 2.650309, 30: 2.457262, 100: 2.364217}  # scipy 1.17.1 t.ppf(.99)


@pytest.mark.parametrize("df", T_99)
def test_t_quantile_agrees_with_scipy(df: int) -> None:
    assert t_quantile(df) == pytest.approx(T_99[df], rel=0.0011 if df < 8 else 0.0001)


def test_slope_bounds_and_sd_by_hand() -> None:
    # x - 2.5 = -2.5 … 2.5, squares sum to 17.5; sum of (x - 2.5) * y = 178, slope = 178 / 17.5
    # residual sd 2.16905, standard error 0.51850 (scipy 1.17.1 linregress), t(4) = 3.74695
    line_of = fit([100, 112, 118, 133, 139, 152])
    assert line_of["slope"] == pytest.approx(178 / 17.5)
    assert line_of["sd"] == pytest.approx(2.16905, abs=1e-5)
    assert line_of["low"] == pytest.approx(8.22863, abs=0.0025)
    assert line_of["high"] == pytest.approx(12.11423, abs=0.0025)


def test_a_lucky_smooth_window_is_not_taken_for_precision() -> None:
    # sd floor 2: margin = 3.743 * 2 / sqrt(17.5) = 1.79
    line_of = fit(line(5, 6))
    assert line_of["sd"] == 2.0
    assert (line_of["low"], line_of["high"]) == (pytest.approx(3.21, abs=0.01), pytest.approx(6.79, abs=0.01))


def test_the_floor_of_the_noise_goes_with_the_tolerance_so_that_measured_noise_decides() -> None:
    """10 kB per call, two calls a cycle: below any tolerance from 0.1 up, and soon."""
    readings = [77.02 + 0.02 * cycle for cycle in range(20)]
    assert {t: decided(readings, tolerance_mb=t).cycles for t in (10, 1, 0.1)} == {10: 10, 1: 10, 0.1: 10}
    assert decided(wobble(line(0.5, 20), 0.3), tolerance_mb=1).verdict == "NO LEAK"
    assert decided(wobble(line(1.5, 20), 0.3), tolerance_mb=1).verdict == "LEAK"


def test_noise_is_measured_from_falls_so_that_rises_do_not_hide_themselves() -> None:
    rng = random.Random(1)
    noise = [rng.gauss(0, 10) for _ in range(300)]
    staircase = [mb + 58 * (place // 3) for place, mb in enumerate(noise)]
    assert noise_sd(noise) == pytest.approx(10, rel=0.15)
    assert noise_sd(staircase) == pytest.approx(10, rel=0.15)
    assert noise_sd(line(5, 10)) == 0.0
    assert noise_sd([0.0] * 11 + [10.0] + [0.0] * 3) == 0.0  # nor by one spike


def test_cycles_that_would_be_enough_follow_from_the_power_of_a_window() -> None:
    # (t.99(m-2) + 1.28) * sd * sqrt(12 / (m (m^2 - 1))) <= tolerance, and the window is 0.6 of the run
    assert enough_cycles(8.3, 10) == 10  # m = 6: 5.027 * 8.3 * 0.2390 = 9.98
    assert enough_cycles(8.4, 10) == 12  # m = 6: 10.1; m = 7: 4.645 * 8.4 * 0.1890 = 7.4; 7 / 0.6 = 11.7
    assert enough_cycles(1e6, 1e-3) == math.ceil(MOST_READINGS / 0.6)  # at once: a week of readings would not do
    assert enough_cycles(30, 10) == 22  # m = 12: 4.044 * 30 * 0.0836 = 10.1; m = 13: 3.998 * 30 * 0.0741 = 8.9


@pytest.mark.parametrize(
    ("jumps", "last", "cycles"), [(1, 1, 18), (1, 2, 35), (2, 3, 19), (3, 3, 11), (4, 6, 16), (54, 54, 59)])
def test_rises_pause_by_chance_less_and_less(jumps: int, last: int, cycles: int) -> None:
    """(last / (n - 1)) ** jumps, of which 0.06 is small for one jump and 0.03 for more."""
    chance = 0.06 if jumps == 1 else 0.03
    assert cycles_by_time([Rise(1, 50.0)] * jumps, last) == cycles
    assert (last / (cycles - 1)) ** jumps <= chance < (last / (cycles - 2)) ** jumps


def test_rises_at_the_upper_bound_of_their_rate_stay_below_the_tolerance() -> None:
    assert cycles_by_size([Rise(3, 40.0)], 10) == 20  # 40 * 4.7 / 19 = 9.9
    assert cycles_by_size([Rise(3, 30.0), Rise(4, 50.0)], 10) == 27  # 40 * 6.3 / 26 = 9.7
    assert cycles_by_size([Rise(3, 1.0)] * 10, 10) == math.inf  # beyond the table: by time alone


def test_a_rise_stands_out_of_noise_and_of_steady_growth_and_stays() -> None:
    assert find_rises([0.0, 0, 6, 6, 6], 0, 10) == [Rise(2, 6.0)]
    assert find_rises([0.0, 0, 5, 5, 5], 0, 10) == []  # half a tolerance
    assert find_rises(line(8, 8), 8, 10) == []
    assert find_rises([0.0, 0, 60, 0, 0], 0, 10) == []  # the next reading gave it back
    assert find_rises([0.0, 0, 60, 0, 60, 61], 0, 10) == [Rise(4, 60.0)]
    assert find_rises([0.0, 0, 0, 0, 60], 0, 10) == [Rise(4, 60.0)]  # nothing is known yet of what follows
    assert find_rises([0.0] * 4 + [30.0, 60, 90] + [90.0] * 3, 0, 10, 3) == [Rise(4, 90.0)]  # one jump, seen by thirds


# ------------------------------------------------------------------------------------------- readings over a turn


def test_the_error_of_a_slope_over_means_that_share_cycles() -> None:
    assert slope_factor(6, 1) == pytest.approx(1 / math.sqrt(17.5))
    # two means over two cycles a, b, c: their slope is (b + c) / 2 - (a + b) / 2 = (c - a) / 2
    assert slope_factor(2, 2) == pytest.approx(math.sqrt(2) / 2)


@pytest.mark.parametrize("turn", [2, 3, 5])
def test_a_slope_over_means_is_as_uncertain_as_it_says(turn: int) -> None:
    """The true slope is below its lower 99 % bound in 1 % of series: 40 of 4,000 (by the means' residuals: 4-15 %)."""
    rng = random.Random(turn)
    missed = 0
    for _ in range(4000):
        own = [rng.gauss(0, 10) for _ in range(7 + turn)]
        means = [sum(own[place : place + turn]) / turn for place in range(8)]
        missed += fit(means, turn=turn)["low"] > 0
    assert 15 <= missed <= 65


def test_a_moving_mean_over_a_turn_has_one_reading_per_cycle() -> None:
    tasks = [float(number) for number in range(1, 9)]
    assert moving_turn(tasks, 1) == [2, 4, 6, 8]  # one worker: as at the end of each cycle
    assert moving_turn(tasks, 2) == [2.5, 4.5, 6.5]  # means of 1-4, 3-6, 5-8
    assert moving_turn(tasks[:3], 2) == []
    assert moving_turn(tasks, 4) == [4.5]


def turns(workers: int, kept: float, leak: float, cycles: int = 20) -> list[float]:
    """Readings after each task: tasks go round, and each worker keeps more after a long clip than after a short one."""
    rng, held, readings = random.Random(workers), [kept] * workers, []
    for task_number in range(2 * cycles):
        turned = workers % 2 == 0 and task_number // 2 % 2
        held[task_number % workers] = kept * ((task_number + turned) % 2)
        readings.append(sum(held) + leak * task_number / 2 + rng.gauss(0, 3))
    return readings


@pytest.mark.parametrize("workers", range(1, 9))
def test_what_each_worker_keeps_of_its_last_clip_is_no_noise(workers: int) -> None:
    for leak, verdict in ((0, "NO LEAK"), (20, "LEAK")):
        readings = moving_turn(turns(workers, 30, leak, 24), workers)
        assert decided(readings, turn=workers).verdict == verdict


@pytest.mark.parametrize("workers", [2, 3, 5, 8])
def test_workers_that_keep_nothing_are_judged_as_soon_as_one(workers: int) -> None:
    assert judge_tasks(turns(workers, 0, 0, 10), workers=workers).cycles == 10
    assert judge_tasks(turns(workers, 0, 0, 10), workers=workers).verdict == "NO LEAK"
    assert judge_tasks(turns(workers, 0, 20, 13), workers=workers).verdict == "LEAK"


def test_a_worker_that_gives_memory_back_does_not_hide_a_leak() -> None:
    """Two workers hold 80 MB more after the warm-up than after their first short clip, and leak 20 MB per cycle."""
    tasks = [10.0 * number - 80 * (number >= 12) - 80 * (number >= 16) for number in range(20)]
    assert judge_growth(tasks[1::2]).verdict == "NO LEAK"
    assert judge_tasks(tasks, workers=8).reason == "too_few"
    assert judge_tasks(tasks, workers=8).facts == {"cycles": 10, "more": 5}
    assert judge_tasks(tasks, workers=16).facts == {"cycles": 10, "more": 17}
    assert judge_tasks([150.0] * 3 + [0.0] * 17, workers=2).verdict == "NO LEAK"  # the mean over a turn clears it


def test_too_few_tasks_for_a_turn_are_said_in_cycles() -> None:
    assert judge_tasks([], workers=3).facts == {"cycles": 0, "more": 10}
    assert judge_tasks([100.0] * 6, workers=5).facts == {"cycles": 3, "more": 7}
    assert judge_tasks([100.0] * 20, workers=1).verdict == "NO LEAK"


@pytest.mark.parametrize("workers", [2, 3, 5, 6])
def test_one_jump_is_none_the_more_for_being_smeared_over_a_turn(workers: int) -> None:
    for place in range(2, 40):
        tasks = [150.0 * (task_number >= place) for task_number in range(40)]
        assert decided(moving_turn(tasks, workers), turn=workers).verdict != "LEAK"


# ------------------------------------------------------------------------------------------- a verdict that stood


def test_a_verdict_stays_while_another_role_is_waited_for() -> None:
    noisy = [*line(20, 13), 150.0, 400, 170, 420, 170, 430, 190]
    assert {judge_growth(noisy[:n]).verdict for n in range(14, 21)} == {"INCONCLUSIVE"}
    kept = judge_history(noisy)
    assert (kept.verdict, kept.cycles, kept.facts["said_at"], kept.facts["later"]) == ("LEAK", 13, 13, 7)
    assert reason_sentence(kept).endswith("decided after cycle 13; the 7 cycles since then do not contradict it")


def test_the_newest_of_equal_verdicts_is_told() -> None:
    again = judge_history([700.0] * 14)
    assert (again.verdict, again.cycles, "said_at" in again.facts) == ("NO LEAK", 14, False)


def test_a_cache_that_was_full_in_the_end_takes_the_leak_back_and_says_so() -> None:
    """A service that grew by 147 MB for 55 requests and then no more."""
    readings = line(147, 55) + [54 * 147.0] * 5
    assert judge_history(readings[:56]).verdict == "LEAK"
    cleared = judge_history(readings)
    assert (cleared.verdict, cleared.facts["revoked"]) == ("NO LEAK", "LEAK")
    assert "the verdict was LEAK" in reason_sentence(cleared)
    assert "which later readings contradict" in reason_sentence(cleared)


def test_a_heap_collected_after_it_was_accused_takes_the_leak_back() -> None:
    heap = [60.0 * (cycle % 12) for cycle in range(14)]
    assert judge_history(heap[:12]).verdict == "LEAK"
    revoked = judge_history(heap)
    assert (revoked.verdict, revoked.reason, revoked.facts["revoked"]) == ("INCONCLUSIVE", "swings", "LEAK")


def test_a_jump_after_no_leak_takes_it_back_but_noise_does_not() -> None:
    calm = [700.0] * 10
    jumped = judge_history(calm + [900.0] * 4)
    assert (jumped.verdict, jumped.reason, jumped.facts["revoked"]) == ("INCONCLUSIVE", "one_jump", "NO LEAK")
    assert judge_history([*calm, 640.0, 702.0, 640.0]).verdict == "NO LEAK"
    assert judge_history(calm + line(50, 14, 750)).verdict == "LEAK"


def test_a_long_run_is_looked_at_ever_more_rarely_and_at_its_end() -> None:
    assert list(looks(3)) == [1, 2, 3]
    assert list(looks(129))[-3:] == [126, 128, 129]
    found = list(looks(3000))
    assert (found[:60], found[-1], len(found)) == (list(range(1, 61)), 3000, 330)


# ------------------------------------------------------------------------------------- series seen in the wild

SEEN = [  # what it was, readings, tolerance, verdict at the end
    ("126 MB after every request", line(126, 40, 1466), 10, "LEAK"),
    ("10.3 MB per reload, two a cycle", line(20.7, 20, 715.7), 10, "LEAK"),
    ("the same after the fix", line(0.02, 20, 664), 10, "NO LEAK"),
    ("11 MB per call with one runtime version", line(22, 20, 422), 10, "LEAK"),
    ("0.13 MB per call with the version before", line(0.26, 20, 400), 10, "NO LEAK"),
    ("1.3 MB per file, two a cycle", wobble(line(2.6, 60, 1438), 1), 10, "NO LEAK"),
    ("1.3 MB per file against 2 MB", wobble(line(2.6, 60, 1438), 1), 2, "LEAK"),
    ("60 MB per cycle, collected in the ninth", [99 + 60.0 * (cycle % 9) for cycle in range(20)], 10, "INCONCLUSIVE"),
    ("2 MB per task", line(4, 10, 60), 10, "NO LEAK"),
]


@pytest.mark.parametrize(("readings", "tolerance", "verdict"), [pytest.param(*row[1:], id=row[0]) for row in SEEN])
def test_series_seen_in_the_wild(readings: list[float], tolerance: float, verdict: str) -> None:
    assert judge_history(readings, tolerance_mb=tolerance).verdict == verdict


# -------------------------------------------------------------------- lives, repeated levels, and rates by the clock


def test_growth_at_every_repeat_of_a_level_is_growth_under_load() -> None:
    runs = [(1, 100.0, 110.0), (5, 845.0, 1486.0), (5, 1486.0, 2006.0), (5, 2006.0, 2686.0), (8, 2686.0, 2700.0)]
    found = growth_under_load(runs)
    assert found is not None
    assert (found.concurrency, found.readings, found.smallest_mb) == (5, [845.0, 1486.0, 2006.0, 2686.0], 520.0)
    assert found.mb_per_task == pytest.approx((520 + 680) / 2 / 5)
    assert growth_under_load(runs[:3]) is None  # one repeat is no row
    high_water = [(5, 845.0, 1486.0), (5, 1486.0, 1490.0), (5, 1490.0, 1489.0)]
    assert growth_under_load(high_water) is None
    assert growth_under_load([(5, 0.0, 600.0), (5, 600.0, 626.0), (5, 626.0, 651.0)]) is None  # 25 MB for 5 tasks


def test_a_rate_in_every_unit() -> None:
    rates = growth_rates(4.0, 2, 10.0)
    assert (rates.per_task, rates.per_hour, rates.cycles_per_gb, rates.idle_share) == (2.0, 1440.0, 256, None)
    assert rates.hours_per_gb == pytest.approx(1024 / 1440)
    by_the_clock = growth_rates(7.0, 2, 7.0, idle=[(30.0, 30.0), (10.0, 10.0)])
    assert by_the_clock.idle_share == 1.0  # 1 MB per second whatever the tasks
    assert growth_rates(7.0, 2, 7.0, idle=[(60.0, 0.0)]).idle_share == 0.0
    falling = growth_rates(-4.0, 2, None)
    assert (falling.per_hour, falling.cycles_per_gb, falling.hours_per_gb, falling.idle_share) == (None,) * 4


# ------------------------------------------------------------------------------- each condition, at its boundary


def two_lines(early: float, late: float, between: float) -> list[float]:
    """One reading, then six growing by `early`, a step of `between`, six growing by `late`."""
    return [0.0, *line(early, 6), *line(late, 6, 5 * early + between)]


def late_step(step: float) -> list[float]:
    """Thirteen readings that grow by 20 MB, but for the tenth step."""
    return [20.0 * cycle + (step - 20) * (cycle > 9) for cycle in range(13)]


def ten(*changes: tuple[int, float]) -> list[float]:
    """Ten readings that grow by 50 MB, but for some steps."""
    return list(itertools.accumulate([0.0, *(dict(changes).get(step, 50.0) for step in range(1, 10))]))


BOUNDARIES = [  # what is at its boundary, readings, verdict, reason
    ("slope of the tolerance", line(10.01, 13), "LEAK", "steady_growth"),
    ("slope just below it", line(9.9, 13), "INCONCLUSIVE", "too_noisy"),
    ("later window at 70 % of the earlier", two_lines(20, 14.1, 15), "LEAK", "steady_growth"),
    ("later window below 70 %", two_lines(20, 13.9, 15), "INCONCLUSIVE", "slowing_down"),
    ("earlier window grew", two_lines(0.01, 20, 15), "LEAK", "steady_growth"),
    ("earlier window fell", two_lines(-0.01, 20, 15), "INCONCLUSIVE", "unconfirmed"),
    ("rest grows at 57 % of the rate", late_step(190), "LEAK", "steady_growth"),
    ("rest grows at 55 %", late_step(196), "INCONCLUSIVE", "one_jump"),
    ("fall of 49 % of the range", two_lines(40, 40, -131), "LEAK", "steady_growth"),
    ("fall of 51 %", two_lines(40, 40, -136), "INCONCLUSIVE", "swings"),
    ("surely four tolerances", line(40.9, 10), "LEAK", "fast_growth"),
    ("not surely four tolerances", line(40.1, 10), "INCONCLUSIVE", "unconfirmed"),
    ("a tolerance in every cycle", ten((6, 10.0)), "LEAK", "fast_growth"),
    ("one cycle below it", ten((6, 9.9)), "INCONCLUSIVE", "unconfirmed"),
    ("ten readings", [0.0] * 10, "NO LEAK", "no_growth"),
    ("nine readings", [0.0] * 9, "INCONCLUSIVE", "too_few"),
    ("a rise of 5 MB is none", [0.0] * 5 + [5.0] * 5, "NO LEAK", "no_growth"),
    ("a rise of 19.1 MB at its upper rate", [0.0] * 4 + [19.1] * 6, "NO LEAK", "no_growth"),
    ("a rise of 19.2 MB", [0.0] * 4 + [19.2] * 6, "INCONCLUSIVE", "rises_not_over"),
    ("quiet for 16 of 17 cycles", [0.0] + [150.0] * 17, "NO LEAK", "no_growth"),
    ("quiet for 15 of 16", [0.0] + [150.0] * 16, "INCONCLUSIVE", "rises_not_over"),
    ("upper bound below the tolerance", line(8.1, 10), "NO LEAK", "small_growth"),
    ("upper bound above it", line(8.3, 10), "INCONCLUSIVE", "too_noisy"),
    ("growth worth saying", line(1.9, 10), "NO LEAK", "small_growth"),
    ("growth that may be none", line(1.8, 10), "NO LEAK", "no_growth"),
]


@pytest.mark.parametrize(("readings", "verdict", "reason"), [pytest.param(*r[1:], id=r[0]) for r in BOUNDARIES])
def test_boundary(readings: list[float], verdict: str, reason: str) -> None:
    found = judge_growth(readings)
    assert (found.verdict, found.reason) == (verdict, reason), reason_sentence(found)


def test_cycles_asked_for_are_more_than_there_were() -> None:
    assert judge_growth(line(20, 8)).facts["needed"] == 13
    assert judge_growth(two_lines(-0.01, 20, 15)).facts["needed"] == 14
    assert judge_growth(line(9.9, 13)).facts["enough"] == 14
    assert judge_growth([0.0] + [150.0] * 12).facts["enough"] == 18


def test_growth_must_be_sure_to_be_a_leak() -> None:
    early = line(15, 7)
    assert judge_growth([*early, *wobble(line(15, 6, 105), 10)]).verdict == "LEAK"
    noisy = judge_growth([*early, *wobble(line(15, 6, 105), 60)])
    assert (noisy.verdict, noisy.mb_per_cycle is not None and noisy.mb_per_cycle >= 10) == ("INCONCLUSIVE", True)


def test_a_leak_says_what_it_rests_on() -> None:
    assert reason_sentence(judge_growth(line(60, 10, 100))) == (
        "grew by 60.0 MB per cycle (at least 59.4), in every one of 10 cycles by 60.0 or more, 540 MB in all, and does "
        "not slow down; a cache larger than that, or a heap collected later, looks the same: continue with "
        "--min-cycles 40")
    assert reason_sentence(judge_growth(line(20, 13))) == (
        "grew by 20.0 MB per cycle (at least 19.5) over the last 12 of 13 cycles, 240 MB in all, and does not slow "
        "down; a cache larger than that looks the same: continue with --min-cycles 60")


def test_small_growth_is_said_in_numbers() -> None:
    verdict = judge_growth(line(4, 10, 60))
    assert verdict.verdict == "NO LEAK"
    assert verdict.mb_per_cycle == pytest.approx(4.0)
    assert reason_sentence(verdict) == (
        "grows by 4.0 MB per cycle, surely more than 2.2 and less than 5.8: under the tolerance of 10; 1 GB of free "
        "memory lasts 256 cycles")


def test_rises_within_the_noise_do_not_delay_a_verdict() -> None:
    noisy = wobble([0.0] * 15, 9)
    noisy[13] += 10  # 10 MB above all before: a rise in a smooth series, not in this one
    smooth = [0.0] * 7 + [30.0] * 8
    assert judge_growth(noisy).verdict == "NO LEAK"
    assert judge_growth(smooth).reason == "rises_not_over"


def test_what_came_since_the_last_rise_clears_so_that_a_warm_up_is_forgotten() -> None:
    assert judge_growth(line(50, 8) + [350.0] * 8).verdict == "NO LEAK"


def test_the_tolerance_is_the_users() -> None:
    assert decided(line(20, 13)).verdict == "LEAK"
    assert decided(line(20, 13), tolerance_mb=50).reason == "small_growth"
    assert decided(line(3, 13), tolerance_mb=2).verdict == "LEAK"
    assert decided(line(4, 12), tolerance_mb=50).verdict == "NO LEAK"


@pytest.mark.parametrize(("min_cycles", "first"), [(3, 6), (6, 6), (7, 7), (10, 10), (14, 14)])
def test_earliest_no_leak_is_min_cycles_but_never_below_the_window(min_cycles: int, first: int) -> None:
    verdicts = [judge_growth([700.0] * n, min_cycles=min_cycles) for n in range(first + 1)]
    assert [verdict.verdict for verdict in verdicts] == ["INCONCLUSIVE"] * first + ["NO LEAK"]
    assert [verdict.facts["more"] for verdict in verdicts[:-1]] == [first - n for n in range(first)]


def test_no_leak_says_how_sure_it_is() -> None:
    verdict = judge_growth([700.0] * 10)  # bound 1.789 MB per cycle: 1024 / 1.789 = 572.3; 10 / 3 = 3.3
    assert reason_sentence(verdict) == (
        "no growth above 1.8 MB per cycle over the last 6 of 10 cycles: 1 GB of free memory lasts at least 572 cycles; "
        "jumps rarer than one in 3.3 cycles cannot be excluded")
    assert verdict.upper_bound_mb_per_cycle == pytest.approx(1.79, abs=0.01)


def test_falling_memory_is_never_given_a_bound_of_zero_or_less() -> None:
    verdict = judge_growth(line(-30, 10))
    assert (verdict.verdict, verdict.upper_bound_mb_per_cycle) == ("NO LEAK", 0.1)


# -------------------------------------------------------------------------------------------------- properties

any_readings = st.lists(st.floats(0, 5000), max_size=24)
seeds = st.integers(0, 10**9)


def random_series(seed: int) -> list[float]:
    """A leak, jumps and noise of random size: no reading lies exactly on a boundary."""
    rng = random.Random(seed)
    leak, jump, noise, level = rng.uniform(0, 60), rng.choice((0, 150)), rng.uniform(0.1, 40), 300.0
    readings = []
    for _ in range(rng.randint(6, 24)):
        level += leak + jump * (rng.random() < 0.2)
        readings.append(level + rng.gauss(0, noise))
    return readings


@settings(deadline=None)
@given(seeds, st.floats(-200, 50_000))
def test_adding_a_constant_changes_nothing(seed: int, constant: float) -> None:
    readings = random_series(seed)
    moved = judge_growth([mb + constant for mb in readings])
    here = judge_growth(readings)
    assert (moved.verdict, moved.reason) == (here.verdict, here.reason)


@settings(deadline=None)
@given(st.one_of(any_readings, seeds.map(random_series)))
def test_a_leak_reversed_is_never_a_leak(readings: list[float]) -> None:
    if judge_growth(readings).verdict == "LEAK":
        assert judge_growth(readings[::-1]).verdict != "LEAK"


@settings(deadline=None)  # the first call fills caches
@given(st.one_of(any_readings, seeds.map(random_series)), st.floats(0.5, 200), st.integers(1, 20))
def test_a_verdict_keeps_its_promises(readings: list[float], tolerance: float, min_cycles: int) -> None:
    verdict = judge_growth(readings, tolerance_mb=tolerance, min_cycles=min_cycles)
    assert reason_sentence(verdict)
    assert verdict.cycles == len(readings)
    if verdict.verdict == "LEAK":
        assert verdict.mb_per_cycle is not None
        assert verdict.mb_per_cycle >= tolerance
        assert readings[-1] > readings[0]
        assert len(readings) >= 6
    if verdict.verdict == "NO LEAK":
        assert verdict.upper_bound_mb_per_cycle is not None
        assert verdict.upper_bound_mb_per_cycle < tolerance
        assert len(readings) >= max(min_cycles, 6)


# ------------------------------------------------------------------------------------- the leak phase's records

SHORT, LONG = "short.wav", "long.wav"
WORKER = ProcessMemory(100, "2026-01-01T00:00:00.000", "rq", 300.0, False, resident=True, root=True, held_mb=250.0)


def horse(job: int, held: float | None, peak: float | None = 900.0) -> ProcessMemory:
    return ProcessMemory(1000 + job, f"2026-01-01T01:00:{job % 60:02d}.000", "rq", peak, True, held_mb=held)


def task(
    number: int, cycle: int, clip: str, before: float | None, after: float | None, *, role: str = "worker",
    processes: Sequence[ProcessMemory] = (WORKER,), private: bool = True, status: str = "success",
) -> TaskResult:
    """One line of the leak phase; RSS is 1000 MB above private memory, so that taking the wrong one shows."""
    rss = [None if mb is None else mb + 1000 for mb in (before, after)] if private else [before, after]
    own = (before, after) if private else (None, None)
    memory = RoleMemory(rss[0], rss[1], own[0], own[1], 1500.0 + number, list(processes))
    return TaskResult(f"{clip}_{number}", "leak", "2026-01-01T00:00:00", clip, 1.0, 10.0, 1, status, cycle=cycle,
                      batch=number, memory={role: memory})


def leak_run(
    readings: Sequence[float], *, first: float = 100.0, warm: float | None = None, long_share: float = 1.0,
    make: Callable[..., TaskResult] = task,
) -> list[TaskResult]:
    """Cycles of a short and a long task; `readings` are those after the long one, `warm` that after cycle 0."""
    results: list[TaskResult] = []
    before = first
    levels = ([] if warm is None else [(0, warm)]) + list(enumerate(readings, 1))
    for cycle, after in levels:
        between = before + (after - before) * (1 - long_share)
        results.append(make(len(results), cycle, SHORT, before, between))
        results.append(make(len(results), cycle, LONG, between, after))
        before = after
    return results


def worker(results: Iterable[TaskResult], **settings: Any) -> RoleVerdict:
    return judge_leak(list(results), **settings)["worker"]


def test_one_reading_per_cycle_the_last_after_warm_up() -> None:
    found = worker(leak_run([700.0] * 10, first=100, warm=690))
    assert found.readings == [(cycle, 700.0) for cycle in range(1, 11)]
    assert (found.growth.verdict, found.breaks, found.horses) == ("NO LEAK", [], [])
    assert found.growth.facts["measure"] == "private"


def test_the_ramp_is_not_judged() -> None:
    results = leak_run(line(50, 12))
    for result in results[8:]:
        result.phase = "concurrency"
    assert worker(results).growth.cycles == 4


def test_tolerance_and_min_cycles_reach_the_rule() -> None:
    assert worker(leak_run([700.0] * 6)).growth.reason == "too_few"
    assert worker(leak_run([700.0] * 6), min_cycles=6).growth.verdict == "NO LEAK"
    assert worker(leak_run(line(20, 13)), tolerance_mb=40).growth.verdict != "LEAK"
    assert worker(leak_run(line(20, 13))).growth.verdict == "LEAK"


def test_every_role_is_judged_by_its_own_readings() -> None:
    results = leak_run(line(50, 12))
    for result, calm in zip(results, leak_run([300.0] * 12, make=lambda *a: task(*a, role="api")), strict=True):
        result.memory |= calm.memory
    assert {role: found.growth.verdict for role, found in judge_leak(results).items()} == {
        "worker": "LEAK", "api": "NO LEAK"}


def test_a_role_never_read_is_not_measured() -> None:
    results = leak_run([700.0] * 10, make=lambda *a: task(*a, role="api"))
    for result in results:
        result.task_id = "from a queue"
    found = judge_leak(results)
    assert (found["api"].growth.verdict, found["worker"].growth.verdict) == ("NO LEAK", "NOT MEASURED")
    assert judge_leak([])["worker"].growth.reason == "not_measured"


def test_rss_stands_in_where_no_private_memory_is_known_and_the_reason_says_so() -> None:
    found = worker(leak_run([700.0] * 10, make=lambda *a: task(*a, private=False)))
    assert (found.growth.verdict, found.growth.facts["measure"]) == ("NO LEAK", "rss")
    assert "RSS" in reason_sentence(found.growth)


def test_private_and_rss_readings_are_never_mixed() -> None:
    results = leak_run([700.0] * 12)
    results[3].memory["worker"].private_after_mb = None  # its RSS of 1700 would look like a jump
    found = worker(results)
    assert found.breaks == [(2, "missing_reading")]
    assert {mb for _, mb in found.readings} == {700.0}


# -------------------------------------------------------------------------------------------- what breaks a series


@pytest.mark.parametrize("cycle", [1, 2, 3, 4])
def test_a_rise_is_not_lost_with_a_reading(cycle: int) -> None:
    """100 MB in cycle 2, then calm: whether that is over takes more cycles, whichever reading is not there."""
    results = leak_run([700.0] + [800.0] * 12, warm=700)
    assert worker(results).growth.reason == "rises_not_over"
    for result in results:
        if result.cycle == cycle:
            result.memory["worker"].private_after_mb = None
    assert worker(results).growth.verdict == "INCONCLUSIVE"


def fail(results: list[TaskResult], cycle: int) -> list[TaskResult]:
    next(result for result in results if result.cycle == cycle).status = "failed"
    return results


def lose_reading(results: list[TaskResult], cycle: int) -> list[TaskResult]:
    next(result for result in results if result.cycle == cycle).memory["worker"].private_after_mb = None
    return results


def test_after_a_failed_task_a_service_is_cleared_by_what_follows_alone() -> None:
    found = worker(fail(leak_run([700.0] * 14), 4))
    assert (found.growth.verdict, found.growth.cycles, found.breaks) == ("NO LEAK", 10, [(4, "failed_task")])
    assert [cycle for cycle, _ in found.readings] == [*range(5, 15)]


def test_too_little_after_a_failed_task_is_inconclusive_and_names_it() -> None:
    found = worker(fail(leak_run([700.0] * 13), 4))
    assert (found.growth.verdict, found.growth.reason) == ("INCONCLUSIVE", "failed_task")
    assert reason_sentence(found.growth) == (
        "a task failed in cycle 4: 9 readings in a row since then, 1 more needed")


def test_a_failure_in_the_last_cycle_never_leaves_no_leak_standing() -> None:
    found = worker(fail(leak_run([700.0] * 12), 12))
    assert (found.growth.verdict, found.growth.reason) == ("INCONCLUSIVE", "failed_task")


def test_a_leak_in_any_series_is_a_leak() -> None:
    results = lose_reading(leak_run(line(20, 13) + [500.0] * 11), 14)
    found = worker(results)
    assert (found.growth.verdict, found.growth.cycles) == ("LEAK", 13)


def test_growth_across_a_break_is_not_joined() -> None:
    # 6 + 6 cycles of a leak, but nothing is known of what happened in between
    assert worker(lose_reading(leak_run(line(20, 13)), 7)).growth.verdict == "INCONCLUSIVE"


def test_what_failing_tasks_keep_is_a_leak_like_any_other() -> None:
    results = leak_run(line(20, 13))
    for result in results:
        result.status = "failed"
    assert worker(results).growth.verdict == "LEAK"


def test_growth_of_failing_tasks_is_named_where_readings_are_too_few() -> None:
    results = leak_run([112.0, 172.0, 232.0, 292.0])
    for result in results:
        result.status = "failed"
    found = worker(results).growth
    assert (found.verdict, found.reason, found.mb_per_cycle) == ("INCONCLUSIVE", "failing_growth", 60.0)
    assert worker(fail(leak_run([112.0, 112.0, 112.0]), 3)).growth.reason == "failed_task", "no growth to name"


@pytest.mark.parametrize("lose", ["reading", "task", "cycle", "role"])
def test_a_missing_reading_breaks_the_series(lose: str) -> None:
    results = leak_run([700.0] * 12)
    if lose == "reading":
        results[9].memory["worker"].private_after_mb = None
    elif lose == "task":
        del results[9]
    elif lose == "cycle":
        del results[8:10]
    else:
        results[9].memory = {}
    found = worker(results)
    assert (found.growth.verdict, found.growth.reason) == ("INCONCLUSIVE", "missing_reading")
    assert found.breaks == [(5, "missing_reading")]


def replaced_from(place: int, *, seen_ending: bool) -> list[TaskResult]:
    """Twenty calm cycles; from record `place` on another process is the worker."""
    results = leak_run([700.0] * 20, warm=700)
    other = ProcessMemory(101, "2026-01-01T02:00:00.000", "rq", 300.0, False, resident=True, root=True, held_mb=250.0)
    for result in results[place:]:
        result.memory["worker"].processes = [other]
    if seen_ending:
        ended = ProcessMemory(100, WORKER.started, "rq", 300.0, True, resident=True, root=True, held_mb=250.0)
        results[place - 1].memory["worker"].processes = [ended]
    return results


@pytest.mark.parametrize(("place", "seen_ending", "cycle"), [(9, True, 4), (10, True, 4), (10, False, 5), (2, True, 0)])
def test_a_replaced_worker_breaks_the_series(place: int, seen_ending: bool, cycle: int) -> None:
    assert worker(replaced_from(place, seen_ending=seen_ending)).breaks == [(cycle, "replaced")]


def recycled(kept: float, *, life: int, cycles: int, workers: int = 1, second_use: float = 0.0) -> list[TaskResult]:
    """Workers that load 200 MB at their first task, keep so much per task and are replaced after `life` of them.

    `second_use`: what a life's first use of its second clip adds.
    """
    results: list[TaskResult] = []
    before = 30.0 * workers
    for place in range(2 * cycles + 2):
        age, lived = divmod(place, workers * life)[1], place // (workers * life)
        tasks = [age // workers + (age % workers >= n) for n in range(workers)]  # each worker's, so far
        held = [30.0 + (200.0 + kept * n + second_use * (n > 1) if n else 0.0) for n in tasks]
        processes = [ProcessMemory(100 + 10 * lived + n, f"life {lived}", "rq", 900.0, False, resident=True, root=True,
                                   held_mb=mb) for n, mb in enumerate(held)]
        clip = (SHORT, LONG)[place % 2]
        results.append(task(place, place // 2, clip, before, sum(held), processes=processes))
        before = sum(held)
    return results


@pytest.mark.parametrize("workers", [1, 2])
def test_growth_within_lives_is_put_end_to_end_without_first_use(workers: int) -> None:
    """The model of 200 MB comes back with every life and is no growth; 50 MB per task are 100 per cycle."""
    found = worker(recycled(50.0, life=6, cycles=20, workers=workers)).growth
    assert (found.verdict, found.reason) == ("LEAK", "recycled_leak")
    assert found.mb_per_cycle == pytest.approx(100, rel=0.05)
    assert found.facts["per_task"] == pytest.approx(50, rel=0.05)
    assert found.facts["contained"] == pytest.approx(200, abs=51)
    calm = worker(recycled(0.0, life=6, cycles=20, workers=workers)).growth
    assert (calm.verdict, calm.reason) == ("NO LEAK", "recycled_calm")


def test_growth_within_lives_is_said_per_task_of_those_at_once() -> None:
    found = worker(at_once(recycled(50.0, life=6, cycles=20), 4)).growth
    assert found.mb_per_cycle == pytest.approx(100, rel=0.05)
    assert found.facts["per_task"] == pytest.approx(50 / 4, rel=0.05)


@pytest.mark.parametrize("life", [4, 5])
def test_short_lives_are_judged_by_their_tasks(life: int) -> None:
    """Of 4 or 5 tasks a life has one or two steps past first use: too few for a cycle's, enough for a task's growth."""
    found = worker(recycled(50.0, life=life, cycles=20)).growth
    assert (found.verdict, found.reason) == ("LEAK", "recycled_leak")
    assert found.mb_per_cycle == pytest.approx(100, rel=0.01)
    assert found.facts["per_task"] == pytest.approx(50, rel=0.01)
    assert found.facts["low"] > 90
    calm = worker(recycled(0.0, life=life, cycles=20)).growth
    assert (calm.verdict, calm.reason) == ("NO LEAK", "recycled_calm")
    jumpy = worker(recycled(3.0, life=life, cycles=20)).growth
    assert jumpy.verdict != "LEAK"


@pytest.mark.parametrize("mb", [-60.0, -30.0, 60.0])
def test_a_further_clips_first_use_in_every_life_is_no_leak_and_hides_none(mb: float) -> None:
    assert worker(recycled(0.0, life=4, cycles=20, second_use=mb)).growth.verdict != "LEAK"
    assert worker(recycled(50.0, life=4, cycles=20, second_use=mb)).growth.verdict == "LEAK"
    assert worker(recycled(15.0, life=4, cycles=20, second_use=mb)).growth.verdict != "NO LEAK"


def test_memory_given_back_at_each_first_use_hides_no_growth() -> None:
    """+15 MB per task and -15 at each life's first use of its second clip: too few steps to accuse, none to clear."""
    assert worker(recycled(15.0, life=3, cycles=14, second_use=-30.0)).growth.verdict == "INCONCLUSIVE"


def test_lives_too_short_to_show_growth_decide_nothing() -> None:
    found = worker(recycled(50.0, life=2, cycles=20)).growth
    assert (found.verdict, found.reason) == ("INCONCLUSIVE", "replaced")


def test_the_same_pid_started_anew_is_another_process() -> None:
    results = leak_run([700.0] * 12)
    anew = ProcessMemory(100, "2026-01-01T09:00:00.000", "rq", 300.0, False, resident=True, root=True)
    for result in results[4:]:
        result.memory["worker"].processes = [anew]
    assert worker(results).breaks == [(3, "replaced")]


def test_a_leak_stays_a_leak_after_its_worker_was_replaced() -> None:
    results = leak_run(line(50, 13) + [0.0] * 3)
    results[26].memory["worker"].processes = [
        ProcessMemory(100, WORKER.started, "rq", 900.0, True, resident=True, root=True)]
    found = worker(results)
    assert (found.growth.verdict, found.breaks) == ("LEAK", [(14, "replaced")])


@pytest.mark.parametrize(("held", "breaks"), [(400.0, [(6, "replaced")]), (1.0, [])])
def test_a_recycled_child_of_a_supervisor_counts_where_its_memory_does(held: float, breaks: list[Any]) -> None:
    """uvicorn --workers and gunicorn: the root is a supervisor, the memory is in long-lived children."""
    results = leak_run([700.0] * 12)
    child = ProcessMemory(200, WORKER.started, "python", 500.0, True, resident=True, held_mb=held)
    results[11].memory["worker"].processes = [WORKER, child]
    found = worker(results)
    assert (found.breaks, found.horses) == (breaks, [])


@pytest.mark.parametrize(("gap", "verdict"), [(None, "NO LEAK"), (3.0, "NO LEAK"), (3.1, "INCONCLUSIVE")])
def test_a_hole_in_the_samples_takes_no_leak_back(gap: float | None, verdict: str) -> None:
    found = judge_leak(leak_run([700.0] * 10), sampler_gap_s=gap)["worker"]
    assert found.growth.verdict == verdict
    assert (found.growth.reason == "sampler_gap") == (verdict == "INCONCLUSIVE")


def test_a_hole_in_the_samples_does_not_excuse_a_leak() -> None:
    assert judge_leak(leak_run(line(50, 12)), sampler_gap_s=60)["worker"].growth.verdict == "LEAK"


# ---------------------------------------------------------------------------------------------------- fork per job


def forking(held: Callable[[int], float | None], peak: float | None = 900.0) -> Callable[..., TaskResult]:
    """Tasks done by work-horses; `held(cycle)` is what that of the long clip still holds when its job ends."""

    def make(number: int, cycle: int, clip: str, *readings: float) -> TaskResult:
        own = held(cycle) if clip == LONG else 400.0
        tool = ProcessMemory(5000 + number, "2026-01-01T01:00:00.000", "sh", 2.0, True, held_mb=1.0)
        return task(number, cycle, clip, *readings, processes=[WORKER, tool, horse(number, own, peak)])

    return make


def test_with_a_process_per_job_memory_cannot_pile_up_and_the_reason_says_so() -> None:
    found = worker(leak_run([30.0] * 10, first=30, warm=30, make=forking(lambda cycle: 620.0 + cycle % 2)))
    assert (found.growth.verdict, found.growth.reason) == ("NO LEAK", "fork_per_job")
    assert [(series.clip, len(series.horses), series.growth.verdict) for series in found.horses] == [
        (SHORT, 10, "NO LEAK"), (LONG, 10, "NO LEAK")]


def test_jobs_that_each_hold_more_than_the_one_before_are_a_leak() -> None:
    found = worker(leak_run([30.0] * 13, first=30, make=forking(lambda cycle: 600.0 + 25 * cycle)))
    assert (found.growth.verdict, found.growth.reason) == ("LEAK", "horses_leak")
    assert found.growth.mb_per_cycle == pytest.approx(25)
    assert "each job on long.wav held 25.0 MB more" in reason_sentence(found.growth)


def at_once(results: list[TaskResult], size: int) -> list[TaskResult]:
    """So many tasks in place of each, released together: all lines of a batch have its memory."""
    return [dataclasses.replace(result, test_id=f"{result.test_id}_{n}", concurrency=size)
            for result in results for n in range(size)]


def test_jobs_at_once_that_hold_more_than_those_before_are_a_leak_too() -> None:
    """Each batch has one heaviest job, however many lines say so."""
    found = worker(at_once(leak_run([30.0] * 15, first=30, make=forking(lambda cycle: 600.0 + 25 * cycle)), 4))
    assert (found.growth.verdict, found.growth.reason) == ("LEAK", "horses_leak")
    assert found.growth.mb_per_cycle == pytest.approx(25)
    assert [len(series.horses) for series in found.horses] == [15, 15]


def test_jobs_that_hold_more_each_time_are_not_cleared_before_it_is_sure() -> None:
    found = worker(leak_run([30.0] * 10, first=30, make=forking(lambda cycle: 600.0 + 25 * cycle)))
    assert (found.growth.verdict, found.growth.reason) == ("INCONCLUSIVE", "horses_growing")


def test_the_worker_around_the_jobs_can_leak_too() -> None:
    found = worker(leak_run(line(50, 12), make=forking(lambda cycle: 600.0)))
    assert (found.growth.verdict, found.growth.reason) == ("LEAK", "fast_growth")
    assert len(found.horses) == 2


def test_a_hole_in_the_samples_takes_no_leak_back_from_forking_workers_too() -> None:
    results = leak_run([30.0] * 10, make=forking(lambda cycle: 600.0))
    assert judge_leak(results, sampler_gap_s=9)["worker"].growth.reason == "sampler_gap"


def test_a_job_whose_last_reading_was_missed_is_left_out_of_the_held_series() -> None:
    found = worker(leak_run([30.0] * 12, make=forking(lambda cycle: None if cycle == 3 else 600.0)))
    long = next(series for series in found.horses if series.clip == LONG)
    assert (len(long.horses), long.growth.cycles) == (12, 11)


def test_warm_up_and_failed_jobs_are_no_part_of_the_horse_series() -> None:
    results = fail(leak_run([30.0] * 12, warm=30, make=forking(lambda cycle: 600.0)), 2)
    short = worker(results).horses[0]
    assert (short.clip, len(short.horses)) == (SHORT, 11)


def test_a_tool_of_the_worker_is_not_taken_for_a_work_horse() -> None:
    """A worker that runs its jobs itself and calls ffmpeg: memory can pile up, so nothing may be said of forks."""
    found = worker(leak_run([700.0] * 10, make=forking(lambda cycle: 30.0, peak=60.0)))
    assert (found.growth.reason, found.horses) == ("no_growth", [])


def test_helpers_of_the_long_clip_alone_do_not_make_it_fork_per_job() -> None:
    def make(number: int, cycle: int, clip: str, *readings: float) -> TaskResult:
        helpers = [horse(number, 500.0)] if clip == LONG else []
        return task(number, cycle, clip, *readings, processes=[WORKER, *helpers])

    found = worker(leak_run([700.0] * 10, make=make))
    assert (found.growth.reason, [series.clip for series in found.horses]) == ("no_growth", [LONG])


def test_without_readings_at_job_end_the_horses_are_still_counted() -> None:
    found = worker(leak_run([30.0] * 10, make=forking(lambda cycle: None)))
    long = next(series for series in found.horses if series.clip == LONG)
    assert (len(long.horses), long.growth.reason) == (10, "too_few")


# -------------------------------------------------------------------------------------------------------- sentences


def restless(results: list[TaskResult], cycles: int) -> list[TaskResult]:
    """Memory did not come to rest before the readings of so many cycles."""
    return [dataclasses.replace(r, settled=(r.cycle or 0) > cycles) for r in results]


@pytest.mark.parametrize(("cycles", "verdict"), [(5, "NO LEAK"), (6, "INCONCLUSIVE"), (10, "INCONCLUSIVE")])
def test_readings_that_mostly_never_came_to_rest_clear_nobody(cycles: int, verdict: str) -> None:
    assert worker(restless(leak_run([700.0] * 10), cycles)).growth.verdict == verdict
    assert worker(restless(leak_run(line(50, 12)), cycles)).growth.verdict == "LEAK"


def sentence_fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def lost_at_rises() -> list[TaskResult]:
    """60 MB more at every third cycle, whose reading is not there each time."""
    results = leak_run([700.0] * 4 + [mb for n in range(1, 5) for mb in [700.0 + 60 * n] * 3] + [940.0] * 10)
    for result in results:
        if result.audio_file == LONG and result.cycle in (5, 8, 11, 14):
            result.memory["worker"].private_after_mb = None
    return results


def test_every_sentence_is_said_by_some_series_and_finds_its_facts() -> None:
    forks = forking(lambda cycle: 600.0)
    growing = forking(lambda cycle: 600.0 + 25 * cycle)
    said = [decided(row[1]) for row in [*MUST_ACCUSE, *MUST_CLEAR, *MUST_NOT_DECIDE]]
    said += [worker(results).growth for results in (
        leak_run([30.0] * 10, make=forks), leak_run([30.0] * 10, make=growing), leak_run([30.0] * 13, make=growing),
        fail(leak_run([700.0] * 10), 3), leak_run([700.0] * 10)[:-1], recycled(50.0, life=2, cycles=9), [],
        recycled(50.0, life=6, cycles=20), recycled(0.0, life=6, cycles=20), fail(leak_run([1.0, 50.0, 99.0]), 3),
        lost_at_rises())]
    said.append(judge_leak(leak_run([700.0] * 10), sampler_gap_s=9)["worker"].growth)
    said.append(worker(restless(leak_run([700.0] * 10), 6)).growth)
    assert {verdict.reason for verdict in said} == set(GROWTH_REASONS)
    for verdict in said:
        assert sentence_fields(GROWTH_REASONS[verdict.reason]) <= set(verdict.facts)
        assert "{" not in reason_sentence(verdict)


@settings(max_examples=50)
@given(seeds)
def test_any_records_get_a_verdict_and_a_sentence(seed: int) -> None:
    rng = random.Random(seed)
    make = forking(lambda cycle: rng.uniform(0, 900))
    results = leak_run(random_series(seed), warm=rng.choice((None, 300.0)), make=make)
    for result in rng.sample(results, 3):
        result.status = rng.choice(("success", "failed", "timeout"))
        result.memory["worker"].private_after_mb = rng.choice((None, 500.0))
        result.memory["worker"].processes = rng.choice(([], [WORKER], [horse(1, None, None)]))
    found = worker(rng.sample(results, len(results) - 1) if rng.random() < 0.1 else results)
    assert reason_sentence(found.growth)
    if found.growth.verdict == "NO LEAK":
        assert not any(kind == "replaced" for _, kind in found.breaks)


@pytest.mark.parametrize(("task_id", "watched", "works"), [
    (None, ["api"], "api"), (None, ["worker", "api"], "worker"), ("t1", ["api"], "worker"), (None, [], "worker")])
def test_where_every_answer_was_the_result_the_api_is_judged(
    task_id: str | None, watched: list[str], works: str
) -> None:
    memory = {role: RoleMemory(90.0, 90.0, 80.0, 80.0, 95.0) for role in watched}
    results = [TaskResult(f"a_c1_{n}", "leak", "2026-01-01T00:00:00", "a.wav", 0.1, 3.0, 1, "success", cycle=n, batch=n,
                          task_id=task_id, memory=memory, settled=True) for n in range(12)]
    assert working_role(results) == works
    verdicts = judge_leak(results)
    assert set(verdicts) == {works, *watched}
    assert verdicts[works].growth.verdict == ("NO LEAK" if works in watched else "NOT MEASURED")
