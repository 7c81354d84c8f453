"""What a report shows of a role's memory beside its verdict: first use, peaks, the clip that growth follows, horses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import TaskResult, judge_leak
from stress_report import recording
from stress_report.memory import RoleFindings, describe_role, series_of_roles
from unit.reader_runs import (
    CSV_HEAD,
    sample_rows,
)
from unit.test_growth_rule import LONG, SHORT, forking, leak_run, line, task


def worker(results: Sequence[TaskResult], **settings: Any) -> RoleFindings:
    return describe_role(judge_leak(results, **settings)["worker"], results)


def test_first_use_growth_is_that_of_the_warm_up_round_and_the_peak_that_of_all() -> None:
    found = worker(leak_run([700.0] * 10, first=100, warm=690))
    assert (found.first_use_growth_mb, found.peak_mb, found.follows) == (590.0, 1521.0, None)


def test_without_a_warm_up_round_growth_at_first_use_is_not_known() -> None:
    assert worker(leak_run([700.0] * 3, first=100)).first_use_growth_mb is None


def test_a_role_never_read_shows_nothing() -> None:
    results = leak_run([700.0] * 10, warm=700, make=lambda *a: task(*a, role="api"))
    for result in results:
        result.task_id = "from a queue"
    found = worker(results)
    assert (found.growth.verdict, found.first_use_growth_mb, found.peak_mb) == ("NOT MEASURED", None, None)


@pytest.mark.parametrize(
    ("long_share", "follows"), [(1.0, LONG), (0.81, LONG), (0.79, "both"), (0.5, "both"), (0.1, SHORT)])
def test_growth_follows_the_clip_with_four_fifths_of_it(long_share: float, follows: str) -> None:
    found = worker(leak_run(line(50, 12), long_share=long_share))
    assert (found.growth.verdict, found.follows) == ("LEAK", follows)


def test_growth_before_the_first_judged_reading_is_not_part_of_what_it_follows() -> None:
    results = leak_run(line(50, 12, 700), first=100)
    results[0].memory["worker"].private_after_mb = 700.0  # the short task of the first cycle loads the model
    results[1].memory["worker"].private_before_mb = 700.0
    assert worker(results).follows == LONG


def test_growth_below_the_tolerance_follows_nothing() -> None:
    found = worker(leak_run(line(3, 12)))
    assert (found.growth.verdict, found.follows) == ("NO LEAK", None)


@pytest.mark.parametrize(("cycles", "reason"), [(13, "horses_leak"), (12, "horses_growing")])
def test_growth_of_work_horses_follows_their_clip(cycles: int, reason: str) -> None:
    found = worker(leak_run([30.0] * cycles, first=30, make=forking(lambda cycle: 600.0 + 25 * cycle)))
    assert (found.growth.reason, found.follows) == (reason, LONG)


def test_figures_of_work_horses_by_clip() -> None:
    found = worker(leak_run([30.0] * 10, first=30, warm=30, make=forking(lambda cycle: 620.0 + cycle % 2)))
    short, long = found.horses
    assert (short.clip, short.jobs, short.held_median_mb, short.held_max_mb) == (SHORT, 10, 400.0, 400.0)
    assert (long.clip, long.jobs, long.held_median_mb, long.held_max_mb) == (LONG, 10, 620.5, 621.0)
    assert (long.peak_median_mb, long.peak_max_mb, long.growth.verdict) == (900.0, 900.0, "NO LEAK")


def test_work_horses_without_a_last_reading_are_counted_all_the_same() -> None:
    found = worker(leak_run([30.0] * 10, make=forking(lambda cycle: None)))
    long = next(series for series in found.horses if series.clip == LONG)
    assert (long.jobs, long.held_median_mb, long.held_max_mb) == (10, None, None)


def test_the_sum_of_a_role_counts_each_process_where_it_was_seen(tmp_path: Path) -> None:
    seen = {0: [(100, 5.0), (101, 7.0)], 1: [(100, 5.0)], 2: [(100, 5.0), (101, 9.0)], 3: [(300, 1.0)]}
    rows = "".join(sample_rows([second], ("uvicorn" if pid == 300 else "rq", pid, mb))
                   for second, there in seen.items() for pid, mb in there)
    path = tmp_path / "samples.csv"
    path.write_text(CSV_HEAD + rows)
    series = series_of_roles(recording.RecordedRun(path), recording.read_samples(path))
    assert [(s.role, list(s.at), list(s.rss)) for s in series] == [
        ("worker", [0, 1, 2], [12.0, 5.0, 14.0]), ("api", [3], [1.0])]
