"""How findings are put in words: figures, counts, sentences, and what to do next."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import WINDOW, Busy, Death, LevelFacts, TaskResult
from stress_report import markdown
from stress_report.judging import judge
from stress_report.recording import read_run
from stress_report.saying import (
    ADVICE,
    FIGURES,
    Words,
    advice,
    headline,
    next_sentence,
    ramp_sentence,
    three_sentences,
)
from stress_report.words import LANGUAGES, WORDS
from unit import test_diagnosis, test_gpu
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
    moment,
    ramp,
    sample_rows,
    with_long_delta,
    with_settings,
)
from unit.test_machine import STEADY, on_machine


@pytest.mark.parametrize(("template", "value", "text"), [
    ("{x:.1f} MB", None, "– MB"), ("{x:,.1f} MB", -0.04, "0.0 MB"), ("{x:,.1f} MB", -1234.56, "-1,234.6 MB"),
    ("{x} {x:|line|lines}", 0, "0 lines"), ("{x} {x:|line|lines}", 1, "1 line"), ("{x} {x:|line|lines}", 2, "2 lines"),
    ("{x:,} {x:|row|rows}", 1234, "1,234 rows")])
def test_figures_and_counts_in_words(template: str, value: float | None, text: str) -> None:
    assert FIGURES.format(template, x=value) == text


@pytest.mark.parametrize(("key", "one", "two"), [
    ("read_missing", "1 result is missing: its running number is in no line",
     "2 results are missing: their running numbers are in no line"),
    ("crash_unread", "none seen, but 1 result is missing or does not show which processes were running",
     "none seen, but 2 results are missing or do not show which processes were running"),
    ("rows_left_out", "1 row in the middle is left out here; the JSONL has them all.",
     "2 rows in the middle are left out here; the JSONL has them all."),
    ("no_text", "1 task was done, but the answer contained no text: nothing shows that the service did any "
     "work, so the run cannot pass.", "2 tasks were done, but the answer contained no text: nothing shows that the "
     "service did any work, so the run cannot pass."),
    ("recycled", "Processes of the api were replaced between tasks 1 time, which is no crash.",
     "Processes of the api were replaced between tasks 2 times, which is no crash."),
    ("crash_recycled", "none crashed; 1 process was replaced between tasks (the first: it)",
     "none crashed; 2 processes were replaced between tasks (the first: it)"),
    ("stable_contradicted", "5 concurrent tasks passed in the ramp, but 1 task failed when a level of 4 was run again "
     "in loaded cycles", "5 concurrent tasks passed in the ramp, but 2 tasks failed when a level of 4 was run again in "
     "loaded cycles"),
    ("whole_minutes", "1 minute", "2 minutes"), ("hours", "1 hour", "2 hours")])
def test_words_bend_to_their_count(key: str, one: str, two: str) -> None:
    say = Words("en")
    for count, text in ((1, one), (2, two)):
        counted = dict.fromkeys(("count", "failed", "minutes", "hours"), count)
        assert say(key, **counted, roles="api", first="it", stable=5, at=4) == text


def test_no_english_sentence_has_a_count_that_may_be_one_before_a_fixed_plural() -> None:
    nouns = "results|lines|rows|readings|cycles|tasks|processes|samples|gaps|jobs|times"
    fixed = re.compile(r"(?<!of )\{(?!window|stable|knee|needed|enough|parallelism|rarest)\w+(?::,)?\} (?:\w+ )?"
                       rf"(?:{nouns})\b")  # never below 2: a window, levels, what the rule asks for; no counts: ratios
    assert {key: found.group(0) for key, (english, _) in WORDS.items() if (found := fixed.search(english))} == {}


def changed(results: Sequence[TaskResult], which: Callable[[TaskResult], object], **fields: Any) -> list[TaskResult]:
    return [dataclasses.replace(r, **fields) if which(r) else r for r in results]


def backend_leaks() -> list[TaskResult]:
    results = leak_phase(FLAT, [50.0 + 60 * n for n in range(12)])
    for result in results:
        result.memory["backend"] = result.memory.pop("api")
    return results


def held_after_the_ramp() -> list[TaskResult]:
    return leak_phase() + confirmed(*(level(size) for size in range(1, 5)), level(5, after=1600.0), after=1600.0)


def after_loaded_cycles(kept: float, cycles: int = 13) -> list[TaskResult]:
    """Memory held after the ramp, and rounds of five at once that keep so much more each."""
    return held_after_the_ramp() + loaded_phase([1600.0, 1600.0] + [1600.0 + kept * n for n in range(1, cycles + 1)])


def idle_worker(results: list[TaskResult]) -> list[TaskResult]:
    """As though another process did the work: the worker used no CPU."""
    for result in results:
        result.memory = {"worker": dataclasses.replace(result.memory["worker"], cpu_s=0.0, rest_cpu_percent=0.1)}
    return results


FIVE = [level(size) for size in range(1, 6)]
DEATHS = [Death("worker", 100, "rq", "2026-03-02T09:00:00.000")]
ADVISED: list[tuple[str, list[TaskResult]]] = [
    ("next_leak_go", backend_leaks()),
    ("next_leak_gpu", test_gpu.on_gpu(healthy(), test_gpu.rises(420.0))),
    ("next_leak", leak_phase(LEAKING) + ramp(*FIVE)),
    ("next_crash", leak_phase() + ramp(*FIVE, level(6, deaths=DEATHS), stop="worker_died")),
    ("next_loaded", after_loaded_cycles(60.0)),
    ("next_failed", changed(leak_phase(), lambda r: (r.cycle or 0) > 7, status="failed", error_kind="task_failed")),
    ("next_high_delta", with_long_delta(300.0)),
    ("next_concurrency", leak_phase() + ramp(level(1), level(2), level(3, failed=1), stop="failure")),
    ("next_slow_beside", changed(healthy(), lambda r: r.concurrency == 2, rtf=1.5, busiest_other=Busy(7, "gcc", 1.0))),
    ("next_slow", changed(healthy(), lambda r: r.concurrency == 2, rtf=1.5, busiest_other=Busy(7, "gcc", 0.2))),
    ("next_empty", changed(healthy(), lambda r: r.cycle == 3, empty_text=True)),
    ("next_ids", changed(healthy(), lambda r: r.cycle == 3, task_id="1")),
    ("next_failed", changed(healthy(), lambda r: r.cycle == 3, status="failed", error_kind="task_failed")),
    ("next_loaded_alone", held_after_the_ramp()),
    ("next_memory", leak_phase(FLAT[:5])[:-1] + changed(
        leak_phase(FLAT[:5])[-1:], lambda r: True, level=LevelFacts(stop_reason="memory_reserve"))),
    ("next_hosts", with_settings(changed(healthy(), lambda r: True, memory={}), no_watch=True)),
    ("next_whole", leak_phase()),
    ("next_watch", idle_worker(healthy())),
    ("next_unwatched", on_machine(healthy(), shared=STEADY)),
    ("next_rising", test_diagnosis.with_holdings(healthy(), lambda c: test_diagnosis.grown(c, threads=9 + 24 * c))),
    ("next_unsettled", changed(healthy(), lambda r: r.cycle, settled=False)),
    ("next_sampler_gap", changed(healthy(), lambda r: r.cycle == 3, sample_gap_s=12.0)),
    ("next_gap_unknown", changed(healthy(), lambda r: True, sample_gap_s=None)),
    ("next_cycles", leak_phase(FLAT[:7]) + ramp(*FIVE)),
    ("next_lower_start", leak_phase() + ramp(level(4, failed=1), stop="failure")),
    ("next_memory_reserve", leak_phase() + ramp(level(1), level(2), stop="memory_reserve")),
    ("next_rtf_limit", leak_phase() + ramp(level(1), level(2), stop="rtf_limit")),
    ("next_again", changed(healthy(), lambda r: r.concurrency == 5, memory={})),
    ("next_keep", healthy()),
]


@pytest.mark.parametrize(("key", "results"), ADVISED, ids=[key for key, _ in ADVISED])
def test_the_first_advice_that_holds_is_given(tmp_path: Path, key: str, results: list[TaskResult]) -> None:
    run = judged(tmp_path, results, csv=CSV_HEAD if key == "next_hosts" else None)
    assert advice(run) == key
    for language in LANGUAGES:
        assert "–" not in next_sentence(run, Words(language)), "all that the sentence names is known"


def test_advice_where_there_is_no_result_and_for_an_older_tools_record(tmp_path: Path) -> None:
    csv = tmp_path / "system_resources_20260302_090000.csv"
    csv.write_text(CSV_HEAD + sample_rows(range(9), ("rq", 100, 50.0)))
    assert advice(judge(read_run(csv, None))) == "next_results"
    csv.write_text(CSV_HEAD + "".join(sample_rows([second], ("rq", 100, 50.0 + second / 10)) for second in range(900)))
    assert advice(judge(read_run(csv, None))) == "next_recording_grew"
    old = tmp_path / "old.jsonl"
    old.write_text(json.dumps({"test_id": "a_c1_1", "timestamp": "2026-03-02T09:00:00", "audio_file": "a.wav",
                               "audio_size_mb": 1.0, "concurrency": 1, "status": "success"}) + "\n")
    assert advice(judge(read_run(old, None))) == "next_old"


def test_a_ramp_that_ends_before_its_first_level_says_why_and_what_helps(tmp_path: Path) -> None:
    run = judged(tmp_path, with_settings(ramp(level(1, 0), stop="memory_reserve"), phase="concurrency"))
    assert "memory reserve" in ramp_sentence(run, Words("en"))
    assert "before its first level" in ramp_sentence(run, Words("en"))
    assert advice(run) == "next_memory_reserve"


@pytest.mark.parametrize(("results", "phase"), [
    (with_settings(leak_phase(FLAT[:7]), phase="leak"), "leak"),
    (with_settings(changed(leak_phase(FLAT[:7]), lambda r: r.cycle == 0, concurrency=4), phase="leak"), "leak"),
    (with_settings(loaded_phase(FLAT[:7], 4), phase="loaded", at_once=4), "loaded --at-once 4")])
def test_the_cycles_to_run_on_with_are_those_of_the_run(tmp_path: Path, results: list[TaskResult], phase: str) -> None:
    run = judged(tmp_path, results)
    for language in LANGUAGES:
        assert f"--phase {phase} --min-cycles " in next_sentence(run, Words(language))


def test_the_cycles_to_run_on_with_are_those_of_the_run_and_not_of_its_warm_up(tmp_path: Path) -> None:
    results = [dataclasses.replace(r, concurrency=2) if r.cycle == 0 else r for r in leak_phase(FLAT[:7])]
    assert any(r.concurrency == 2 for r in results)  # as where there are two workers
    run = judged(tmp_path, with_settings(results, phase="leak"))
    assert "--phase leak --min-cycles " in next_sentence(run, Words("en"))


def test_the_cycles_to_run_on_with_are_enough_for_a_verdict(tmp_path: Path) -> None:
    run = judged(tmp_path, with_settings(leak_phase(FLAT[:2]), phase="leak", min_cycles=1, max_cycles=1))
    assert f"--max-cycles {WINDOW}" in next_sentence(run, Words("en"))


def test_every_row_of_the_advice_has_a_test() -> None:
    assert [key for _, key in ADVICE] == ["next_recording_grew", "next_results", *(key for key, _ in ADVISED[:3]),
                                          "next_old", *(key for key, _ in ADVISED[3:])]


def test_after_a_ramp_that_another_process_worked_for_that_process_is_looked_for(tmp_path: Path) -> None:
    levels = confirmed(*(level(size) for size in range(1, 6)))
    assert advice(judged(tmp_path, idle_worker(with_settings(levels, phase="concurrency")))) == "next_watch"


def test_roles_that_grow_slowly_are_said_with_what_they_take_together(tmp_path: Path) -> None:
    slow = [[700.0 + rate * n for n in range(-1, 14)] for rate in (4, 6)]
    run = judged(tmp_path, leak_phase(*slow))
    assert headline(run, Words("en")).startswith("Memory grows in the api, worker by 10.0 MB per cycle together, each")
    assert "with the worker, 10.0 MB per cycle: 1 GB lasts 102 cycles" in three_sentences(run, Words("en"))[0]
    one = judged(tmp_path, leak_phase(slow[0]))
    assert headline(one, Words("en")).startswith("Memory grows in the worker by 4.0 MB per cycle, under the tolerance")


def test_a_leak_comes_before_a_crash(tmp_path: Path) -> None:
    results = leak_phase(LEAKING) + ramp(level(1), level(2, deaths=DEATHS), stop="worker_died")
    assert advice(judged(tmp_path, results)) == "next_leak"


@pytest.mark.parametrize(("seconds_at", "says"), [
    (lambda n: 2.0 * n, "together_not"), (lambda n: 2.0, "together_yes"),
    (lambda n: 1.0 * max(2, n), "together_waits")])
def test_stable_levels_are_put_in_words_that_tell_a_queue_from_concurrency(
    tmp_path: Path, seconds_at: Callable[[int], float], says: str
) -> None:
    levels = [*((n, 1) for n in range(1, 9)), (8, 2), (8, 3)]
    run = judged(tmp_path, ramp(*(level(n, number, processing_time=seconds_at(n)) for n, number in levels)))
    said = ramp_sentence(run, Words("en"))
    begin = WORDS[says][0].partition("{")[0]
    assert begin in said
    assert ("one after another" in headline(run, Words("en"))) == (says == "together_not")


@pytest.mark.parametrize(("last", "english", "chinese"), [
    (lambda: level(3, failed=1), "connection refused (submit_refused); task: short_c3_0004; observed: queue is full; "
     "limit: –", "连接被拒绝（submit_refused）；任务：short_c3_0004；观测到：queue is full；限值：–"),
    (lambda: level(3, lines=2), "results missing (incomplete); task: –; observed: 2 lines; limit: 3 lines",
     "结果不完整（incomplete）；任务：–；观测到：2 行；限值：3 行"),
    (lambda: level(3, deaths=[Death("api", 7, "a (b)", moment(0))], facts={"oom_kills": 1}),
     "service process crashed (process_died); task: –; observed: api process 7 (a (b)) ended (the kernel ended 1 for "
     "lack of memory meanwhile); limit: –",
     "服务进程崩溃（process_died）；任务：–；观测到：api 进程 7（a (b)）退出（期间内核因内存不足杀掉 1 个进程）；"
     "限值：–"),
])
def test_a_breach_is_said_in_words_of_the_report(
    tmp_path: Path, last: Callable[[], list[TaskResult]], english: str, chinese: str
) -> None:
    run = judged(tmp_path, ramp(level(1), level(2), last(), stop="failure"))
    for language, words in zip(LANGUAGES, (english, chinese), strict=True):
        assert any(words in line for line in markdown.ramp_lines(run.ramp, Words(language)))


def test_deaths_are_said_in_words_of_the_report(tmp_path: Path) -> None:
    deaths = [Death("worker", 100, "rq", moment(0)), Death("api", 200, "uvicorn", moment(1))]
    run = judged(tmp_path, ramp(level(1), level(2, deaths=deaths), stop="worker_died"))
    english, chinese = (Words(language).note(run.criteria[4].text) for language in LANGUAGES)
    assert english == "2 in all: worker process 100 (rq) ended; api process 200 (uvicorn) ended"
    assert chinese == "共 2 次：worker 进程 100（rq）退出；api 进程 200（uvicorn）退出"


def test_failed_tasks_of_the_leak_phase_stand_on_the_first_screen(tmp_path: Path) -> None:
    results = healthy()
    for result in results[3:22:2]:
        result.status, result.error_kind, result.error = "failed", "task_failed", "CUDA out of memory"
    run, say = judged(tmp_path, results), Words("en")
    assert "10 of 22 tasks of the leak phase failed" in headline(run, say)
    assert "Nothing failed" not in headline(run, say)
    assert "see why tasks of the leak phase fail" in next_sentence(run, say)


def loaded_alone(**failed: Any) -> list[TaskResult]:
    rounds = loaded_phase(FLAT[:2] + [700.0] * 14)
    return with_settings(changed(rounds, lambda r: r.cycle == 2, **failed), phase="loaded", at_once=5)


def test_loaded_cycles_alone_that_pass_leave_nothing_open(tmp_path: Path) -> None:
    run = judged(tmp_path, loaded_alone())
    assert run.verdict == "pass"
    for language, words in zip(LANGUAGES, ("Memory: no leak found in worker.", "未发现泄漏"), strict=True):
        assert words in three_sentences(run, Words(language))[0]


def test_failed_tasks_of_loaded_cycles_stand_on_the_first_screen(tmp_path: Path) -> None:
    run, say = judged(tmp_path, loaded_alone(status="failed", error_kind="task_failed")), Words("en")
    assert "5 of 75 tasks of the loaded cycles failed" in headline(run, say)
    assert "see why tasks of the loaded cycles fail" in next_sentence(run, say)


def test_a_role_that_was_never_read_is_not_run_on_with(tmp_path: Path) -> None:
    results = [dataclasses.replace(r, memory={"api": r.memory["worker"]}) for r in healthy()]
    assert advice(judged(tmp_path, results)) == "next_watch"


def test_what_crashed_stands_on_the_first_screen(tmp_path: Path) -> None:
    run = judged(tmp_path, changed(healthy(), lambda r: r.cycle == 5, deaths=[
        dataclasses.replace(DEATHS[0], left_work=True)]))
    assert "worker process 100 (rq) ended" in three_sentences(run, Words("en"))[0]
