"""What the record says of load: levels, their limits and figures, failures by kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from stress_report.concurrency import failure_kinds
from stress_report.findings import Failure
from unit.reader_runs import (
    judged,
    level,
    ramp,
)


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
