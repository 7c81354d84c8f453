"""The growth rule: the series it must accuse and must not, its arithmetic, and what interrupts a series."""
from __future__ import annotations

import dataclasses
import math
import random
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_leak_stress_test import (
    GrowthVerdict,
    ProcessMemory,
    RoleMemory,
    RoleVerdict,
    TaskResult,
    enough_cycles,
    fit,
    judge_growth,
    judge_leak,
    noise_sd,
    t_quantile,
)
from stress_report.saying import Words, reason
from stress_report.words import WORDS

# reasons of no series of readings
READERS_OWN = ("reason_wrong_process", "reason_gap_unknown", "reason_old_record", "reason_no_work",
               "reason_no_work_other")
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
one_of_two_workers = [0.0, 120, 120, 240, 360, 360, 360, 480, 600, 600, 720, 720]

MUST_ACCUSE = [  # why, readings, cycles it may take
    ("20 MB per cycle, the smallest leak the budget cares for", line(20, 20), 12),
    ("20 MB per cycle under noise", wobble(line(20, 20), 10), 12),
    ("12 MB per cycle is above the tolerance when it is clean", wobble(line(12, 20), 1), 12),
    ("300 MB per cycle is seen in the first window", wobble(line(300, 20), 10), 6),
    ("a leak goes on after a warm-up ends", [a + b for a, b in zip(warm_up, line(20, 20), strict=True)], 16),
    ("jumps of 58 MB every third cycle keep coming", wobble(stairs(58, 3, 20), 3), 14),
    ("a leak in one of two workers, hit by chance", one_of_two_workers, 12),
    ("a leak that begins late", [0.0] * 5 + line(30, 15), 20),
]

MUST_CLEAR = [  # why, readings, cycles it may take
    ("exactly constant", [512.0] * 20, 10),
    ("flat under noise", wobble([512.0] * 20, 10), 12),
    ("one step at the first task", [600.0] * 20, 10),
    ("a step in the third cycle, quiet since", [0.0] * 2 + [150.0] * 18, 10),
    ("a warm-up that saturates", warm_up, 14),
    ("3 MB per cycle is below the tolerance", wobble(line(3, 20), 0.1), 10),
    ("memory falls", line(-30, 20, 2000), 10),
]

MUST_NOT_DECIDE = [  # why, readings, reason at the end
    ("a late jump may come again", [0.0] * 9 + [150.0] * 11, "rises_not_over"),
    ("a jump in the last cycles", [0.0] * 8 + [150.0] * 4, "one_jump"),
    ("jumps of 120 MB every ninth cycle, two seen", stairs(120, 9, 20), "too_noisy"),
    ("a saw-tooth", [80.0 * (cycle % 2) for cycle in range(20)], "too_noisy"),
    ("a heap that grows for nine cycles and is collected", [30.0 * (cycle % 9) for cycle in range(20)], "swings"),
    ("a warm-up of tens of cycles", [3000 * (1 - math.exp(-cycle / 7)) for cycle in range(1, 15)], "slowing_down"),
    ("fewer readings than a window", [100.0] * 5, "too_few"),
    ("a growing service, stopped before a second window", line(20, 8), "unconfirmed"),
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


def test_noise_is_measured_from_falls_so_that_rises_do_not_hide_themselves() -> None:
    rng = random.Random(1)
    noise = [rng.gauss(0, 10) for _ in range(300)]
    staircase = [mb + 58 * (place // 3) for place, mb in enumerate(noise)]
    assert noise_sd(noise) == pytest.approx(10, rel=0.15)
    assert noise_sd(staircase) == pytest.approx(10, rel=0.15)
    assert noise_sd(line(5, 10)) == 0.0
    assert noise_sd([0.0] * 11 + [10.0] + [0.0] * 3) == 0.0  # nor by one spike


def test_cycles_that_would_be_enough_follow_from_the_power_of_a_window() -> None:
    # (t.99(m-2) + 1.28) * sd * sqrt(12 / (m (m^2 - 1))) <= tolerance, and the window is the last half of the run
    assert enough_cycles(8.3, 10) == 12  # m = 6: 5.027 * 8.3 * 0.2390 = 9.98
    assert enough_cycles(8.4, 10) == 14  # m = 6: 10.1; m = 7: 4.645 * 8.4 * 0.1890 = 7.4
    assert enough_cycles(30, 10) == 26  # m = 12: 4.044 * 30 * 0.0836 = 10.1; m = 13: 3.998 * 30 * 0.0741 = 8.9


# ------------------------------------------------------------------------------- each condition, at its boundary


def two_lines(early: float, late: float, between: float) -> list[float]:
    """Six readings growing by `early`, a step of `between`, six growing by `late`."""
    return [*line(early, 6), *line(late, 6, 5 * early + between)]


BOUNDARIES = [  # what is at its boundary, readings, verdict, reason
    ("slope of the tolerance", line(10.01, 12), "LEAK", "steady_growth"),
    ("slope just below it", line(9.99, 12), "INCONCLUSIVE", "too_noisy"),
    ("later window at 60 % of the earlier", two_lines(20, 12.1, 15), "LEAK", "steady_growth"),
    ("later window below 60 %", two_lines(20, 11.9, 15), "INCONCLUSIVE", "slowing_down"),
    ("earlier window grew", two_lines(0.01, 20, 15), "LEAK", "steady_growth"),
    ("earlier window fell", two_lines(-0.01, 20, 15), "INCONCLUSIVE", "unconfirmed"),
    ("largest step 58 % of the growth", two_lines(10.1, 10.1, 140), "LEAK", "steady_growth"),
    ("largest step 61 %", two_lines(10.1, 10.1, 160), "INCONCLUSIVE", "one_jump"),
    ("fall of 48 % of the growth", two_lines(20, 20, -65), "LEAK", "steady_growth"),
    ("fall of 54 %", two_lines(20, 20, -70), "INCONCLUSIVE", "swings"),
    ("every step four tolerances", [0.0, 40, 80, 120, 160, 200], "LEAK", "fast_growth"),
    ("one step below four tolerances", [0.0, 40, 80, 119, 160, 200], "INCONCLUSIVE", "unconfirmed"),
    ("last steps at 75 % of the first", [0.0, 100, 200, 280, 356, 432], "LEAK", "fast_growth"),
    ("last steps below 75 %", [0.0, 100, 200, 280, 354, 428], "INCONCLUSIVE", "unconfirmed"),
    ("ten readings", [0.0] * 10, "NO LEAK", "no_growth"),
    ("nine readings", [0.0] * 9, "INCONCLUSIVE", "too_few"),
    ("a rise of 5 MB is none", [0.0] * 5 + [5.0] * 5, "NO LEAK", "no_growth"),
    ("a rise of 5.1 MB, too late", [0.0] * 5 + [5.1] * 5, "INCONCLUSIVE", "rises_not_over"),
    ("quiet for twice the wait", [0.0] * 3 + [50.0] * 7, "NO LEAK", "no_growth"),
    ("quiet for less than twice the wait", [0.0] * 4 + [50.0] * 7, "INCONCLUSIVE", "rises_not_over"),
    ("upper bound below the tolerance", line(4.9, 10), "NO LEAK", "no_growth"),
]


@pytest.mark.parametrize(("readings", "verdict", "reason"), [pytest.param(*r[1:], id=r[0]) for r in BOUNDARIES])
def test_boundary(readings: list[float], verdict: str, reason: str) -> None:
    found = judge_growth(readings)
    assert (found.verdict, found.reason) == (verdict, reason), reason_sentence(found)


def test_cycles_asked_for_are_more_than_there_were() -> None:
    assert judge_growth(line(20, 8)).facts["needed"] == 12
    assert judge_growth(two_lines(-0.01, 20, 15)).facts["needed"] == 13
    assert judge_growth(line(9.99, 12)).facts["enough"] == 13


def test_growth_must_be_sure_to_be_a_leak() -> None:
    early = line(15, 6)
    assert judge_growth([*early, *wobble(line(15, 6, 90), 10)]).verdict == "LEAK"
    noisy = judge_growth([*early, *wobble(line(15, 6, 90), 35)])
    assert (noisy.verdict, noisy.mb_per_cycle is not None and noisy.mb_per_cycle >= 10) == ("INCONCLUSIVE", True)


def test_rises_within_the_noise_do_not_delay_a_verdict() -> None:
    noisy = wobble([0.0] * 15, 9)
    noisy[13] += 10  # 10 MB above all before: a rise in a smooth series, not in this one
    smooth = [0.0] * 13 + [10.0] + [0.0]
    assert judge_growth(noisy).verdict == "NO LEAK"
    assert judge_growth(smooth).reason == "rises_not_over"


def test_the_last_half_alone_clears_so_that_a_warm_up_is_forgotten() -> None:
    assert judge_growth(line(50, 8) + [350.0] * 8).verdict == "NO LEAK"


def test_the_tolerance_is_the_users() -> None:
    assert decided(line(20, 12), tolerance_mb=50).verdict == "INCONCLUSIVE"  # rises of 20 MB, but below 50 per cycle
    assert decided(line(3, 12), tolerance_mb=2).verdict == "LEAK"
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


@given(seeds, st.floats(-200, 50_000))
def test_adding_a_constant_changes_nothing(seed: int, constant: float) -> None:
    readings = random_series(seed)
    moved = judge_growth([mb + constant for mb in readings])
    here = judge_growth(readings)
    assert (moved.verdict, moved.reason) == (here.verdict, here.reason)


@given(st.one_of(any_readings, seeds.map(random_series)))
def test_a_leak_reversed_is_never_a_leak(readings: list[float]) -> None:
    if judge_growth(readings).verdict == "LEAK":
        assert judge_growth(readings[::-1]).verdict != "LEAK"


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
                      memory={role: memory})


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
    assert worker(leak_run(line(20, 12)), tolerance_mb=40).growth.verdict != "LEAK"
    assert worker(leak_run(line(20, 12))).growth.verdict == "LEAK"


def test_every_role_is_judged_by_its_own_readings() -> None:
    results = leak_run(line(50, 12))
    for result, calm in zip(results, leak_run([300.0] * 12, make=lambda *a: task(*a, role="api")), strict=True):
        result.memory |= calm.memory
    assert {role: found.growth.verdict for role, found in judge_leak(results).items()} == {
        "worker": "LEAK", "api": "NO LEAK"}


def test_a_role_never_read_is_not_measured() -> None:
    results = leak_run([700.0] * 10, make=lambda *a: task(*a, role="api"))
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


def fail(results: list[TaskResult], cycle: int) -> list[TaskResult]:
    next(result for result in results if result.cycle == cycle).status = "failed"
    return results


def test_a_failed_task_breaks_the_series_and_what_follows_stands_on_its_own() -> None:
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
    results = fail(leak_run(line(20, 12) + [500.0] * 11), 13)
    found = worker(results)
    assert (found.growth.verdict, found.growth.cycles) == ("LEAK", 12)


def test_growth_across_a_break_is_not_joined() -> None:
    # 6 + 6 cycles of a leak, but nothing is known of what happened in between
    assert worker(fail(leak_run(line(20, 13)), 7)).growth.verdict == "INCONCLUSIVE"


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
def test_a_replaced_worker_starts_a_new_series_and_is_never_cleared(place: int, seen_ending: bool, cycle: int) -> None:
    found = worker(replaced_from(place, seen_ending=seen_ending))
    assert (found.growth.verdict, found.growth.reason) == ("INCONCLUSIVE", "replaced")
    assert found.breaks == [(cycle, "replaced")]
    assert f"in cycle {cycle}" in reason_sentence(found.growth)


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


@pytest.mark.parametrize(("held", "verdict"), [(400.0, "INCONCLUSIVE"), (1.0, "NO LEAK")])
def test_a_recycled_child_of_a_supervisor_counts_where_its_memory_does(held: float, verdict: str) -> None:
    """uvicorn --workers and gunicorn: the root is a supervisor, the memory is in long-lived children."""
    results = leak_run([700.0] * 12)
    child = ProcessMemory(200, WORKER.started, "python", 500.0, True, resident=True, held_mb=held)
    results[11].memory["worker"].processes = [WORKER, child]
    found = worker(results)
    assert (found.growth.verdict, found.horses) == (verdict, [])


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
    found = worker(leak_run([30.0] * 12, first=30, make=forking(lambda cycle: 600.0 + 25 * cycle)))
    assert (found.growth.verdict, found.growth.reason) == ("LEAK", "horses_leak")
    assert found.growth.mb_per_cycle == pytest.approx(25)
    assert "each job on long.wav held 25.0 MB more" in reason_sentence(found.growth)


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


def test_every_sentence_is_said_by_some_series_and_finds_its_facts() -> None:
    forks = forking(lambda cycle: 600.0)
    growing = forking(lambda cycle: 600.0 + 25 * cycle)
    said = [decided(row[1]) for row in [*MUST_ACCUSE, *MUST_CLEAR, *MUST_NOT_DECIDE]]
    said += [worker(results).growth for results in (
        leak_run([30.0] * 10, make=forks), leak_run([30.0] * 10, make=growing), leak_run([30.0] * 12, make=growing),
        fail(leak_run([700.0] * 10), 3), leak_run([700.0] * 10)[:-1], replaced_from(9, seen_ending=True), [])]
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
