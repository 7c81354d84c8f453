"""Criteria, levels, limits and the comparison: what passes, what fails, and what must stay open."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analyze_stress_test as reader
from memory_leak_stress_test import TaskResult
from unit.reader_runs import (
    CSV_HEAD,
    FLAT,
    LEAKING,
    healthy,
    judged,
    leak_phase,
    level,
    memory,
    ramp,
    sample_rows,
    statuses,
    with_settings,
)


def test_a_healthy_run_passes_every_criterion(tmp_path: Path) -> None:
    run = judged(tmp_path, healthy())
    assert set(statuses(run).values()) == {"pass"}
    assert run.verdict == "pass"
    assert (run.ramp.max_stable, run.ramp.max_real_time, run.ramp.stop_reason) == (5, 5, "max_concurrency")


# ------------------------------------------------------------------------------- criteria at their boundaries


def with_long_delta(mb: float) -> list[TaskResult]:
    results = healthy()
    for result in results:
        if result.phase == "leak" and result.audio_file == "long.wav" and result.cycle:
            result.worker_rss_delta_mb = mb
    return results


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
    run = judged(tmp_path, ramp(*levels, stop="failure" if failed_at else "max_concurrency"))
    assert (statuses(run)["min_concurrency"], run.ramp.max_stable) == (status, stable)


# ------------------------------------------------------ never a pass where evidence is missing or somebody died


def without_memory(results: list[TaskResult]) -> list[TaskResult]:
    results[-1].memory = {}
    return results


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
    return results + ramp(level(6, facts={"deaths": ["api process 200 (uvicorn) ended"]}), stop="worker_died")


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
    ("a worker was replaced", lambda: replaced_worker(healthy()), {}, "no_worker_crash", "fail"),
    ("a worker was replaced: baseline", lambda: replaced_worker(healthy()), {}, "return_to_baseline", "inconclusive"),
    ("a worker was replaced: growth", lambda: replaced_worker(healthy()), {}, "no_cumulative_growth", "inconclusive"),
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
    assert reader.Words("en")("cut_interrupted") in reader.headline(run, reader.Words("en"))


@pytest.mark.parametrize(("settings", "results", "open_ones"), [
    ({"phase": "leak"}, leak_phase, {"min_concurrency", "rtf_under_load"}),
    ({"phase": "concurrency"}, lambda: ramp(*(level(n) for n in range(1, 6))),
     {"long_audio_delta", "return_to_baseline", "no_cumulative_growth"}),
    ({"no_watch": True, "phase": "concurrency"}, lambda: ramp(*(level(n) for n in range(1, 6))),
     {"long_audio_delta", "return_to_baseline", "no_cumulative_growth", "no_worker_crash"})])
def test_what_was_not_asked_for_does_not_withhold_a_pass_but_is_named(
    tmp_path: Path, settings: dict[str, Any], results: Callable[[], list[TaskResult]], open_ones: set[str]
) -> None:
    run = judged(tmp_path, with_settings(results(), **settings))
    assert {name for name, status in statuses(run).items() if status == "not_measured"} == open_ones
    say = reader.Words("en")
    assert run.verdict == "pass"
    assert all(say(name) in reader.headline(run, say) for name in open_ones)


def test_a_run_without_its_second_phase_is_open(tmp_path: Path) -> None:
    run = judged(tmp_path, leak_phase())
    assert (run.verdict, statuses(run)["min_concurrency"]) == ("inconclusive", "not_measured")


# ------------------------------------------------------------------------------------ levels and their figures


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
    run = judged(tmp_path, ramp(level(1, processing_time=4.0), three))
    found = run.ramp.levels[1]
    assert (found.turnaround_median_s, found.turnaround_max_s, found.rtf_median, found.rtf_max) == (6.0, 8.0, 0.3, 0.4)
    assert (found.audio_seconds_per_second, run.ramp.knee, run.ramp.effective_parallelism) == (7.5, 3, 1.5)


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
    assert reader.failure_kinds(run.run.results) == [("submit_refused", 3, "queue is full")]


@pytest.mark.parametrize(("seconds_at", "says"), [
    (lambda n: 2.0 * n, "together_not"), (lambda n: 2.0, "together_yes"), (lambda n: 1.0 * max(2, n), "together_knee")])
def test_stable_levels_are_put_in_words_that_tell_a_queue_from_concurrency(
    tmp_path: Path, seconds_at: Callable[[int], float], says: str
) -> None:
    run = judged(tmp_path, ramp(*(level(n, processing_time=seconds_at(n)) for n in range(1, 9))))
    said = reader.ramp_sentence(run, reader.Words("en"))
    begin = reader.WORDS[says][0].partition("{")[0]
    assert begin in said
    assert ("one after another" in reader.headline(run, reader.Words("en"))) == (says == "together_not")


@pytest.mark.parametrize("size", [3, 10])
def test_bound_of_the_failure_rate(tmp_path: Path, size: int) -> None:
    """No failure in n tasks: with 95 % confidence below 1 - 0.05^(1/n)."""
    run = judged(tmp_path, ramp(*(level(n) for n in range(1, size + 1))))
    assert run.ramp.failure_bound == pytest.approx(1 - 0.05 ** (1 / size))


@pytest.mark.parametrize(("last", "english", "chinese"), [
    (lambda: level(3, failed=1), "connection refused (submit_refused); task: short_c3_0004; observed: queue is full; "
     "limit: –", "连接被拒绝（submit_refused）；任务：short_c3_0004；观测到：queue is full；限值：–"),
    (lambda: level(3, lines=2), "results missing (incomplete); task: –; observed: 2 lines; limit: 3 lines",
     "结果不完整（incomplete）；任务：–；观测到：2 行；限值：3 行"),
    (lambda: level(3, facts={"deaths": ["api process 7 (a (b)) ended"], "oom_kills": 1}),
     "service process died (process_died); task: –; observed: api process 7 (a (b)) ended (the kernel ended 1 for lack "
     "of memory meanwhile); limit: –",
     "服务进程退出（process_died）；任务：–；观测到：api 进程 7（a (b)）退出（期间内核因内存不足杀掉 1 个进程）；"
     "限值：–"),
])
def test_a_breach_is_said_in_words_of_the_report(
    tmp_path: Path, last: Callable[[], list[TaskResult]], english: str, chinese: str
) -> None:
    run = judged(tmp_path, ramp(level(1), level(2), last(), stop="failure"))
    for language, words in zip(reader.LANGUAGES, (english, chinese), strict=True):
        assert any(words in line for line in reader.ramp_lines(run.ramp, reader.Words(language)))


def test_deaths_are_said_in_words_of_the_report(tmp_path: Path) -> None:
    facts = {"deaths": ["worker process 100 (rq) ended", "something else"]}
    run = judged(tmp_path, ramp(level(1), level(2, facts=facts), stop="worker_died"))
    english, chinese = (reader.Words(language).note(run.criteria[4].text) for language in reader.LANGUAGES)
    assert english == "2 in all: worker process 100 (rq) ended; something else"
    assert chinese == "共 2 次：worker 进程 100（rq）退出；something else"


# ---------------------------------------------------------------------------------------------- the comparison


BOTH = [50.0] * 12, [50.0 + 60 * n for n in range(12)]  # an API that does not leak, and one that does


@pytest.mark.parametrize(("before", "after", "key"), [
    (leak_phase(LEAKING), leak_phase(FLAT), "fix_shown"),
    (leak_phase(LEAKING), leak_phase(LEAKING), "fix_not_shown"),
    (leak_phase(FLAT), leak_phase(LEAKING), "fix_new_leak"),
    (leak_phase(FLAT), leak_phase(FLAT), "fix_both_clean"),
    (leak_phase(FLAT[:5]), leak_phase(FLAT), "fix_unproven"),
    (leak_phase(FLAT[:5]), leak_phase(LEAKING), "fix_still_leaks"),
    (leak_phase(LEAKING), leak_phase(FLAT[:5]), "fix_open"),
    (leak_phase(LEAKING[:12], BOTH[0]), leak_phase(FLAT, BOTH[1]), "fix_other_leaks"),
    (leak_phase(FLAT, BOTH[1]), leak_phase(FLAT, BOTH[0]), "fix_shown")])
def test_comparison_says_whether_the_fix_is_shown(
    tmp_path: Path, before: list[TaskResult], after: list[TaskResult], key: str
) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    old, new = judged(folders[0], before), judged(folders[1], after)
    fix, changes, unlike = reader.compare(old, new)
    assert fix.key == key
    assert changes[0].before == old.criteria[0].observed
    assert unlike == []
    assert all(reader.Words(language).note(fix) for language in reader.LANGUAGES)


def test_comparison_names_conditions_that_differ(tmp_path: Path) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    other = [dataclasses.replace(result, host={"name": "h", "cpus": 8}) for result in leak_phase()]
    _, _, unlike = reader.compare(judged(folders[0], leak_phase()), judged(folders[1], other))
    assert [note.facts["what"].key for note in unlike] == ["cpus"]


def test_conditions_that_differ_are_said_with_units_and_the_separators_of_the_language(tmp_path: Path) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    runs = [[dataclasses.replace(result, host={"memory_mb": mb}) for result in leak_phase()] for mb in (24105, 48210)]
    for result in runs[1]:
        result.audio_seconds = 20.0
    _, _, unlike = reader.compare(*(judged(*run) for run in zip(folders, runs, strict=True)))
    english, chinese = (" ".join(map(reader.Words(language).note, unlike)) for language in reader.LANGUAGES)
    assert "clip lengths (100 s, 20 s before; 20 s now)" in english
    assert "machine memory (24,105 MB before; 48,210 MB now)" in english
    assert "“音频时长”不同（之前 100 s、20 s，现在 20 s）" in chinese


# ------------------------------------------------------------------------------- what the first screen may not hide


def after_the_ramp(role: str, mb: float, *, pid: int = 100) -> list[TaskResult]:
    """A clean leak phase, then a ramp after which a role holds so much more than after first use."""
    lines = leak_phase(api=[50.0] * 12) + ramp(*(level(size) for size in range(1, 6)))
    for result in lines[-15:]:
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
    run, say = judged(folders[1], after_the_ramp(role, 900.0)), reader.Words("en")
    assert (statuses(run)["return_to_baseline"], run.verdict) == ("inconclusive", "inconclusive")
    assert f"+900.0 MB in the {role} after the ramp" in say.note(run.criteria[1].text)
    assert "Whether memory leaks is not decided" in reader.headline(run, say)
    assert "no growth per cycle" in reader.memory_sentence(run, say)
    assert "run the ramp a second time" in reader.next_sentence(run, say)
    fix, _, _ = reader.compare(judged(folders[0], leak_phase(LEAKING)), run)
    assert fix.key == "fix_doubt"
    assert f"+900.0 MB in the {role}" in say.note(fix)
    assert judged(folders[1], after_the_ramp(role, 50.0)).verdict == "pass"


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
    assert "Next: " in reader.next_sentence(run, reader.Words("en"))


def test_a_hole_that_the_record_tells_of_needs_no_csv(tmp_path: Path) -> None:
    results = healthy()
    assert judged(tmp_path, results).verdict == "pass"
    results[9].sample_gap_s = 12.0
    assert judged(tmp_path, results).roles["worker"].growth.facts["gap_s"] == 12.0


def test_failed_tasks_of_the_leak_phase_stand_on_the_first_screen(tmp_path: Path) -> None:
    results = healthy()
    for result in results[3:22:2]:
        result.status, result.error_kind, result.error = "failed", "task_failed", "CUDA out of memory"
    run, say = judged(tmp_path, results), reader.Words("en")
    assert "10 of 22 tasks of the leak phase failed" in reader.headline(run, say)
    assert "Nothing failed" not in reader.headline(run, say)
    assert "see why tasks of the leak phase fail" in reader.next_sentence(run, say)


def test_a_service_that_recognises_nothing_does_not_pass(tmp_path: Path) -> None:
    results = healthy()
    results[-1].empty_text = True
    run, say = judged(tmp_path, results), reader.Words("en")
    assert run.verdict == "inconclusive"
    assert "1 tasks were done without a word of text" in reader.headline(run, say)
    assert reader.summary(run, say)["input"]["empty_texts"] == 1
    unknown = judged(tmp_path, healthy())
    assert reader.summary(unknown, say)["input"]["empty_texts"] is None, "no result says whether there was text"


def test_a_record_that_ends_before_the_ramp_never_passes_as_a_whole(tmp_path: Path) -> None:
    run, say = judged(tmp_path, leak_phase()), reader.Words("en")
    assert (run.verdict, run.cut_short) == ("inconclusive", reader.Note("cut_early"))
    assert "repeat the run to its end" in reader.next_sentence(run, say)


def test_a_fix_is_not_shown_by_a_looser_tolerance(tmp_path: Path) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    new = judged(folders[1], with_settings(leak_phase(FLAT), tolerance_mb=500.0))
    loose = dataclasses.replace(new.roles["worker"].growth, upper_bound_mb_per_cycle=61.0)  # as of noisy readings
    new.roles["worker"] = dataclasses.replace(new.roles["worker"], growth=loose)
    fix, _, unlike = reader.compare(judged(folders[0], leak_phase(LEAKING)), new)
    say = reader.Words("en")
    assert fix.key == "fix_doubt"
    assert "60.0 before" in say.note(fix)
    assert [say.note(n) for n in unlike if "--tolerance-mb" in say.note(n)] == [
        "The runs differ in --tolerance-mb (10 before; 500 now): the change may be due to that."]
    assert "differs_order" in [note.key for note in reader.compare(new, new)[2]]
