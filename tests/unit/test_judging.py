"""The criteria and the verdict: what passes, what fails, and what must stay open."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import Busy, Death, ProcessMemory, TaskResult
from stress_report import findings, markdown
from stress_report.comparison import compare
from stress_report.saying import Words, headline, memory_sentence, next_sentence
from stress_report.summary import summary
from unit.reader_runs import (
    CSV_HEAD,
    FLAT,
    LEAKING,
    confirmed,
    healthy,
    judged,
    leak_phase,
    level,
    loaded_phase,
    memory,
    moment,
    ramp,
    sample_rows,
    statuses,
    with_long_delta,
    with_settings,
)


def test_a_healthy_run_passes_every_criterion(tmp_path: Path) -> None:
    run = judged(tmp_path, healthy())
    assert set(statuses(run).values()) == {"pass"}
    assert run.verdict == "pass"
    assert (run.ramp.max_stable, run.ramp.max_real_time, run.ramp.stop_reason) == (5, 5, "max_concurrency")


@pytest.mark.parametrize(("mb", "status", "band"), [
    (199.999, "pass", "good"), (200.0, "fail", "poor"), (500.0, "fail", "poor"), (500.001, "fail", "bad"),
    (-300.0, "pass", "good")])
def test_long_audio_delta_and_its_bands(tmp_path: Path, mb: float, status: str, band: str) -> None:
    criterion = judged(tmp_path, with_long_delta(mb)).criteria[0]
    assert (criterion.id, criterion.status, criterion.observed) == ("long_audio_delta", status, mb)
    assert criterion.text.facts["band"].key == f"band_{band}"


def test_long_audio_delta_takes_the_limit_of_the_run(tmp_path: Path) -> None:
    run = judged(tmp_path, with_settings(with_long_delta(150.0), delta_limit_mb=100.0))
    assert (run.criteria[0].status, run.criteria[0].limit) == ("fail", 100.0)


@pytest.mark.parametrize(("end", "status"), [(899.9, "pass"), (900.0, "fail"), (700.0, "pass"), (100.0, "pass")])
def test_return_to_baseline_compares_the_end_with_the_reading_after_first_use(
    tmp_path: Path, end: float, status: str
) -> None:
    run = judged(tmp_path, leak_phase([300.0, 700.0] + [700.0] * 9 + [end]))
    assert statuses(run)["return_to_baseline"] == status


def test_memory_that_stays_high_only_after_the_ramp_leaves_the_baseline_open(tmp_path: Path) -> None:
    levels = [level(1), level(2), level(3, after=950.0)]
    assert statuses(judged(tmp_path, leak_phase() + ramp(*levels)))["return_to_baseline"] == "inconclusive"


@pytest.mark.parametrize(("slowest", "at", "status"), [
    (0.999, 3, "pass"), (1.0, 3, "fail"), (1.0, 4, "pass"), (1.0, 1, "fail")])
def test_rtf_under_load_judges_the_levels_up_to_three(tmp_path: Path, slowest: float, at: int, status: str) -> None:
    results = healthy()
    next(r for r in results if r.phase == "concurrency" and r.concurrency == at).rtf = slowest
    run = judged(tmp_path, results)
    assert statuses(run)["rtf_under_load"] == status
    if status == "pass" and slowest >= 1:
        assert run.criteria[5].text.facts["level"] == at, "the level where it stops being so is named"
        assert run.ramp.max_real_time == at - 1


@pytest.mark.parametrize(("highest", "failed_at", "status", "stable"), [
    (5, None, "pass", 5), (3, None, "pass", 3), (2, None, "inconclusive", 2), (4, 4, "pass", 3), (3, 3, "fail", 2),
    (1, 1, "fail", 0)])
def test_min_concurrency_needs_three_at_once(
    tmp_path: Path, highest: int, failed_at: int | None, status: str, stable: int
) -> None:
    levels = [level(size, failed=int(size == failed_at)) for size in range(1, highest + 1)]
    run = judged(tmp_path, confirmed(*levels, stop="failure" if failed_at else "max_concurrency"))
    assert (statuses(run)["min_concurrency"], run.ramp.max_stable) == (status, stable)


def without_memory(results: list[TaskResult]) -> list[TaskResult]:
    results[-1].memory = {}
    return results


def unwatched(results: list[TaskResult]) -> list[TaskResult]:
    return [dataclasses.replace(result, memory={}) for result in results]


def unsettled(results: list[TaskResult]) -> list[TaskResult]:
    return [dataclasses.replace(result, settled=False) for result in results]


def long_tasks_fail(results: list[TaskResult]) -> list[TaskResult]:
    for result in results:
        if result.audio_file == "long.wav" and (result.cycle or 0) > 4:
            result.status, result.error_kind = "failed", "task_failed"
    return results


def replaced_worker(results: list[TaskResult]) -> list[TaskResult]:
    for result in results:
        if (result.cycle or 0) >= 6:
            result.memory = {"worker": memory(700.0, 700.0, pid=101)}
    return results


def api_dies(results: list[TaskResult]) -> list[TaskResult]:
    return results + ramp(level(6, deaths=[Death("api", 200, "uvicorn", moment(0))]), stop="worker_died")


MISSING: list[tuple[str, Callable[[], list[TaskResult]], dict[str, Any], str, str]] = [
    ("torn last line", healthy, {"more": '{"test_id": "short_c6_0038", "phase": "concu'}, "verdict", "inconclusive"),
    ("a line lost", healthy, {"drop": [30]}, "verdict", "inconclusive"),
    ("a line lost: who lived is not known", healthy, {"drop": [30]}, "no_worker_crash", "inconclusive"),
    ("a line lost: its level is incomplete", lambda: ramp(level(1), level(2), level(3)), {"drop": [4]},
     "min_concurrency", "inconclusive"),
    ("a whole level lost", lambda: ramp(level(1), level(2), level(3), level(4)), {"drop": [3, 4, 5]},
     "min_concurrency", "inconclusive"),
    ("a level with lines missing at the end", lambda: ramp(level(1), level(2), level(3, lines=2)), {},
     "min_concurrency", "inconclusive"),
    ("a level that the tool limited", lambda: ramp(level(1), level(2), level(3, facts={"client_limited": True}),
     stop="client_limited"), {}, "min_concurrency", "inconclusive"),
    ("a failure in a level that the tool limited", lambda: ramp(level(1), level(2), level(
        3, failed=1, facts={"client_limited": True}), stop="client_limited"), {}, "min_concurrency", "inconclusive"),
    ("RTF of a level that the tool limited", lambda: ramp(level(1), level(2), level(3, facts={"client_limited": True}),
     stop="client_limited"), {}, "rtf_under_load", "inconclusive"),
    ("interrupted in the ramp", lambda: leak_phase() + ramp(*(level(n) for n in range(1, 6)), stop="interrupted"), {},
     "verdict", "inconclusive"),
    ("the ramp just ends", lambda: leak_phase() + ramp(*(level(n) for n in range(1, 6)), stop=None), {}, "verdict",
     "inconclusive"),
    ("only the warm-up", lambda: leak_phase(FLAT[:2]), {}, "long_audio_delta", "not_measured"),
    ("only the warm-up: no growth known", lambda: leak_phase(FLAT[:2]), {}, "no_cumulative_growth", "inconclusive"),
    ("only the warm-up: verdict", lambda: leak_phase(FLAT[:2]), {}, "verdict", "inconclusive"),
    ("the warm-up lost", lambda: leak_phase()[2:], {}, "return_to_baseline", "not_measured"),
    ("five cycles", lambda: leak_phase(FLAT[:7]), {}, "no_cumulative_growth", "inconclusive"),
    ("readings never at rest: delta", lambda: unsettled(healthy()), {}, "long_audio_delta", "not_measured"),
    ("readings never at rest: baseline", lambda: unsettled(healthy()), {}, "return_to_baseline", "inconclusive"),
    ("most long tasks failed", lambda: long_tasks_fail(healthy()), {}, "long_audio_delta", "inconclusive"),
    ("tasks failed in the leak phase", lambda: long_tasks_fail(healthy()), {}, "no_cumulative_growth", "inconclusive"),
    ("a line does not say who was alive", lambda: without_memory(healthy()), {}, "no_worker_crash", "inconclusive"),
    ("replaced, and its lives are too short: baseline", lambda: replaced_worker(leak_phase(FLAT[:9])), {},
     "return_to_baseline", "inconclusive"),
    ("replaced, and its lives are too short: growth", lambda: replaced_worker(leak_phase(FLAT[:9])), {},
     "no_cumulative_growth", "inconclusive"),
    ("the API died in the ramp", lambda: api_dies(healthy()), {}, "no_worker_crash", "fail"),
    ("a role that leaks beside one that does not", lambda: leak_phase(FLAT, [50 + 60.0 * n for n in range(12)]), {},
     "no_cumulative_growth", "fail"),
    ("a hole in the samples", healthy, {"csv": CSV_HEAD + sample_rows([*range(0, 300), *range(340, 2200)],
                                                                      ("rq", 100, 700.0))},
     "no_cumulative_growth", "inconclusive"),
]


@pytest.mark.parametrize(
    ("results", "how", "what", "expected"), [pytest.param(*case[1:], id=case[0]) for case in MISSING])
def test_missing_evidence_is_no_pass(
    tmp_path: Path, results: Callable[[], list[TaskResult]], how: dict[str, Any], what: str, expected: str
) -> None:
    run = judged(tmp_path, results(), **how)
    assert (statuses(run) | {"verdict": run.verdict})[what] == expected


def test_a_worker_replaced_between_tasks_is_said_and_is_no_crash(tmp_path: Path) -> None:
    crash = judged(tmp_path, replaced_worker(healthy())).criteria[4]
    assert (crash.status, crash.observed) == ("pass", 0)
    assert Words("en").note(crash.text) == (
        "none crashed; 2 processes were replaced between tasks (the first: worker process 100 (rq) ended)")


@pytest.mark.parametrize(("cpu_s", "crash", "verdict"), [
    (0.005, "inconclusive", "inconclusive"), (0.5, "pass", "pass")])
def test_a_ramp_is_no_proof_that_nothing_crashed_where_another_process_did_the_work(
        cpu_s: float, crash: str, verdict: str, tmp_path: Path) -> None:
    results = with_settings(confirmed(*(level(size) for size in range(1, 6))), phase="concurrency")
    for result in results:
        result.memory = {"worker": dataclasses.replace(result.memory["worker"], cpu_s=cpu_s, rest_cpu_percent=0.1)}
        result.busiest_other = Busy(4711, "python", 3.0)
    run = judged(tmp_path, results)
    assert (statuses(run)["no_worker_crash"], run.verdict) == (crash, verdict)
    words = Words("en").note(run.criteria[4].text)
    assert ("the work seems to be done by process 4711 (python), see --watch and --pid" in words) is (crash != "pass")


def test_a_process_that_is_gone_without_another_in_its_place_is_a_crash(tmp_path: Path) -> None:
    results = leak_phase(api=[50.0] * 12)
    for number, result in enumerate(results):
        second = ProcessMemory(201, "2026-03-02T08:00:00.000", "uvicorn", 50.0, False, resident=True, root=True)
        result.memory["api"].processes += [second] if number < 9 else []
    assert [(c.status, c.observed) for c in judged(tmp_path, results).criteria[4:5]] == [("fail", 1)]


def test_tasks_that_the_tool_made_slow_are_not_held_against_the_service(tmp_path: Path) -> None:
    limited = level(3, facts={"client_limited": True})
    for result in limited:
        result.rtf = 1.5
    run = judged(tmp_path, ramp(level(1), level(2), limited, stop="client_limited"))
    assert statuses(run)["rtf_under_load"] == "inconclusive"


def test_a_task_cut_off_by_the_user_neither_fails_its_level_nor_lets_the_run_pass(tmp_path: Path) -> None:
    cut = level(5, 2, failed=2)
    for result in cut[:2]:
        result.error_kind = "interrupted"
    run = judged(tmp_path, leak_phase() + ramp(*(level(n) for n in range(1, 6)), cut, stop="interrupted"))
    assert (run.ramp.max_stable, run.ramp.first_breach, run.verdict) == (5, None, "inconclusive")
    assert Words("en")("cut_interrupted") in headline(run, Words("en"))


@pytest.mark.parametrize(("settings", "results", "open_ones"), [
    ({"phase": "leak"}, leak_phase, {"min_concurrency", "rtf_under_load"}),
    ({"phase": "concurrency"}, lambda: confirmed(*(level(n) for n in range(1, 6))),
     {"long_audio_delta", "return_to_baseline", "no_cumulative_growth"}),
    ({"no_watch": True, "phase": "concurrency"}, lambda: unwatched(confirmed(*(level(n) for n in range(1, 6)))),
     {"long_audio_delta", "return_to_baseline", "no_cumulative_growth", "no_worker_crash"})])
def test_what_was_not_asked_for_does_not_withhold_a_pass_but_is_named(
    tmp_path: Path, settings: dict[str, Any], results: Callable[[], list[TaskResult]], open_ones: set[str]
) -> None:
    run = judged(tmp_path, with_settings(results(), **settings))
    assert {name for name, status in statuses(run).items() if status == "not_measured"} == open_ones
    say = Words("en")
    assert run.verdict == "pass"
    assert all(say(name) in headline(run, say) for name in open_ones)


def test_a_run_without_its_second_phase_is_open(tmp_path: Path) -> None:
    run = judged(tmp_path, leak_phase())
    assert (run.verdict, statuses(run)["min_concurrency"]) == ("inconclusive", "not_measured")


def after_the_ramp(role: str, mb: float, *, pid: int = 100) -> list[TaskResult]:
    """A clean leak phase, then a ramp after which a role holds so much more than after first use."""
    lines = leak_phase(api=[50.0] * 12) + confirmed(*(level(size) for size in range(1, 6)))
    for result in lines[-25:]:
        result.memory = {"worker": memory(700.0, 700.0), "api": memory(50.0, 50.0, 200)}
        held = result.memory[role].after_mb or 0.0
        result.memory[role] = memory(held, held + mb, pid if role == "worker" else 200)
        result.worker_rss_after_mb = result.memory["worker"].after_mb
    return lines


@pytest.mark.parametrize("role", ["worker", "api"])
def test_memory_that_stays_after_the_ramp_is_never_a_pass_nor_a_shown_fix(tmp_path: Path, role: str) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    run, say = judged(folders[1], after_the_ramp(role, 900.0)), Words("en")
    assert (statuses(run)["return_to_baseline"], run.verdict) == ("inconclusive", "inconclusive")
    assert f"+900.0 MB in the {role} after the ramp" in say.note(run.criteria[1].text)
    assert "Whether memory leaks is not decided" in headline(run, say)
    assert "no growth per cycle" in memory_sentence(run, say)
    assert "--phase loaded --at-once 5" in next_sentence(run, say)
    fix, _, _ = compare(judged(folders[0], leak_phase(LEAKING)), run)
    assert fix.key == "fix_doubt"
    assert f"+900.0 MB in the {role}" in say.note(fix)
    assert judged(folders[1], after_the_ramp(role, 50.0)).verdict == "pass"


def test_one_task_is_no_tasks(tmp_path: Path) -> None:
    run = judged(tmp_path, [*leak_phase(), *ramp(level(1))])
    assert "handles at least 1 concurrent task." in headline(run, Words("en"))


def under_load(readings: Sequence[float], pid: int = 100) -> list[TaskResult]:
    """A run that passes, then loaded cycles; of another worker than before where the pid says so."""
    lines = loaded_phase(readings)
    for line, (before, after) in zip(lines, [pair for pair in itertools.pairwise(readings) for _ in range(5)],
                                     strict=True):
        line.memory = {"worker": memory(before, after, pid)}
    return [*healthy(), *lines]


@pytest.mark.parametrize("pid", [100, 101], ids=["nothing left after the ramp", "a restarted worker"])
@pytest.mark.parametrize(("readings", "status"), [(LEAKING, "fail"), (LEAKING[:7], "inconclusive"), (FLAT, "pass")])
def test_a_run_does_not_pass_while_loaded_cycles_leak_or_leave_it_open(
        readings: list[float], status: str, pid: int, tmp_path: Path) -> None:
    """What the ramp left is not above the limit, or not known since its process was replaced."""
    run, say = judged(tmp_path, under_load(readings, pid)), Words("en")
    assert (run.verdict, statuses(run)["return_to_baseline"]) == (status, status)
    assert ("Next: find what the worker keeps after tasks that overlap" in next_sentence(run, say)) == (
        status == "fail")
    assert ("--phase loaded --at-once 5" in next_sentence(run, say)) == (status == "inconclusive")


def test_a_leak_under_load_fails_though_the_leak_phase_decides_nothing(tmp_path: Path) -> None:
    results = under_load(LEAKING)
    for result in results:
        result.settled = result.settled and result.phase != "leak"
    assert (run := judged(tmp_path, results)).verdict == "fail"
    assert statuses(run)["return_to_baseline"] == "fail"


def test_tasks_released_together_share_what_they_left(tmp_path: Path) -> None:
    """220 MB after four long tasks at once are 55 MB of each, in one row of the table."""
    readings = [300.0, 700.0] + [700.0 + 220 * cycle for cycle in range(1, 13)]
    together = [dataclasses.replace(r, concurrency=4 if r.cycle else 1) for r in leak_phase(readings)
                for _ in range(4 if r.cycle else 1)]
    run = judged(tmp_path, with_settings(together, phase="leak", at_once=4))
    assert (run.criteria[0].observed, run.criteria[0].status) == (55.0, "pass")
    assert markdown.report(run, None, {}, [], Words("en")).count("| 3 | long.wav |") == 1


def test_memory_of_another_worker_is_not_compared_after_the_ramp(tmp_path: Path) -> None:
    run = judged(tmp_path, after_the_ramp("worker", -600.0, pid=101))
    assert run.criteria[1].text.facts["after_ramp"] is None


def without_gaps(results: list[TaskResult]) -> list[TaskResult]:
    return [dataclasses.replace(result, sample_gap_s=None) for result in results]


@pytest.mark.parametrize(("seconds", "reason"), [
    (None, "gap_unknown"), (range(2200), "no_growth"), (range(400), "sampler_gap"), (range(400, 2200), "sampler_gap"),
    ([*range(500), *range(540, 2200)], "sampler_gap")])
def test_a_hole_in_the_samples_is_one_wherever_it_is(tmp_path: Path, seconds: Any, reason: str) -> None:
    csv = None if seconds is None else CSV_HEAD + sample_rows(seconds, ("rq", 100, 700.0))
    run = judged(tmp_path, without_gaps(healthy()), csv=csv)
    assert run.roles["worker"].growth.reason == reason
    assert (run.verdict == "pass") == (reason == "no_growth")
    assert "Next: " in next_sentence(run, Words("en"))


def test_a_hole_that_the_record_tells_of_needs_no_csv(tmp_path: Path) -> None:
    results = healthy()
    assert judged(tmp_path, results).verdict == "pass"
    results[9].sample_gap_s = 12.0
    assert judged(tmp_path, results).roles["worker"].growth.facts["gap_s"] == 12.0


def test_a_service_that_recognises_nothing_does_not_pass(tmp_path: Path) -> None:
    results = healthy()
    results[-1].empty_text = True
    run, say = judged(tmp_path, results), Words("en")
    assert run.verdict == "inconclusive"
    assert "1 task was done without a word of text" in headline(run, say)
    assert summary(run, say)["input"]["empty_texts"] == 1
    unknown = judged(tmp_path, [dataclasses.replace(result, empty_text=None) for result in healthy()])
    assert summary(unknown, say)["input"]["empty_texts"] is None, "no result says whether there was text"


def test_a_record_that_ends_before_the_ramp_never_passes_as_a_whole(tmp_path: Path) -> None:
    run, say = judged(tmp_path, leak_phase()), Words("en")
    assert (run.verdict, run.cut_short) == ("inconclusive", findings.Note("cut_early"))
    assert "repeat the run to its end" in next_sentence(run, say)
