"""What the record says of load: levels, their limits and figures, failures by kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import LevelFacts, LoadHost, Settings, TaskResult
from stress_report.concurrency import failure_kinds, highest_but_outliers, judge_ramp, throughput
from stress_report.findings import Failure, Knee, Ramp
from stress_report.saying import Words
from unit.reader_runs import (
    judged,
    level,
    ramp,
    with_settings,
)
from unit.test_ramp import recorded, task


@pytest.mark.parametrize(("rtf", "highest"), [(1.0, 0), (None, None)])
def test_no_level_in_real_time_is_not_said_where_rtf_is_not_known(
    tmp_path: Path, rtf: float | None, highest: int | None
) -> None:
    one = level(1)
    one[0].rtf = rtf
    assert judged(tmp_path, ramp(one, level(2))).ramp.max_real_time == highest


def test_figures_of_a_level_by_hand(tmp_path: Path) -> None:
    """Three tasks of 20 s of audio; the last is done 8 s after the release: 60 / 8 = 7.5 audio-seconds per second."""
    three = level(3)
    for result, seconds in zip(three, (4.0, 6.0, 8.0), strict=True):
        result.processing_time, result.rtf = seconds, seconds / 20
    run = judged(tmp_path, ramp(level(1, processing_time=4.0), level(2, processing_time=8.0), three))
    found = run.ramp.levels[2]
    assert (found.turnaround_median_s, found.turnaround_max_s, found.rtf_median, found.rtf_max) == (6.0, 8.0, 0.3, 0.4)
    assert (found.audio_seconds_per_second, run.ramp.knee.level, run.ramp.effective_parallelism) == (7.5, 3, 1.5)


def test_a_level_that_failed_and_then_passed_is_flaky_and_not_stable(tmp_path: Path) -> None:
    run = judged(tmp_path, ramp(level(1), level(2), level(3), level(4, failed=1), level(4, 2), stop="failure"))
    assert run.ramp.levels[-1].flaky
    assert run.ramp.max_stable == 3
    assert run.ramp.first_breach is not None
    assert (run.ramp.first_breach.concurrency, run.ramp.first_breach.what) == (4, "submit_refused")


def test_a_passing_hiccup_of_the_tool_does_not_hide_the_runs_without_it(tmp_path: Path) -> None:
    hiccup = level(3, 1, facts={"client_limited": True}, processing_time=50.0)
    run = judged(tmp_path, ramp(level(1), level(2), hiccup, level(3, 2)))
    assert (run.ramp.max_stable, run.ramp.levels[2].client_limited) == (3, False)
    assert run.ramp.levels[2].turnaround_max_s == 2.0


def test_failures_are_counted_by_kind_with_the_words_of_the_service(tmp_path: Path) -> None:
    run = judged(tmp_path, ramp(level(1), level(4, failed=3), stop="failure"))
    assert failure_kinds(run.run.results) == [
        ("submit_refused", 3, [Failure("submit_refused", "queue is full", {})])]


@pytest.mark.parametrize("size", [3, 10])
def test_bound_of_the_failure_rate(tmp_path: Path, size: int) -> None:
    """No failure in n tasks: with 95 % confidence below 1 - 0.05^(1/n)."""
    run = judged(tmp_path, ramp(*(level(n) for n in range(1, size + 1))))
    assert run.ramp.failure_bound == pytest.approx(1 - 0.05 ** (1 / size))


# ------------------------------------------------------------------------- throughput, parallelism, the knee


def test_throughput_is_audio_done_over_the_time_to_the_last_success() -> None:
    # 2 of 3 succeeded, the later after 4 s: 2 x 10 s / 4 s
    lines = [task(3, taken=2.0), task(3, taken=4.0), task(3, error="task_failed")]
    assert throughput(lines) == pytest.approx(5.0)


def numbers(tables: dict[int, list[list[float]]], time_error: float = 0.0) -> Ramp:
    """The numbers of levels given as level -> runs -> turnaround of each task (seconds)."""
    results = [task(size, run, taken=taken, time_error=time_error)
               for size, runs in tables.items() for run, times in enumerate(runs, 1) for taken in times]
    for result in results:
        result.settings = Settings().for_record()
    return judge_ramp(recorded(results))


def test_a_queue_with_one_worker_is_not_concurrent() -> None:
    # 2 s a task, one after another: X = 10 / 2, 20 / 4, 30 / 6, all 5
    judged = numbers({1: [[2.0], [2.0], [2.0]], 2: [[2.0, 4.0]], 3: [[2.0, 4.0, 6.0]]})
    assert (judged.max_stable, judged.knee.level, judged.effective_parallelism) == (3, 1, 1.0)


def test_two_workers_do_twice_as_much_from_two_at_once() -> None:
    # X = 10 / 2 = 5, 20 / 2 = 10, 30 / 4 = 7.5, 40 / 4 = 10
    judged = numbers({1: [[2.0]] * 3, 2: [[2.0, 2.0]], 3: [[2.0, 2.0, 4.0]], 4: [[2.0, 2.0, 4.0, 4.0]]})
    assert (judged.knee.level, judged.effective_parallelism) == (2, 2.0)


def test_level_one_is_the_median_of_its_runs() -> None:
    # 10 / 2, 10 / 2.5, 10 / 4: the median is 4; the top is 20 / 2.5 = 8
    judged = numbers({1: [[2.0], [2.5], [4.0]], 2: [[2.5, 2.5]]})
    assert judged.effective_parallelism == pytest.approx(2.0)


def test_what_the_polls_cannot_tell_apart_is_no_knee() -> None:
    # One worker, 0.4 s a task, seen up to 0.1 s late: 10 / 0.5 = 20 at 1, 40 / 1.7 = 23.5 at 4, but 10 / 0.4 = 25.
    # At 5 one lucky run, 50 / 2.1 = 23.8, is no more than at 4.
    tables = {1: [[0.5]] * 3, 4: [[0.5, 0.9, 1.3, 1.7]], 5: [[0.5, 0.9, 1.3, 1.7, 2.1]]}
    assert numbers(tables, time_error=0.0).knee.level == 4
    assert numbers(tables, time_error=0.1).knee.level == 1


def test_the_knee_is_not_sought_among_fewer_than_three_stable_levels() -> None:
    tables = {1: [[2.0]] * 3, 2: [[2.0, 2.0]], 3: [[2.0, 2.0, 2.0]]}
    assert numbers(tables).knee == Knee(3, "found")
    del tables[2]
    assert numbers(tables).knee == Knee(None, "too_few_levels")


def test_there_is_no_knee_where_the_best_run_of_a_level_is_far_from_its_others() -> None:
    # 10 / 1 at best, but 10 / 4 in two of three; then 20 / 2 and 30 / 3, all 10
    judged = numbers({1: [[1.0], [4.0], [4.0]], 2: [[2.0, 2.0]], 3: [[3.0] * 3]})
    assert (judged.knee, judged.effective_parallelism) == (Knee(None, "runs_differ"), 4.0)
    # 3.4, then 6.9 once, and 2.7 above: lucky, or the knee?
    lone = numbers({1: [[2.9]] * 3, 2: [[2.9, 2.9]], 3: [[11.0] * 3], 4: [[15.0] * 4]})
    assert lone.knee == Knee(None, "runs_differ")
    assert numbers({1: [[2.0], [2.5], [2.5]], 2: [[4.0, 4.0]], 3: [[6.0] * 3]}).knee == Knee(1, "found")


def test_a_level_that_failed_or_that_the_tool_limited_is_no_knee() -> None:
    rising = [task(size, taken=2.0) for size in (1, 2, 3, 4, 5) for _ in range(size)]  # X = 5, 10, 15, 20, 25

    def knee(lines: list[TaskResult]) -> Knee:
        return judge_ramp(recorded([dataclasses.replace(r, settings=Settings().for_record()) for r in lines])).knee

    assert knee(rising).level == 5
    assert knee([*rising[:-1], task(5, error="task_failed")]).level == 4
    limited = [dataclasses.replace(result, level=LevelFacts(client_limited=True)) for result in rising[10:]]
    assert knee([*rising[:10], *limited]).level == 4


def test_a_level_with_a_missing_line_is_incomplete_and_never_stable() -> None:
    judged = numbers({1: [[2.0]], 2: [[2.0, 4.0]], 3: [[2.0, 4.0]]})
    assert judged.max_stable == 2
    assert not judged.levels[2].complete


@pytest.mark.parametrize(
    ("speeds", "highest"),
    [
        ([(1.0, 3), (1.9, 1), (2.6, 1), (2.7, 3)], 2.7),  # rises and levels off: as it is
        ([(10.4, 3), (10.5, 1), (12.8, 1), (10.9, 3)], 10.9),  # one lucky run in between
        ([(10.4, 3), (10.5, 1), (12.8, 3), (10.9, 3)], 12.8),  # three runs are no luck
        ([(1.0, 3), (2.0, 1), (1.9, 1), (1.8, 1)], 1.9),  # falls behind its knee
        ([(7.0, 1)], 7.0),
        ([], 0.0),
    ],
)
def test_a_lucky_run_is_no_plateau(speeds: list[tuple[float, int]], highest: float) -> None:
    assert highest_but_outliers(speeds) == highest


HOSTS = [LoadHost("a#1", 2, 10.0, 5.0, 0.2, 0.0), LoadHost("a#2", 1, 10.0, 5.0, 0.4, 3000.0)]


def loaded_by(*limits: str | None) -> dict[str, Any]:
    """Facts of a level run whose machines were so limited."""
    hosts = [dataclasses.replace(host, limit=limit) for host, limit in zip(HOSTS, limits, strict=True)]
    return {"load_hosts": hosts, "client_limited": any(limits)}


def test_a_run_that_a_load_machine_spoilt_counts_neither_for_nor_against_the_service(tmp_path: Path) -> None:
    lost = level(3, 1, facts=loaded_by(None, "lost"))
    lost[0].status, lost[0].error_kind, lost[0].rtf = "failed", "load_host_lost", None
    fine = [level(size, number, facts=loaded_by(None, None)) for size, number in ((1, 1), (2, 1), (3, 2))]
    run = judged(tmp_path, ramp(*fine[:2], lost, fine[2])).ramp
    assert (run.max_stable, run.first_breach, run.levels[2].client_limited) == (3, None, False)
    assert [(note.key, note.facts.get("names"), note.facts.get("levels")) for note in run.load] == [
        ("load_hosts", ("a ×2",), None), ("load_lost", ("a#2",), ("3",)), ("load_clock", None, None)]
    assert run.load[0].facts == {"tasks": 12, "count": 2, "machines": 1, "names": ("a ×2",), "error": 0.4}
    spoilt = judged(tmp_path, ramp(*fine[:2], lost, stop="client_limited")).ramp
    assert (spoilt.max_stable, spoilt.first_breach, spoilt.stop_reason) == (2, None, "client_limited")


def test_however_many_load_processes_were_the_limit_each_reason_is_one_line(tmp_path: Path) -> None:
    """A machine has many processes, which share its clock."""
    ahead = [dataclasses.replace(host, name=f"b#{n}", clock_offset_ms=3000.0) for n, host in enumerate(HOSTS * 3)]
    lost = [dataclasses.replace(host, limit="lost") for host in (*ahead, HOSTS[0])]
    runs = [level(1, 1, facts={"load_hosts": ahead}), *(level(size, number, facts={
        "load_hosts": lost, "client_limited": True}) for size, number in ((2, 1), (2, 2), (3, 1)))]
    notes = {note.key: note for note in judged(tmp_path, ramp(*runs)).ramp.load}
    assert list(notes) == ["load_hosts", "load_lost", "load_clock"]
    assert Words("en").note(notes["load_lost"]) == (
        "7 load processes were lost at concurrency 2, 3 (a#1, b ×6): those runs show nothing of the service and were "
        "not counted")
    assert notes["load_clock"].facts["name"] == "b"


def test_of_one_machine_alone_nothing_is_said(tmp_path: Path) -> None:
    assert judged(tmp_path, ramp(level(1), level(2))).ramp.load == []


def test_one_task_that_leaves_too_little_memory_free_is_not_said_to_fail(tmp_path: Path) -> None:
    low = {"host_available_min_mb": 500.0, "reserve_mb": 1600.0}
    run = judged(tmp_path, ramp(level(1, facts=low), stop="memory_reserve"))
    assert run.ramp.max_stable is None


def test_a_level_that_failed_is_not_said_to_be_interrupted_only(tmp_path: Path) -> None:
    last = level(3, failed=1)
    last[-1].status, last[-1].error_kind = "failed", "interrupted"
    assert not judged(tmp_path, ramp(level(1), level(2), last, stop=None)).ramp.levels[-1].interrupted


def test_a_ramp_that_doubles_has_no_gaps_though_a_line_is_lost(tmp_path: Path) -> None:
    results = with_settings(ramp(level(1), level(2), level(4), level(8)), step="x2")
    run = judged(tmp_path, results, more="{\n")
    assert (run.run.lost, run.ramp.max_stable) == (1, 8)
