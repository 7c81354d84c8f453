"""What a pass takes beside criteria that are met: signs of work, the whole run, memory that loaded cycles cleared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import ProcessMemory, RoleMemory, TaskResult
from stress_report.findings import Knee, Note
from stress_report.judging import Judged, judge
from stress_report.recording import read_run
from stress_report.saying import Words, headline, memory_sentence, next_sentence, ramp_sentence, three_sentences
from stress_report.summary import summary
from unit.reader_runs import (
    BORN,
    CSV_HEAD,
    FLAT,
    confirmed,
    healthy,
    judged,
    leak_phase,
    level,
    loaded_phase,
    memory,
    moment,
    ramp,
    record,
    sample_rows,
    statuses,
    with_long_delta,
    with_settings,
)

Make = Callable[[], list[TaskResult]]
SAY = Words("en")
FIVE = [level(size) for size in range(1, 6)]


def changed(results: Sequence[TaskResult], which: Callable[[TaskResult], object], **fields: Any) -> list[TaskResult]:
    return [dataclasses.replace(r, **fields) if which(r) else r for r in results]


def held_by(role: str, after: float, results: list[TaskResult]) -> list[TaskResult]:
    """The last batch leaves a role, which held 50 MB (700 if it is the worker), with so much."""
    before = 700.0 if role == "worker" else 50.0
    for result in results:
        here = after if result.level_run == 3 and result.phase == "concurrency" else before
        result.memory = result.memory | {role: memory(before, here, 100 if role == "worker" else 200)}
    return results


def after_ramp(loaded: Sequence[float], role: str = "worker", grows: str = "worker") -> list[TaskResult]:
    """A role holds 950 MB more after the ramp; then rounds of five at once with these readings of a role."""
    before = {"worker": 700.0, "api": 50.0}
    lines = held_by(role, before[role] + 950, held_by("api", 50.0, leak_phase() + confirmed(*FIVE)))
    for result in rounds(loaded):
        roles = {name: memory(mb + 950 * (name == role), mb + 950 * (name == role), 100 if name == "worker" else 200)
                 for name, mb in before.items()}
        result.memory = roles | {grows: dataclasses.replace(
            result.memory["worker"], processes=[dataclasses.replace(p, pid=roles[grows].processes[0].pid)
                                                for p in result.memory["worker"].processes])}
        lines.append(result)
    return lines


def rounds(readings: Sequence[float]) -> list[TaskResult]:
    return loaded_phase([readings[0], *readings])


def mapped(end: float, private: float) -> list[TaskResult]:
    """RSS and private memory of the worker above first use at the end of the leak phase."""
    results = healthy()
    for result in (r for r in results if r.cycle):
        result.worker_rss_after_mb = 700.0 + end
        result.memory = {"worker": dataclasses.replace(result.memory["worker"], private_after_mb=700.0 + private)}
    return results


def failing(*cycles: int, kind: str = "task_failed", phase: str = "leak") -> list[TaskResult]:
    """A phase of ten cycles alone, in these of which every task failed."""
    made = leak_phase() if phase == "leak" else loaded_phase(FLAT)
    return with_settings(changed(made, lambda r: r.cycle in cycles, status="failed", error_kind=kind), phase=phase)


def ramp_alone(after: Sequence[float], warm_up: float | None = None) -> list[TaskResult]:
    """A ramp alone; what the worker held, at rest, after each of its last runs, and after a warm-up task."""
    first = changed(level(1, 0, after=warm_up or 700.0), lambda r: True)
    held = warm_up or 700.0
    runs = [level(1), level(2), level(3), level(4, 1), level(4, 2), level(4, 3)]
    lines = []
    for results, mb in zip(runs, [held] * (len(runs) - len(after)) + list(after), strict=True):
        lines.append([dataclasses.replace(r, memory={"worker": memory(held, mb)}) for r in results])
        held = mb
    return with_settings((first if warm_up else []) + ramp(*lines), phase="concurrency")


def slow_polls(taken: float, error: float) -> list[TaskResult]:
    return confirmed(*(level(n, processing_time=taken, time_error=error) for n in range(1, 6)))


# name, run, how it is written; the criterion or "verdict" it decides and what that is; the key and some of the words
ROWS: list[tuple[str, Make, dict[str, Any], str, str, str, str]] = [
    ("done without a text", lambda: changed(healthy(), lambda r: r.cycle == 3, empty_text=None), {}, "verdict",
     "inconclusive", "no_text", "2 tasks were done, but the answer contained no text"),
    ("one id for several", lambda: changed(healthy(), lambda r: r.concurrency == 5, task_id="7"), {}, "verdict",
     "inconclusive", "same_ids", "15 submissions share their task ids with others"),
    ("settings that cannot be", lambda: with_settings(healthy(), tolerance_mb=-1.0, phase="x"), {}, "verdict",
     "inconclusive", "cut_settings", "(--phase, --tolerance-mb)"),
    ("no end", healthy, {"ended": False}, "verdict", "inconclusive", "cut_end", "does not contain the end of the run"),
    ("highest level not confirmed", lambda: leak_phase() + ramp(*FIVE), {}, "min_concurrency", "inconclusive",
     "stable_provisional", "5 concurrent tasks look stable, but the confirmation runs are not in the record"),
    ("confirmed once", lambda: leak_phase() + ramp(*FIVE, level(5, 2)), {}, "min_concurrency", "inconclusive",
     "stable_provisional", "look stable"),
    ("failing level run once", lambda: leak_phase() + ramp(
        level(1), level(2), level(3), level(4, failed=1), level(3, 2), level(3, 3), stop="failure"), {},
     "min_concurrency", "inconclusive", "stable_provisional", "and one more of the level that failed"),
    ("failed in loaded cycles", lambda: leak_phase() + confirmed(*FIVE) + changed(
        loaded_phase(FLAT), lambda r: r.cycle == 2, status="failed", error_kind="task_failed"), {}, "min_concurrency",
     "inconclusive", "stable_contradicted", "5 tasks failed when a level of 5 was run again in loaded cycles"),
    ("high water", lambda: after_ramp([1650.0] * 13), {}, "return_to_baseline", "pass", "baseline_high_water",
     "the high-water mark of many concurrent tasks, which stayed but did not grow in 12 more rounds of 5"),
    ("high water of the api", lambda: after_ramp([700.0] * 13, "api"), {}, "return_to_baseline", "pass",
     "baseline_high_water", "+950.0 MB in the api after the ramp"),
    ("leak under load", lambda: after_ramp([1650.0 + 310 * n for n in range(14)]), {}, "return_to_baseline", "fail",
     "baseline_loaded_leak", "the worker leaks under load: 310.0 MB per round of 5 concurrent tasks"),
    ("leak under load of another role", lambda: after_ramp([50.0 + 310 * n for n in range(14)], "worker", "api"), {},
     "return_to_baseline", "fail", "baseline_loaded_leak", "the api leaks under load"),
    ("too few loaded cycles", lambda: after_ramp([1650.0] * 5), {}, "return_to_baseline", "inconclusive",
     "baseline_loaded_open", "4 more rounds of 5 concurrent tasks do not decide"),
    ("no loaded cycles", lambda: held_by("worker", 1650.0, leak_phase() + confirmed(*FIVE)), {}, "return_to_baseline",
     "inconclusive", "baseline_ramp", "+950.0 MB in the worker after the ramp"),
    ("mapped files after long tasks", lambda: with_long_delta(300.0, private=5.0), {}, "long_audio_delta", "pass",
     "delta_mapped", "+300.0 MB of RSS in the worker after a task on long.wav, but only +5.0 MB of private memory"),
    ("private memory after long tasks", lambda: with_long_delta(300.0, private=250.0), {}, "long_audio_delta", "fail",
     "delta_text", "poor"),
    ("mapped files at the end", lambda: mapped(600.0, 7.0), {}, "return_to_baseline", "pass", "baseline_mapped",
     "+600.0 MB of RSS in the worker at the end of the leak phase, but only +7.0 MB of private memory"),
    ("private memory at the end", lambda: mapped(600.0, 300.0), {}, "return_to_baseline", "fail", "baseline_text_ramp",
     "+600.0 MB"),
    ("every task fails", lambda: failing(*range(11)), {}, "long_audio_delta", "fail", "delta_gave_up",
     "no task succeeded any more: the last 6 ones failed (task_failed)"),
    ("the last cycles fail", lambda: failing(8, 9, 10), {}, "long_audio_delta", "fail", "delta_gave_up", "6 ones"),
    ("two cycles fail at the end", lambda: failing(9, 10), {}, "long_audio_delta", "pass", "delta_text", "good"),
    ("the tool fails", lambda: failing(8, 9, 10, kind="tool_fault"), {}, "long_audio_delta", "pass", "delta_text", ""),
    ("every loaded task fails", lambda: failing(*range(11), phase="loaded"), {}, "long_audio_delta", "fail",
     "delta_gave_up", "the last 15 ones failed"),
    ("ramp alone: gigabytes", lambda: ramp_alone([1650.0]), {}, "verdict", "inconclusive", "ramp_memory",
     "The worker held 1,650 MB when idle after the ramp, compared with 700 before"),
    ("ramp alone: growth in repeats", lambda: ramp_alone([1000.0, 1300.0, 1600.0]), {}, "verdict", "inconclusive",
     "ramp_memory_grows", "each repeat of 4 concurrent tasks added more (700, 1,000, 1,300, 1,600 MB)"),
]


@pytest.mark.parametrize(
    ("make", "how", "what", "expected", "key", "words"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_what_a_pass_takes(
    tmp_path: Path, make: Make, how: dict[str, Any], what: str, expected: str, key: str, words: str
) -> None:
    run = judged(tmp_path, make(), **how)
    assert (statuses(run) | {"verdict": run.verdict})[what] == expected
    notes = [run.cut_short] if what == "verdict" else [c.text for c in run.criteria if c.id == what]
    assert [note and note.key for note in notes] == [key]
    said = " ".join([headline(run, SAY), *three_sentences(run, SAY), *(SAY.note(c.text) for c in run.criteria)])
    assert words in said
    json_text = summary(run, SAY)
    assert json_text["verdict"] == run.verdict


@pytest.mark.parametrize("make", [
    healthy, lambda: changed(healthy(), lambda r: True, task_id=None),
    lambda: with_settings(confirmed(*FIVE), phase="concurrency"),
    lambda: leak_phase() + confirmed(level(1), level(2), level(3), level(4, failed=1), stop="failure"),
    lambda: after_ramp([1650.0] * 13), lambda: with_long_delta(300.0, private=5.0), lambda: mapped(600.0, 7.0),
    lambda: ramp_alone([740.0]), lambda: ramp_alone([3100.0], warm_up=3050.0)])
def test_what_is_whole_and_shows_work_passes(tmp_path: Path, make: Make) -> None:
    assert judged(tmp_path, make()).verdict == "pass"


def some_nameless(folder: Path) -> Judged:
    path = record(folder, healthy())
    path.write_text(path.read_text().replace('"task_id": "id-9"', '"task_id": null'))
    return judge(read_run(path, None))


def test_a_task_without_an_id_among_others_that_have_one_proves_nothing(tmp_path: Path) -> None:
    run = some_nameless(tmp_path)
    assert (run.verdict, run.cut_short) == ("inconclusive", Note("no_ids", {"count": 1}))
    assert "task ids" not in headline(run, SAY)
    assert "1 task was done without a task id, though others have one" in headline(run, SAY)


def test_a_run_whose_processes_were_recorded_was_watched(tmp_path: Path) -> None:
    assert judged(tmp_path, with_settings(leak_phase(), no_watch=True)).run.watched


IMPOSSIBLE: list[tuple[str, Any]] = [
    *((name, value) for name in ("processing_time", "audio_seconds") for value in (None, 0, 0.0, -1, -0.5)),
    *((name, value) for name in ("rtf", "worker_rss_before_mb", "worker_rss_after_mb", "worker_rss_peak_mb")
      for value in (0, 0.0, -1)), ("settled", None)]


@pytest.mark.parametrize(("field", "value"), IMPOSSIBLE)
def test_a_value_that_cannot_be_costs_its_line_and_the_pass(tmp_path: Path, field: str, value: Any) -> None:
    results = healthy()
    setattr(results[-1], field, value)
    run = judged(tmp_path, results)
    assert (run.run.skipped.total(), run.verdict) == (1, "inconclusive")


@pytest.mark.parametrize("field", ["before_mb", "after_mb", "peak_mb", "private_before_mb", "private_after_mb"])
@pytest.mark.parametrize("value", [0, 0.0, -3])
def test_memory_of_nothing_is_no_reading(tmp_path: Path, field: str, value: Any) -> None:
    results = healthy()
    results[9].memory = {"worker": dataclasses.replace(results[9].memory["worker"], **{field: value})}
    run = judged(tmp_path, results)
    assert (run.run.skipped, run.verdict) == ({Note("skip_impossible", {"name": field}): 1}, "inconclusive")


def test_a_failed_task_needs_no_times(tmp_path: Path) -> None:
    lines = leak_phase() + confirmed(level(1), level(2), level(3), level(4, failed=1), stop="failure")
    run = judged(tmp_path, changed(lines, lambda r: r.status == "failed", processing_time=None))
    assert (run.run.skipped.total(), run.verdict) == (0, "pass")


@pytest.mark.parametrize(("name", "says", "never"), [
    ("highest level not confirmed", "5 concurrent tasks look stable, which is not confirmed", "handles"),
    ("failed in loaded cycles", "Concurrency: 5 concurrent tasks passed in the ramp, but 5 tasks failed", "handles"),
    ("mapped files after long tasks", "growth per long task: +300.0 MB of RSS", "leaks"),
    ("mapped files at the end", "growth since first use: +600.0 MB of RSS", "leaks"),
    ("high water of the api", "growth since first use: +950.0 MB in the api after the ramp", "leaks")])
def test_the_first_screen_does_not_contradict_its_criteria(tmp_path: Path, name: str, says: str, never: str) -> None:
    _, make, how, *_ = next(row for row in ROWS if row[0] == name)
    run = judged(tmp_path, make(), **how)
    screen = " ".join([headline(run, SAY), *three_sentences(run, SAY)])
    assert says in screen
    assert never not in screen


# ----------------------------------------------------------------------------------------------- loaded cycles alone


@pytest.mark.parametrize(("readings", "verdict", "lead"), [
    ([700.0] * 13, "pass", "No memory leak was found."),
    ([700.0 + 60 * n for n in range(14)], "fail", "Memory leaks under load in the worker."),
    ([700.0] * 5, "inconclusive", "Whether memory leaks is not decided.")])
def test_loaded_cycles_alone_are_judged(tmp_path: Path, readings: list[float], verdict: str, lead: str) -> None:
    run = judged(tmp_path, with_settings(rounds(readings), phase="loaded"))
    assert run.verdict == verdict
    assert headline(run, SAY).startswith(lead)


# --------------------------------------------------------------------------------------------------------- a slow page


@pytest.mark.parametrize(("taken", "error", "knee", "parallelism", "says"), [
    (1.2, 1.1, Knee(None, "slow_polls"), None, "The result page takes up to 1.0 s to answer"),
    (2.0, 0.35, Knee(4, "found"), 5.0, "run in parallel"), (2.0, 0.1, Knee(5, "found"), 5.0, "run in parallel")])
def test_a_slow_result_page_is_a_finding_of_its_own(
    tmp_path: Path, taken: float, error: float, knee: Knee, parallelism: float | None, says: str
) -> None:
    run = judged(tmp_path, leak_phase() + slow_polls(taken, error))
    assert (run.ramp.knee, run.ramp.effective_parallelism) == (knee, parallelism)
    assert says in ramp_sentence(run, SAY)
    assert run.ramp.poll_error == pytest.approx(error / taken)


def test_a_ramp_of_which_the_page_hides_the_rest_is_judged_all_the_same(tmp_path: Path) -> None:
    assert judged(tmp_path, leak_phase() + slow_polls(1.2, 1.1)).verdict == "pass"


# ------------------------------------------------------------------------------------- small growth, rates, the process


def test_small_growth_is_on_the_first_screen_in_numbers(tmp_path: Path) -> None:
    lines = leak_phase([700.0 + 4 * n for n in range(-1, 14)]) + confirmed(*FIVE)
    run = judged(tmp_path, lines)
    assert run.verdict == "pass"
    assert headline(run, SAY).startswith("Memory grows in the worker by 4.0 MB per cycle, under the tolerance")
    said = memory_sentence(run, SAY)
    assert "grows by 4.0 MB per cycle, surely more than" in said
    assert "under the tolerance of 10; 1 GB of free memory lasts 256 cycles; that is 4 hours under this load" in said
    assert "no leak found" not in said


def with_drift(mb_in_two_seconds: float) -> list[TaskResult]:
    """60 MB per cycle of 60 s, of which so much in two seconds without a task."""
    lines = leak_phase([300.0, 700.0] + [700.0 + 60 * n for n in range(1, 14)])
    for result in lines:
        result.memory = {"worker": dataclasses.replace(result.memory["worker"], drift_mb=mb_in_two_seconds)}
    return lines


@pytest.mark.parametrize(("drift", "share"), [(2.0, 1.0), (1.0, 0.5), (0.0, 0.0), (-1.0, 0.0)])
def test_growth_by_the_clock_is_told_from_that_of_tasks(tmp_path: Path, drift: float, share: float) -> None:
    rates = judged(tmp_path, with_drift(drift)).roles["worker"].rates
    assert rates is not None
    assert rates.idle_share == pytest.approx(share)
    assert [rates.per_cycle, rates.per_task, rates.per_hour] == [
        pytest.approx(60), pytest.approx(30), pytest.approx(3600)]


def test_the_process_that_grew_is_named(tmp_path: Path) -> None:
    lines = leak_phase([300.0, 700.0] + [700.0 + 60 * n for n in range(1, 14)])
    for result in lines:
        worker = result.memory["worker"]
        grows = dataclasses.replace(worker.processes[0], pid=77, held_mb=(worker.after_mb or 0) - 500)
        calm = dataclasses.replace(worker.processes[0], pid=76, held_mb=500.0)
        result.memory = {"worker": dataclasses.replace(worker, processes=[calm, grows])}
    run = judged(tmp_path, lines)
    assert (run.roles["worker"].pid, summary(run, SAY)["leak"]["worker"]["pid"]) == (77, 77)
    assert judged(tmp_path, healthy()).roles["worker"].pid is None


# --------------------------------------------------------------------------------------------------------- a ramp alone


def test_a_ramp_alone_says_what_memory_did(tmp_path: Path) -> None:
    said = memory_sentence(judged(tmp_path, ramp_alone([740.0])), SAY)
    assert "when idle the worker held 700 MB before the ramp and 740 MB after it" in said
    after_warm_up = memory_sentence(judged(tmp_path, ramp_alone([3100.0], warm_up=3050.0)), SAY)
    assert "held 3,050 MB before the ramp and 3,100 MB after it" in after_warm_up
    assert "--phase loaded --at-once 4" in next_sentence(judged(tmp_path, ramp_alone([1650.0])), SAY)


# --------------------------------------------------------------------------------------- recycled between tasks


def recycled(kept: float, *, every: int = 4, crash_at: int | None = None) -> list[TaskResult]:
    """A leak phase alone whose worker loads 200 MB, keeps so much per task, and is replaced after so many tasks."""
    results = leak_phase([300.0, 700.0] + [700.0] * 20)
    for place, result in enumerate(results):
        life, age = divmod(place, every)
        held = 230.0 + kept * (age + 1)
        before = 30.0 if age == 0 else held - kept
        one = ProcessMemory(100 + life, BORN, "rq", held, age == every - 1, resident=True, root=True, held_mb=held)
        next_one = ProcessMemory(101 + life, BORN, "rq", 30.0, False, root=True, held_mb=30.0)
        after = 30.0 if one.ended else held
        processes = [one, next_one] if one.ended else [one]
        result.memory = {"worker": RoleMemory(before, after, before, after, held, processes)}
        result.worker_rss_before_mb, result.worker_rss_after_mb = before, after
        result.worker_rss_delta_mb = after - before
    if crash_at is not None:
        results[crash_at].status, results[crash_at].error_kind = "failed", "task_failed"
    return with_settings([dataclasses.replace(r, schema=1) for r in results], phase="leak")


@pytest.mark.parametrize(("kept", "verdict", "reason"), [(100.0, "LEAK", "recycled_leak"),
                                                         (0.0, "NO LEAK", "recycled_calm")])
def test_recycling_is_no_crash_and_growth_is_that_within_lives(
    tmp_path: Path, kept: float, verdict: str, reason: str
) -> None:
    run = judged(tmp_path, recycled(kept))
    growth = run.roles["worker"].growth
    assert (growth.verdict, growth.reason, len(run.crashes)) == (verdict, reason, 0)
    assert (statuses(run)["no_worker_crash"], statuses(run)["return_to_baseline"]) == (
        "pass", "fail" if kept == 100.0 and growth.facts["contained"] >= 200 else "pass")
    assert statuses(run)["no_cumulative_growth"] == ("fail" if kept else "pass")
    assert f"replaced in {growth.facts['times']} cycles" in memory_sentence(run, SAY)
    delta = next(c for c in run.criteria if c.id == "long_audio_delta")
    assert delta.observed is None or delta.observed == kept, "no delta spans a replacement"


def test_recycling_is_on_the_first_screen_once(tmp_path: Path) -> None:
    sentence = "were replaced between tasks"
    lines = leak_phase([300.0, 700.0] + [700.0] * 12, [50.0 + 60 * n for n in range(14)])
    for result in lines[20:]:
        result.memory = result.memory | {"worker": memory(700.0, 700.0, pid=101)}
    said = three_sentences(judged(tmp_path, lines), SAY)[0]
    assert "the api leaks" in said
    assert said.endswith("Processes of the worker were replaced between tasks 1 time, which is no crash.")
    assert sentence not in three_sentences(judged(tmp_path, recycled(100.0)), SAY)[0], "its reason says it"
    assert sentence not in three_sentences(judged(tmp_path, healthy()), SAY)[0]


def test_a_worker_that_ends_with_its_task_unfinished_crashed(tmp_path: Path) -> None:
    run = judged(tmp_path, recycled(0.0, crash_at=3))
    assert statuses(run)["no_worker_crash"] == "fail"


# ------------------------------------------------------------------------ CPU where only the CSV tells of it (schema 1)


def cpu_rows(busy: float, rest: float) -> str:
    """CPU percent of the worker while tasks ran and in between: a task of 2 or 10 s ends every 30 s."""
    lengths = {15 + 30 * n: (2, 10)[n % 2] for n in range(22)}
    at_work = {second for end, length in lengths.items() for second in range(end - length + 1, end + 1)}
    return CSV_HEAD + "".join(sample_rows([second], ("rq", 100, 700.0), cpu=busy if second in at_work else rest)
                              for second in range(700))


@pytest.mark.parametrize(("busy", "rest", "verdict"), [
    (50.0, 0.2, "NO LEAK"), (1.2, 0.2, "NO LEAK"), (0.2, 0.2, "NOT MEASURED"), (0.0, 0.0, "NOT MEASURED"),
    (0.0, 3.0, "NOT MEASURED")])
def test_a_csv_shows_that_a_role_did_not_work(tmp_path: Path, busy: float, rest: float, verdict: str) -> None:
    lines = with_settings([dataclasses.replace(r, schema=1) for r in leak_phase()], phase="leak")
    run = judged(tmp_path, lines, csv=cpu_rows(busy, rest))
    assert run.roles["worker"].growth.verdict == verdict
    assert (run.verdict == "pass") is (verdict == "NO LEAK")


def test_a_csv_does_not_accuse_a_worker_that_forks(tmp_path: Path) -> None:
    lines = [dataclasses.replace(r, schema=1) for r in leak_phase()]
    forks = [dataclasses.replace(r, memory={"worker": dataclasses.replace(r.memory["worker"], processes=[
        *r.memory["worker"].processes, ProcessMemory(500 + n, BORN, "rq", 900.0, True)])}) for n, r in enumerate(lines)]
    path = record(tmp_path, with_settings(forks, phase="leak"), csv=cpu_rows(0.2, 0.2))
    assert judge(read_run(path, None)).roles["worker"].growth.reason != "no_work"


@pytest.mark.parametrize(("busy", "accused"), [(2.0, False), (0.2, True)])
def test_work_that_goes_on_after_a_task_that_failed_is_no_rest(tmp_path: Path, busy: float, accused: bool) -> None:
    lines = [dataclasses.replace(r, schema=1) for r in leak_phase()]
    fails = changed(lines, lambda r: r.cycle == 1, status="failed", error_kind="task_failed")
    seconds = {moment(second): second for second in range(700)}
    rows = [row if not 75 < seconds.get(row[:23], 0) < 120 else row.replace(",0.2,700.0", ",90.0,700.0")
            for row in cpu_rows(busy, 0.2).splitlines(keepends=True)]
    path = record(tmp_path, with_settings(fails, phase="leak"), csv="".join(rows))
    assert (judge(read_run(path, None)).roles["worker"].growth.reason == "no_work") is accused
