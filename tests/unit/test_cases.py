"""Recorded runs and series of services whose truth is known: what the reader must say of each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import judge_history
from stress_report.findings import Knee
from stress_report.judging import Judged, judge
from stress_report.recording import read_run
from stress_report.saying import Words, advice, headline, three_sentences
from unit.reader_runs import statuses

CASES = Path(__file__).parent / "cases"
SERIES: dict[str, dict[str, Any]] = json.loads((CASES / "series.json").read_text())


def case(name: str) -> Judged:
    """A run of the folder; its CSV, where it is there, was recorded with it."""
    csv = CASES / f"{name}.csv"
    return judge(read_run(CASES / f"{name}.jsonl", [csv] if csv.exists() else []))


def all_cases() -> Iterator[Judged]:
    yield from (case(path.stem) for path in sorted(CASES.glob("*.jsonl")))


def first_screen(run: Judged) -> str:
    say = Words("en")
    return " ".join([headline(run, say), *three_sentences(run, say)])


# name, verdict, criteria that are not as the verdict would have it, what the first screen says, the advice
RUNS: list[tuple[str, str, dict[str, str], list[str], str]] = [
    ("foreign_api", "inconclusive", {"no_cumulative_growth": "inconclusive"},
     ["Memory: not judged for the api: its processes used no more CPU while tasks ran than when idle"], "next_watch"),
    ("api_worker_killed", "fail", {"no_worker_crash": "fail", "min_concurrency": "fail"},
     ["crashes of service processes"], "next_crash"),
    ("recycled_worker", "fail", {"no_cumulative_growth": "fail", "no_worker_crash": "pass",
                                 "return_to_baseline": "pass", "long_audio_delta": "pass"},
     ["the worker leaks: keeps 60.0 MB per task while its processes run (120.0 MB per cycle",
      "recycling contains it: replaced in 5 cycles, after about 5 tasks each, at most +120 MB above first use"],
     "next_leak"),
    ("recycled_api", "pass", {"no_cumulative_growth": "pass", "no_worker_crash": "pass", "return_to_baseline": "pass"},
     ["while its processes run; they were replaced in 5 cycles"], "next_keep"),
    ("parallel_leak", "inconclusive", {"return_to_baseline": "inconclusive", "min_concurrency": "pass"},
     ["each repeat of 5 concurrent tasks added more (845, 1,486, 2,006, 2,686 MB): growth under load"],
     "next_loaded_alone"),
    ("parallel_leak_ramp", "inconclusive", {"return_to_baseline": "not_measured"},
     ["The worker held 1,683 MB when idle after the ramp, compared with 40 before, and each repeat of 4 "
      "concurrent tasks added more"],
     "next_loaded_alone"),
    ("slow_leak", "pass", {"no_cumulative_growth": "pass"},
     ["Memory grows in the worker by 4.0 MB per cycle, under the tolerance", "surely more than 2.2",
      "under the tolerance of 10; 1 GB of free memory lasts 255 cycles; that is 24 minutes under this load"],
     "next_keep"),
    ("leak_on_failure", "fail", {"long_audio_delta": "fail", "no_cumulative_growth": "inconclusive"},
     ["8 of 8 tasks of the leak phase failed", "grew by 60.0 MB per cycle over 3 cycles in which tasks failed",
      "In the end no task succeeded"], "next_failed"),
    ("hang_after_6", "fail", {"long_audio_delta": "fail"}, ["6 of 12 tasks of the leak phase failed: no progress"],
     "next_failed"),
    ("db_pool", "pass", {"min_concurrency": "pass"}, ["The result page takes up to 1.0 s to answer", "not measured"],
     "next_keep"),
    ("knee_at_failed_level", "inconclusive", {"min_concurrency": "inconclusive", "rtf_under_load": "pass"},
     ["12 concurrent tasks look stable, which is not confirmed", "the confirmation runs are not in the record"],
     "next_again"),
    # Memory that is lost where no watched process holds it, and a container's limit; a synchronous service.
    ("lost_segments", "inconclusive", {"no_cumulative_growth": "inconclusive"},
     ["Whether memory leaks is not decided", "memory outside the watched processes grew by 118.0 MB per cycle, theirs "
      "by 0.0: /dev/shm grew from 365 to 1,427 MB"], "next_unwatched"),
    ("unwatched_store", "inconclusive", {"no_cumulative_growth": "inconclusive"},
     ["an unwatched process grew with the tasks: resultd *:18201 (pid 4), 42.8 MB per cycle"], "next_unwatched"),
    ("left_daemons", "inconclusive", {"no_cumulative_growth": "inconclusive"},
     ["24 named python (the largest: helperd -S -c, pid 98), 45.1 MB per cycle"], "next_unwatched"),
    ("beside_compiler", "pass", {"no_cumulative_growth": "pass"}, ["No memory leak was found"], "next_keep"),
    ("container_limit", "fail", {"no_cumulative_growth": "fail"},
     ["Container limit 1,500 MB: reached after about 22 more cycles (44 tasks, 2 minutes at this pace)"], "next_leak"),
    ("container_kills", "fail", {"no_worker_crash": "fail"},
     ["the kernel killed 1 process in the container of the api, whose limit is 150 MB (OOM kill)"], "next_leak"),
]


@pytest.mark.parametrize(("name", "verdict", "criteria", "says", "next_step"), RUNS, ids=[row[0] for row in RUNS])
def test_a_recorded_service_is_judged_as_what_it_was(
    name: str, verdict: str, criteria: dict[str, str], says: list[str], next_step: str
) -> None:
    run = case(name)
    assert (run.verdict, advice(run)) == (verdict, next_step)
    assert {name: status for name, status in statuses(run).items() if name in criteria} == criteria
    screen = first_screen(run)
    assert [words for words in says if words.lower() not in screen.lower()] == []


def test_every_case_has_its_row() -> None:
    assert sorted(row[0] for row in RUNS) == sorted(path.stem for path in CASES.glob("*.jsonl"))


def test_deaths_of_serving_children_are_counted_and_recycled_ones_are_not() -> None:
    assert [(len(run.crashes), len(run.recycled)) for run in map(case, (
        "api_worker_killed", "recycled_worker", "recycled_api", "slow_leak"))] == [(3, 0), (0, 5), (0, 5), (0, 0)]


def test_a_ramp_whose_result_page_is_slow_has_neither_knee_nor_parallelism() -> None:
    ramp = case("db_pool").ramp
    assert (ramp.knee, ramp.effective_parallelism) == (Knee(None, "slow_polls"), None)
    assert ramp.slow_page_s == pytest.approx(1.0, abs=0.1)


def test_a_level_that_failed_is_no_knee() -> None:
    ramp = case("knee_at_failed_level").ramp
    assert (ramp.max_stable, ramp.knee) == (12, Knee(None, "too_few_levels"))


def history(name: str, **settings: Any) -> Any:
    return judge_history(SERIES[name]["readings_mb"], **settings)


@pytest.mark.parametrize(("name", "verdict", "rate"), [
    ("llama_hybrid", "LEAK", 126.0), ("bounded_after_55", "NO LEAK", 0.0), ("reload_per_cycle", "LEAK", 20.7),
    ("reload_fixed", "NO LEAK", 0.02), ("runtime_124", "LEAK", 22.0), ("runtime_123", "NO LEAK", 0.26),
    ("small_per_file", "NO LEAK", 2.6), ("ten_kb_per_call", "NO LEAK", 0.02), ("straight_line_4", "NO LEAK", 4.0),
    ("collected_heap", "INCONCLUSIVE", None)])
def test_a_public_series_is_judged_as_what_it_was(name: str, verdict: str, rate: float | None) -> None:
    found = history(name)
    assert found.verdict == verdict
    assert rate is None or found.mb_per_cycle == pytest.approx(rate, abs=0.05)


def test_every_series_has_its_row() -> None:
    rows = test_a_public_series_is_judged_as_what_it_was.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {row[0] for row in rows} == set(SERIES)


def test_a_leak_that_comes_to_an_end_is_taken_back_and_said() -> None:
    """55 requests of 147 MB, then none: until the end LEAK is all that can be said, and what it rests on."""
    readings = SERIES["bounded_after_55"]["readings_mb"]
    early = judge_history(readings[:20])
    assert (early.verdict, early.facts["grown"] > 2000, early.facts["longer"] > 20) == ("LEAK", True, True)
    assert history("bounded_after_55").facts["revoked"] == "LEAK"


def test_a_collected_heap_is_never_called_a_leak() -> None:
    readings = SERIES["collected_heap"]["readings_mb"]
    assert {judge_history(readings[:cycles]).verdict for cycles in range(len(readings) + 1)} == {"INCONCLUSIVE"}


def test_small_growth_is_said_and_is_a_leak_under_a_smaller_tolerance() -> None:
    for name in ("small_per_file", "straight_line_4"):
        assert history(name).reason == "small_growth"
    assert history("small_per_file", tolerance_mb=2.0).verdict == "LEAK"


@pytest.mark.parametrize("tolerance_mb", [0.1, 0.5, 1.0, 2.0, 10.0])
def test_ten_kb_per_call_are_cleared_at_any_tolerance_in_few_cycles(tolerance_mb: float) -> None:
    readings = SERIES["ten_kb_per_call"]["readings_mb"]
    assert judge_history(readings[:15], tolerance_mb=tolerance_mb).verdict == "NO LEAK"
