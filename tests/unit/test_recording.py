"""A recorded run from its files: what stands there after a test that ended well, and after one that did not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import Death, LevelFacts, ResultLog, TaskResult
from stress_report import findings, recording
from stress_report.findings import Note
from stress_report.judging import judge
from stress_report.recording import OF_A_BATCH, RecordedRun, read_run
from stress_report.saying import Words, next_sentence
from stress_report.summary import summary
from stress_report.words import LANGUAGES
from unit.reader_checks import report_of
from unit.reader_runs import (
    CSV_HEAD,
    healthy,
    leak_phase,
    level,
    memory,
    moment,
    numbered,
    ramp,
    record,
    sample_rows,
)

NAME = "memory_leak_stress_test_20260302_090000.jsonl"
BLANK = TaskResult("", "leak", "", "", None, None, 1, "success")
LAST = "short_c5_0047"  # the last result of healthy(): the fifth of five tasks at once, run for the third time


def as_written(results: Sequence[TaskResult], *, ended: bool = True) -> list[str]:
    """The lines of schema 2: what is known of a batch stands in its last line, settings and host in the first."""
    results = numbered(results)
    results[-1].end = ended
    last = {result.batch: result.test_id for result in results}
    lines = []
    for number, result in enumerate(results):
        hidden: dict[str, Any] = {} if number == 0 else {"settings": {}, "host": {}}
        if last[result.batch] != result.test_id:
            hidden |= {name: getattr(BLANK, name) for name in OF_A_BATCH}
        lines.append(dataclasses.replace(result, **hidden).to_json() + "\n")
    return lines


def read(folder: Path, text: str, pending: str | None = None) -> RecordedRun:
    path = folder / NAME
    path.write_text(text, encoding="utf-8")
    if pending is not None:
        path.with_suffix(".pending.json").write_text(pending, encoding="utf-8")
    return read_run(path, None)


def keys(run: RecordedRun) -> list[str]:
    return [note.key for note in run.notes if note.key != "csv_missing"]


def test_every_task_of_a_batch_gets_what_its_last_line_knows(tmp_path: Path) -> None:
    whole = numbered(healthy())
    whole[-1].end = True
    run = read(tmp_path, "".join(as_written(healthy())))
    assert run.results == whole
    assert (run.lost, keys(run), run.schema) == (0, [], 2)


def test_settings_and_host_hold_until_they_change(tmp_path: Path) -> None:
    lines = as_written(healthy())
    changed = json.loads(lines[5]) | {"host": {"name": "other"}}
    run = read(tmp_path, "".join([*lines[:5], json.dumps(changed) + "\n", *lines[6:]]))
    assert [r.host["name"] for r in run.results[3:8]] == ["h", "h", "other", "other", "other"]
    assert {r.settings["phase"] for r in run.results} == {"all"}


def test_a_batch_whose_last_line_is_lost_has_no_memory_and_no_facts(tmp_path: Path) -> None:
    run = read(tmp_path, "".join(as_written(healthy())[:-1]))
    four = [r for r in run.results if r.concurrency == 5 and r.level_run == 3]
    assert [(r.memory, r.settled, r.level) for r in four] == [({}, None, None)] * 4
    assert "inconclusive" in {c.status for c in judge(run).criteria if c.id == "no_worker_crash"}


def test_where_the_first_line_is_lost_it_is_said_that_the_settings_are(tmp_path: Path) -> None:
    assert keys(read(tmp_path, "".join(as_written(healthy())[1:]))) == ["settings_lost"]


@pytest.mark.parametrize(("end", "schema", "ended"), [(True, 2, True), (False, 2, False), (True, 1, None)])
def test_the_last_line_tells_whether_the_run_reached_its_end(
    tmp_path: Path, end: bool, schema: int, ended: bool | None
) -> None:
    lines = as_written([dataclasses.replace(result, schema=schema) for result in healthy()], ended=end)
    assert read(tmp_path, "".join(lines)).ended is ended


def held(**changes: Any) -> str:
    """The pending result: that of the last line, as it is before memory is at rest."""
    content = json.loads(COMPLETE)
    return json.dumps(content | {name: getattr(BLANK, name) for name in OF_A_BATCH} | changes) + "\n"


LINES = as_written(healthy())
COMPLETE = as_written(healthy(), ended=False)[-1]  # pending with memory at rest: that the run ends is written later
CRASHES: list[tuple[str, str, str | None, int, int, list[str]]] = [
    # when it was killed; JSONL; pending; results, lost, notes
    ("before an outcome was written", "".join(LINES[:-2]), None, 45, 0, []),
    ("while a line was written", "".join(LINES[:-1]) + LINES[-1][:300], None, 46, 1, []),
    ("pending whole, its line not begun", "".join(LINES[:-1]), held(), 47, 0, ["pending_unsettled"]),
    ("pending complete, its line not begun", "".join(LINES[:-1]), COMPLETE, 47, 0, ["pending_joined"]),
    ("pending whole, its line torn", "".join(LINES[:-1]) + LINES[-1][:300], COMPLETE, 47, 0, ["pending_joined"]),
    ("pending whole, its line torn in its first letters", "".join(LINES[:-1]) + LINES[-1][:9], COMPLETE, 47, 0,
     ["pending_joined"]),
    ("both whole", "".join(LINES), held(), 47, 0, []),
    ("pending torn", "".join(LINES[:-1]), COMPLETE[:200], 46, 1, ["pending_unreadable"]),
    ("disk full: cut back to the last whole line", "".join(LINES[:-3]), held(), 45, 2, ["pending_unsettled"]),
    ("a torn line that is not the pending one", "".join(LINES[:-2]) + LINES[-2][:300], COMPLETE, 46, 1,
     ["pending_joined"]),
]


@pytest.mark.parametrize(("text", "pending", "results", "lost", "notes"), [
    pytest.param(*row[1:], id=row[0]) for row in CRASHES])
def test_a_killed_test_is_read_back_as_far_as_it_got(
    tmp_path: Path, text: str, pending: str | None, results: int, lost: int, notes: list[str]
) -> None:
    run = read(tmp_path, text, pending)
    assert (len(run.results), run.lost, keys(run)) == (results, lost, notes)
    assert [r.test_id for r in run.results] == [r.test_id for r in numbered(healthy())][:results] or lost
    last = [r for r in run.results if r.concurrency == 5 and r.level_run == 3]
    known = last[-1].test_id == LAST and "pending_unsettled" not in notes
    assert all(bool(r.memory) is known for r in last), "the memory of its batch is there, or missing for all of it"
    judged = judge(run)
    assert (judged.verdict == "pass") is (text == "".join(LINES)), "what was killed is not the whole run"
    for language in ("en", "zh-CN"):
        say = Words(language)
        assert all(NAME.replace(".jsonl", ".pending.json") in say.note(note) for note in run.notes
                   if note.key.startswith("pending"))
        assert next_sentence(judged, say)


def test_a_level_with_fewer_lines_than_tasks_is_incomplete(tmp_path: Path) -> None:
    judged = judge(read(tmp_path, "".join(LINES[:-2])))
    assert [(v.concurrency, v.complete, v.stable) for v in judged.ramp.levels][-1] == (5, False, False)


def test_what_the_log_of_the_instrument_writes_is_read_back(tmp_path: Path) -> None:
    log, whole = ResultLog(tmp_path / NAME), numbered(healthy())
    last = {result.batch: result for result in whole}
    for result in whole:
        if result is last[result.batch]:
            log.hold(result)
            log.release(end=result is whole[-1])
        else:
            log.append(dataclasses.replace(result, **{name: getattr(BLANK, name) for name in OF_A_BATCH}))
    log.close()
    run = read_run(tmp_path / NAME, None)
    assert (run.results, run.ended) == (whole, True)


def failed(kind: str, facts: dict[str, Any], words: str | None = None, run: int = 1) -> list[TaskResult]:
    results = level(2, run)
    results[1] = dataclasses.replace(results[1], status="failed", error_kind=kind, error=words, error_facts=facts,
                                     rtf=None, processing_time=None)
    return results


@pytest.mark.parametrize(("kind", "facts", "words", "english", "chinese"), [
    ("stalled", {"idle_s": 121}, None, "no progress for 121 s while every worker was idle", "121 秒没有任何进展"),
    ("worker_died", {"pid": 7, "name": "rq", "workers_left": 0}, None,
     "worker process 7 (rq) ended; no worker is left", "worker 进程 7（rq）退出；已没有 worker"),
    ("worker_died", {"pid": 7, "name": "rq", "idle_s": 12.0}, None,
     "worker process 7 (rq) ended; no progress for 12 s since", "worker 进程 7（rq）退出；此后 12 秒没有任何进展"),
    ("worker_died", {}, "Work-horse terminated; signal 9", "Work-horse terminated; signal 9",
     "Work-horse terminated; signal 9"),
    ("task_timeout", {"limit_s": 60.0, "last_seen": "queued"}, None, "not done after 60 s; last seen queued",
     "60 秒后仍未完成；最后一次查询时状态为 queued"),
    ("task_timeout", {"limit_s": 60.0, "exchange_ended": False}, None,
     "not done after 60 s; the exchange with the API never ended", "60 秒后仍未完成；与 API 的通信始终没有结束"),
    ("task_lost", {"task_id": "a1"}, None, "accepted as a1, which the service no longer knows (404)",
     "已受理为 a1，但服务已查无此任务（404）"),
    ("bad_response", {"problem": "not JSON"}, "<html>", "the answer is not JSON; <html>", "答复不是 JSON；<html>"),
    ("bad_response", {"problem": "HTTP 502"}, "Bad Gateway", "HTTP 502; Bad Gateway", "HTTP 502；Bad Gateway"),
    ("task_failed", {}, None, "the service gives no reason", "服务没有给出原因"),
    ("task_failed", {"of_a_later_version": 3, "null": None}, "disk full", "disk full", "disk full"),
])
def test_what_the_tool_knows_of_a_failure_is_said_in_both_languages(
    tmp_path: Path, kind: str, facts: dict[str, Any], words: str | None, english: str, chinese: str
) -> None:
    results = ramp(level(1), failed(kind, facts, words), stop="failure")
    breach = judge(read(tmp_path, "".join(as_written(results)))).ramp.first_breach
    assert breach is not None
    said = [Words(language).observed(breach) for language in ("en", "zh-CN")]
    assert said == [english, chinese] or (said[0].startswith(english) and chinese in said[1])


def test_a_service_whose_words_read_like_the_tools_is_not_taken_for_a_death(tmp_path: Path) -> None:
    words = "worker process 7 (rq) ended"
    results = leak_phase() + ramp(level(1), failed("task_failed", {}, words), stop="failure")
    for schema in (1, 2):
        lines = [dataclasses.replace(result, schema=schema) for result in results]
        judged = judge(read(tmp_path, "".join(as_written(lines) if schema == 2 else schema_1(lines))))
        assert judged.ramp.first_breach is not None
        assert (judged.ramp.first_breach.what, judged.ramp.first_breach.death) == ("task_failed", None)
        assert (judged.crashes, judged.ramp.stop_reason) == ([], "failure")


def test_a_breach_names_the_death_and_what_the_kernel_killed(tmp_path: Path) -> None:
    deaths = [Death("worker", 100, "rq", "2026-03-02T09:00:00.000", unfinished=1)]
    last = failed("stalled", {"idle_s": 8})
    for result in last:
        result.deaths, result.level = deaths, LevelFacts(oom_kills=1)
    judged = judge(read(tmp_path, "".join(as_written(leak_phase() + ramp(level(1), last, stop="worker_died")))))
    assert judged.ramp.first_breach is not None
    assert summary(judged, Words("en"))["concurrency"]["first_breach"] == {
        "concurrency": 2, "test_id": "short_c2_0025", "what": "worker_died", "limit": None,
        "observed": "worker process 100 (rq) ended (the kernel ended 1 for lack of memory meanwhile)"}
    assert judged.crashes == deaths


def test_a_fault_of_the_tool_neither_breaks_a_level_nor_lets_the_run_pass(tmp_path: Path) -> None:
    last = failed("tool_fault", {}, "Traceback …", run=2)
    results = leak_phase() + ramp(*(level(n) for n in range(1, 5)), last, stop=None)
    judged = judge(read(tmp_path, "".join(as_written(results))))
    assert (judged.verdict, judged.cut_short, judged.ramp.first_breach) == (
        "inconclusive", Note("cut_tool_fault"), None)
    assert (judged.ramp.max_stable, judged.ramp.stop_reason) == (4, "interrupted")
    assert "the test tool itself failed" in Words("en").note(Note("cut_tool_fault")).lower()


def schema_1(results: Sequence[TaskResult]) -> list[str]:
    """The lines of schema 1, as far as they differ: deaths in English sentences within the level."""
    lines = []
    for result in numbered(results):
        content = json.loads(result.to_json())
        deaths = [f"{d.role} process {d.pid} ({d.name}) ended" for d in result.deaths]
        content["level"] = content["level"] and content["level"] | {"deaths": deaths}
        lines.append(json.dumps({k: v for k, v in content.items() if k not in (
            "batch", "audio_path", "error_facts", "deaths", "end", "busiest_other")} | {"schema": 1}) + "\n")
    return lines


def died() -> list[TaskResult]:
    deaths = [Death("api", 7, "a (b)", ""), Death("worker", 100, "rq", "")]
    return leak_phase() + ramp(level(1), level(2), level(3, deaths=deaths), stop="worker_died")


@pytest.mark.parametrize("results", [healthy, died])
def test_a_run_reads_the_same_in_both_schemas(tmp_path: Path, results: Callable[[], list[TaskResult]]) -> None:
    said = []
    for lines in (schema_1(results()), as_written(results())):
        judged = judge(read(tmp_path, "".join(lines)))
        said.append(summary(judged, Words("zh-CN")))
    assert said[0] == said[1]


def test_a_death_that_every_line_of_a_batch_shows_counts_once(tmp_path: Path) -> None:
    last = level(3)
    for result in last:
        result.memory = {"worker": memory(700.0, None, ended=True)}
    for lines in (schema_1, as_written):
        judged = judge(read(tmp_path, "".join(lines(leak_phase() + ramp(level(1), level(2), last)))))
        assert [(c.id, c.status, c.observed) for c in judged.criteria if c.id == "no_worker_crash"] == [
            ("no_worker_crash", "fail", 1)]


def test_sentences_of_schema_1_become_facts(tmp_path: Path) -> None:
    errors = {"stalled": "no progress for 121 s while every worker was idle (where one waits …)",
              "worker_died": "worker process 7 (r (q)) ended; no worker is left",
              "task_timeout": "not done after 60.5 s; last seen processing. HTTP 500: busy",
              "interrupted": "the test was interrupted before this task was sent",
              "task_failed": "no progress for 121 s while every worker was idle"}
    results = [dataclasses.replace(level(1, number)[0], status="failed", error_kind=kind, error=words)
               for number, (kind, words) in enumerate(errors.items(), 1)]
    run = read(tmp_path, "".join(schema_1(results)))
    assert [(r.error, r.error_facts) for r in run.results] == [
        (None, {"idle_s": 121}), (None, {"pid": 7, "name": "r (q)", "workers_left": 0}),
        ("HTTP 500: busy", {"limit_s": 60.5, "last_seen": "processing"}), (None, {"sent": False}),
        (errors["task_failed"], {})]


def test_clips_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    results = [dataclasses.replace(r, audio_path=f"/data/{r.audio_file.removesuffix('.wav')}/talk.wav",
                                   audio_file="talk.wav") for r in leak_phase([300.0, 700.0] + [
                                       700.0 + 60 * cycle for cycle in range(1, 13)])]
    run = read(tmp_path, "".join(as_written(results)))
    assert run.clip_names == {"/data/short/talk.wav": "short/talk.wav", "/data/long/talk.wav": "long/talk.wav"}
    judged = judge(run)
    assert judged.roles["worker"].follows == "long/talk.wav"
    assert "long/talk.wav" in next_sentence(judged, Words("en"))
    assert "task on long/talk.wav (median of 12" in Words("en").note(judged.criteria[0].text)


@pytest.mark.parametrize(("paths", "names"), [
    (["a/x.wav", "b/y.wav"], ["x.wav", "y.wav"]), (["a/x.wav", "b/x.wav"], ["a/x.wav", "b/x.wav"]),
    (["1/a/x.wav", "2/a/x.wav", "y.wav"], ["1/a/x.wav", "2/a/x.wav", "y.wav"]),
    (["x.wav", "a/x.wav"], ["x.wav", "a/x.wav"])])
def test_a_clip_is_shown_by_its_base_name_and_as_much_of_its_path_as_it_takes(
    tmp_path: Path, paths: list[str], names: list[str]
) -> None:
    results = [dataclasses.replace(result, audio_path=path, audio_file=Path(path).name)
               for path, result in zip(paths, leak_phase(), strict=False)]
    assert list(read(tmp_path, "".join(as_written(results))).clip_names.values()) == names


@pytest.mark.parametrize(("line", "why"), [
    ('{"test_id": "torn', "not JSON"), ("[1, 2]", "not a JSON object"), ("null", "not a JSON object"),
    ("\x00\xff garbage", "not JSON"), ("[" * 100_000, "nested too deep"), ("9" * 5000, "number too large"),
    ('{"phase": "leak", "test_id": "a"}', "is missing")])
def test_a_line_that_cannot_be_read_is_counted_with_its_reason(tmp_path: Path, line: str, why: str) -> None:
    path = record(tmp_path, healthy(), more=line + "\n")
    run = recording.read_run(path, None)
    assert len(run.results) == len(healthy())
    say, chinese = map(Words, LANGUAGES)
    assert [count for reason, count in run.skipped.items() if why in say.note(reason)] == [1]
    assert "skipped: 1" in report_of(path)
    assert not any(say.note(reason) in report_of(path, chinese.language) for reason in run.skipped)


@pytest.mark.parametrize(("field", "value"), [
    ("processing_time", "fast"), ("rtf", True), ("cycle", -1), ("cycle", 1e9), ("cycle", None), ("concurrency", 0),
    ("status", "maybe"), ("phase", "other"), ("memory", []), ("memory", {"worker": 5}), ("test_id", 7),
    ("audio_seconds", 0), ("audio_seconds", -5.0), ("worker_rss_delta_mb", 1e300), ("settings", "none")])
def test_a_field_of_the_wrong_kind_costs_its_line_alone(tmp_path: Path, field: str, value: Any) -> None:
    content = json.loads(numbered(leak_phase())[-1].to_json()) | {"test_id": "x"} | {field: value}
    run = recording.read_run(record(tmp_path, leak_phase(), more=json.dumps(content) + "\n"), None)
    assert (len(run.results), run.skipped.total()) == (len(leak_phase()), 1)


def test_nan_is_no_measurement(tmp_path: Path) -> None:
    path = record(tmp_path, leak_phase())
    path.write_text(path.read_text().replace('"rtf": 0.1', '"rtf": NaN').replace('"delta_mb": 0.0', '"delta_mb": NaN'))
    run = recording.read_run(path, None)
    assert {result.rtf for result in run.results} == {None}


def test_a_line_that_stands_there_twice_counts_once_and_a_double_id_never(tmp_path: Path) -> None:
    path = record(tmp_path, leak_phase())
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[3], lines[4].replace('"success"', '"failed"')]))
    run = recording.read_run(path, None)
    assert (len(run.results), run.duplicates, run.skipped) == (len(lines), 1, {findings.Note("skip_id_twice"): 1})
    assert "1 line appears twice and counts once" in report_of(path)


def test_lost_lines_show_by_their_running_numbers(tmp_path: Path) -> None:
    path = record(tmp_path, healthy(), drop=[4, 9])
    assert recording.read_run(path, None).missing == 2
    assert "2 results are missing" in report_of(path)


def samples(folder: Path, rows: str) -> recording.Samples:
    path = folder / "samples.csv"
    path.write_text(rows, encoding="utf-8", newline="")
    return recording.read_samples(path)


def test_a_torn_last_row_and_garbage_are_skipped_and_counted(tmp_path: Path) -> None:
    good = sample_rows(range(5), ("rq", 100, 50.0))
    bad = "garbage\n,,,,,,\n1,2\n2026-03-02T09:00:05,5.0,rq,100,nan,50,1\n2026-03-02T09:00:05,5.0,rq,x,1,50,1\n"
    torn = "2026-03-02T09:00:06,6.0,rq,100,1.0,50.0,1.0"  # no line end: the last figure may lack digits
    found = samples(tmp_path, CSV_HEAD + good + bad + torn)
    assert (found.rows, found.skipped) == (5, 6)


def test_figures_are_right_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording.Figures, "MOST", 3)
    values = [1.5, 2.5, 3.5, 1.5, 4.5, 5.5, 1.5, 2.5]
    rows = "".join(sample_rows([second], ("rq", 100, mb), cpu=10 * mb) for second, mb in enumerate(values))
    bad = [f"{moment(9)},9.0,rq,100,{cpu},{rss},1.0\n" for cpu, rss in (("-1", 5), ("nan", 5), (5, "inf"), (5, 2e9))]
    found = samples(tmp_path, CSV_HEAD + rows + 2 * "".join(bad)).processes[0]
    assert (list(found.rss), list(found.cpu)) == (values, [10 * mb for mb in values])


def test_rows_that_go_back_in_time_are_skipped(tmp_path: Path) -> None:
    found = samples(tmp_path, CSV_HEAD + sample_rows([0, 1, 2, 1, 3], ("rq", 100, 50.0)))
    assert (list(found.elapsed), found.skipped) == ([0, 1, 2, 3], 1)


def test_one_garbled_time_does_not_hide_what_comes_after(tmp_path: Path) -> None:
    garbled = "2026-03-02T09:00:03.000,99999999.00,rq,100,1.0,50.0,1.0\n"
    rows = sample_rows([0, 1, 2], ("rq", 100, 50.0)) + garbled + sample_rows([4, 5], ("rq", 100, 50.0))
    found = samples(tmp_path, CSV_HEAD + rows)
    assert (list(found.elapsed), found.skipped, found.gaps) == ([0, 1, 2, 4, 5], 1, [])


def test_holes_are_found_and_a_process_that_comes_back_is_another_one(tmp_path: Path) -> None:
    found = samples(tmp_path, CSV_HEAD + sample_rows([0, 1, 2, 12, 13], ("rq", 100, 50.0)) + sample_rows(
        range(14, 18), ("rq", 101, 50.0)) + sample_rows([18], ("rq", 100, 70.0)))
    assert found.gaps == [(2.0, 10.0)]
    assert [(p.pid, list(p.rss)) for p in found.processes] == [(100, [50.0] * 5), (101, [50.0] * 4), (100, [70.0])]


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_jump_of_the_clock_moves_no_sample(tmp_path: Path, jump: int) -> None:
    before = sample_rows(range(10), ("rq", 100, 50.0))
    after = [f"{moment(second + jump)},{second:.2f},rq,100,50.0,50.0,1.0\n" for second in range(10, 20)]
    found = samples(tmp_path, CSV_HEAD + before + "".join(after))
    assert (len(found.clock), found.gaps, found.skipped) == (2, [], 0)
    end = recording.wall_seconds(after[-1][:23])
    assert end is not None
    assert found.at_wall(end) == pytest.approx(19)


def test_a_line_from_before_load_came_from_several_machines_is_read(tmp_path: Path) -> None:
    """Fields that were added to schema 2 later may be missing; of the others each one that is missing was lost."""
    lines = [json.loads(line) for line in LINES]
    for line in lines:
        del line["load_host"]
        if line["level"]:
            del line["level"]["load_hosts"]
    old = "".join(json.dumps(line) + "\n" for line in lines)
    assert read(tmp_path, old).results == read(tmp_path, "".join(LINES)).results
    del lines[0]["submit_offset"]
    assert read(tmp_path, "".join(json.dumps(line) + "\n" for line in lines)).lost == 1
