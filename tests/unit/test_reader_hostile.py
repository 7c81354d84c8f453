"""Broken and hostile input: never a traceback, never a broken table, nothing rendered; what was skipped is counted."""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import math
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from memory_leak_stress_test import Death, LevelFacts
from stress_report import findings, markdown, recording
from stress_report.charts import MOST_POINTS, joined, thinned, write_charts
from stress_report.judging import judge
from stress_report.memory import series_of_roles
from stress_report.saying import Words
from stress_report.summary import summary
from stress_report.words import LANGUAGES
from unit.reader_runs import (
    CSV_HEAD,
    healthy,
    judged,
    leak_phase,
    level,
    moment,
    numbered,
    ramp,
    record,
    sample_rows,
)

NASTY = ("a | b", "| --- | ---: |", "line\nbreak\r\nand\ttab", "<script>alert(1)</script>", "<img src=x onerror=y>",
         "`code` ``` fence", "**bold** _it_ ~~no~~ # head", "[a](http://evil) ![b](http://evil/x.png)",
         "http://evil.example www.evil.example a@evil.example", "\x1b[31mred\x07\x00", "\u202etxt\u2028\u2029\x85end",
         "&lt;b&gt; &amp;", "$x^2$ $$y$$", "\\| \\\\", "中文｜文字", "- item", "1. item", "> quote",
         "{not} {a.format} {0}", "x" * 100_000)
TABLE_ROW = re.compile(r"(?<!\\)\|")


def check_markdown(report: str) -> None:
    """Every table is whole, and rendered as GitHub would, nothing comes out but the tags a report is made of."""
    lines = report.split("\n")
    assert not any(ord(c) < 32 for line in lines for c in line)
    for number, text in enumerate(lines):
        if text.startswith("| ---"):
            width = len(TABLE_ROW.findall(lines[number - 1]))
            for row in [text, *iter_rows(lines, number + 1)]:
                assert len(TABLE_ROW.findall(row)) == width, row
    rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(report)
    marks = [text for text in lines if re.fullmatch(r"\|( -+:? \|)+", text)]
    assert rendered.count("<table>") == len(marks) > 0
    assert not re.search(r"<p>\s*\|", rendered), "a row that is not in its table"
    tags = set(re.findall(r"</?([a-zA-Z!?][\w-]*)", rendered))
    allowed = {"h1", "h2", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre", "code", "img"}
    assert tags <= allowed, tags - allowed
    assert set(re.findall(r'<img src="([^"]*)"', rendered)) <= {"run.memory.svg", "run.concurrency.svg"}
    assert len(re.findall("<h1>", rendered)) == 1
    assert len(re.findall("<pre>", rendered)) <= 1
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", rendered, re.S)]
    assert all(len(cell) < 5000 for cell in cells)


def iter_rows(lines: list[str], start: int) -> list[str]:
    end = next(n for n in range(start, len(lines) + 1) if n == len(lines) or not lines[n].startswith("|"))
    return lines[start:end]


def report_of(path: Path, language: str = "en") -> str:
    run = judge(recording.read_run(path, None))
    json.dumps(summary(run, Words(language)), allow_nan=False)
    charts = {name: f"run.{name}.svg" for name in ("memory", "concurrency")}
    report = markdown.report(run, run, charts, [], Words(language))
    check_markdown(report)
    return report


@pytest.mark.parametrize("words", NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("language", LANGUAGES)
def test_words_of_the_service_and_names_are_shown_as_text(tmp_path: Path, words: str, language: str) -> None:
    results = healthy() + ramp(level(6, failed=2), stop="failure")
    for result in results:
        result.audio_file, result.error = f"{words}.wav", words
        result.settings = result.settings | {"url": words, "short_audio": words, "phase": "all"}
        result.host = {"name": words, "cpus": words, "memory_mb": words, "python": [words], "system": {words: words}}
        result.level = LevelFacts(stop_reason=words) if result.level else None
        result.deaths, result.error_facts = [Death(words, 7, words, words)], {"last_seen": words, words: words}
        processes = result.memory["worker"].processes
        processes[0] = dataclasses.replace(processes[0], name=words)
    row = sample_rows(range(9), ("NAME", 300, 50.0), ("rq", 100, 60.0))
    quoted = '"' + re.sub(r"[\r\n]", " ", words[:500]).replace('"', '""') + '"'
    report = report_of(record(tmp_path, results, csv=CSV_HEAD + row.replace("NAME", quoted)), language)
    visible = findings.plain(words, 40).split(" ")[0].rstrip("…")[:20]
    assert visible in html.unescape(report)


def test_charts_survive_nasty_names(tmp_path: Path) -> None:
    rows = "".join(sample_rows(range(9), (f'"{name[:60]}"', number, 50.0)) for number, name in enumerate(NASTY)
                   if not re.search(r"[\r\n\"]", name))
    run = judged(tmp_path, healthy(), csv=CSV_HEAD + "".join(sorted(rows.splitlines(keepends=True))))
    files, _ = write_charts(run, tmp_path, "run", Words("zh-CN"))
    assert "<script" not in (tmp_path / files["memory"]).read_text()


# ----------------------------------------------------------------------------------------------- result lines


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
    assert "1 line stands there twice and counts once" in report_of(path)


def test_lost_lines_show_by_their_running_numbers(tmp_path: Path) -> None:
    path = record(tmp_path, healthy(), drop=[4, 9])
    assert recording.read_run(path, None).missing == 2
    assert "2 results are missing" in report_of(path)


# -------------------------------------------------------------------------------------------------------- CSV


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


@pytest.mark.parametrize(("csv", "note"), [
    (None, "csv_missing"), ("", "csv_empty"), (CSV_HEAD, "csv_empty"), ("\x00\xff\n" * 9, "csv_empty"),
    (CSV_HEAD + sample_rows(range(90_000, 90_009), ("rq", 100, 1.0)), "csv_other_run"),
    (CSV_HEAD + sample_rows(range(9), ("rq", 100, 1.0)), "csv_short"),
    (CSV_HEAD + sample_rows(range(2200), ("rq", 100, 1.0)) + "x\n", "csv_skipped")])
def test_what_is_wrong_with_a_csv_stands_in_the_report(tmp_path: Path, csv: str | None, note: str) -> None:
    path = record(tmp_path, healthy(), csv=csv)
    assert [found.key for found in recording.read_run(path, None).notes] == [note]
    report_of(path)

def test_the_sum_of_a_role_counts_each_process_where_it_was_seen(tmp_path: Path) -> None:
    seen = {0: [(100, 5.0), (101, 7.0)], 1: [(100, 5.0)], 2: [(100, 5.0), (101, 9.0)], 3: [(300, 1.0)]}
    rows = "".join(sample_rows([second], ("uvicorn" if pid == 300 else "rq", pid, mb))
                   for second, there in seen.items() for pid, mb in there)
    path = tmp_path / "samples.csv"
    path.write_text(CSV_HEAD + rows)
    series = series_of_roles(recording.RecordedRun(path), recording.read_samples(path))
    assert [(s.role, list(s.at), list(s.rss)) for s in series] == [
        ("worker", [0, 1, 2], [12.0, 5.0, 14.0]), ("api", [3], [1.0])]


# --------------------------------------------------------------------------------------------------- thinning


@given(st.integers(1, 3000), st.integers(0, 10**6), st.integers(20, 200))
@settings(deadline=None, max_examples=40)
def test_thinning_keeps_the_highest_the_lowest_and_both_ends(length: int, seed: int, most: int) -> None:
    values = [random.Random(seed + number).uniform(0, 1e6) for number in range(length)]
    x, y = thinned(list(range(len(values))), values, most)
    assert len(y) <= max(most + 4, 1)
    assert (max(y), min(y), y[0], y[-1]) == (max(values), min(values), values[0], values[-1])
    assert all(values[int(at)] == value for at, value in zip(x, y, strict=True))


def test_short_lived_processes_become_one_line_that_keeps_the_highest_peak() -> None:
    processes = [recording.Process("rq", pid) for pid in range(5000)]
    for number, process in enumerate(processes):
        process.at.extend([number, number + 1])
        process.rss.extend([10.0, 9000.0 if number == 777 else 20.0])
    x, y = joined(processes, list(range(5001)))
    assert max(value for value in y if not math.isnan(value)) == 9000.0
    assert len(x) == len(y) < 3 * MOST_POINTS


# ------------------------------------------------------------------------------------------------- properties

SCALARS = (st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats(allow_nan=True) | st.text(max_size=20)
           | st.sampled_from(NASTY[:-1]) | st.sampled_from(["leak", "concurrency", "success", "failed", "2026-03-02"]))
KEYS = st.sampled_from(["worker", "api", "processes", "deaths", "stop_reason", "pid", "x"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6)
VALID = [json.loads(result.to_json()) for result in numbered(healthy())]
OLD = {"test_id": "a_c1_t0_1", "timestamp": "2026-03-02T09:00:00", "audio_file": "a.wav", "audio_size_mb": 1.0,
       "concurrency": 1, "task_id": "x", "status": "success", "processing_time": 3.0, "rtf": 0.1,
       "worker_rss_before_mb": 10.0, "worker_rss_after_mb": 10.0, "worker_rss_delta_mb": 0.0, "error": None}


@st.composite
def result_lines(draw: st.DrawFn) -> str:
    """A run of which some lines are changed in a field or two, torn, or replaced by something else."""
    lines = []
    for content in draw(st.lists(st.sampled_from([*VALID, OLD]), min_size=1, max_size=14)):
        changes = draw(st.dictionaries(st.sampled_from([*VALID[0], "test_id", "cycle", "level"]), VALUES, max_size=2))
        text = json.dumps(content | changes)
        kind = draw(st.integers(0, 9))
        lines.append(text[: len(text) // 2] if kind == 0 else draw(st.text(max_size=30)) if kind == 1 else text)
    return "\n".join(lines)


CELLS = st.sampled_from(["", "rq", "nan", "-1", "1e400", "3", "0.5", "7", '"', '"a,b"', "2026-03-02T09:00:01", "x|<b>"])


@st.composite
def csv_text(draw: st.DrawFn) -> str:
    rows = sample_rows(range(draw(st.integers(0, 12))), ("rq", 100, 50.0), ("a|b<i>", 7, 9.0)).splitlines()
    for _ in range(draw(st.integers(0, 4))):
        rows.insert(draw(st.integers(0, len(rows))), ",".join(draw(st.lists(CELLS, max_size=8))))
    return CSV_HEAD + "\n".join(rows)


@given(result_lines(), csv_text(), st.sampled_from(LANGUAGES))
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_lines_and_any_csv_end_in_a_whole_report_or_one_sentence(lines: str, csv: str, language: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = record(Path(folder), [], more=lines, csv=csv)
        with contextlib.suppress(recording.Unreadable):  # the one way out, said in one sentence and tested elsewhere
            report_of(path, language)
