"""Reports of two recorded runs of the embedded service, whole; and reports of anything, which render as they should.

One run is healthy, one keeps 60 MB per task. After a change that is meant to show in reports, write them anew, and read
the difference before it is committed:

    WRITE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_markdown.py
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_leak_stress_test import Death, LevelFacts
from stress_report import findings, markdown, recording
from stress_report.saying import Words
from stress_report.words import LANGUAGES
from unit.reader_checks import GOLDEN, NASTY, recorded, report_of, run
from unit.reader_runs import (
    CSV_HEAD,
    healthy,
    level,
    numbered,
    ramp,
    record,
    sample_rows,
    with_settings,
)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "baseline"), [("healthy", "leaking"), ("leaking", None)])
def test_report_of_a_recorded_run_is_as_it_was(name: str, baseline: str | None, language: str) -> None:
    before = recorded(baseline) if baseline else None
    charts = {chart: f"{name}.{chart}.svg" for chart in ("memory", "concurrency")}
    report = markdown.report(recorded(name), before, charts, [], Words(language))
    golden = GOLDEN / f"{name}.{language}.md"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(report, encoding="utf-8")
        pytest.skip(f"{golden.name} was written, not compared")
    assert report == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "verdict", "worker"), [("healthy", "pass", "NO LEAK"), ("leaking", "fail", "LEAK")])
def test_verdict_of_a_recorded_run(name: str, verdict: str, worker: str) -> None:
    run = recorded(name)
    assert (run.verdict, run.roles["worker"].growth.verdict) == (verdict, worker)


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


@pytest.mark.parametrize(("csv", "note"), [
    (None, "csv_missing"), ("", "csv_empty"), (CSV_HEAD, "csv_empty"), ("\x00\xff\n" * 9, "csv_empty"),
    (CSV_HEAD + sample_rows(range(90_000, 90_009), ("rq", 100, 1.0)), "csv_other_run"),
    (CSV_HEAD + sample_rows(range(9), ("rq", 100, 1.0)), "csv_short"),
    (CSV_HEAD + sample_rows(range(2200), ("rq", 100, 1.0)) + "x\n", "csv_skipped")])
def test_what_is_wrong_with_a_csv_stands_in_the_report(tmp_path: Path, csv: str | None, note: str) -> None:
    path = record(tmp_path, healthy(), csv=csv)
    assert [found.key for found in recording.read_run(path, None).notes] == [note]
    report_of(path)


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


def test_the_report_names_the_command_that_repeats_the_run(tmp_path: Path) -> None:
    results = with_settings(healthy(), watch={"worker": ["my worker", "other"], "api": "odd"}, pid={"api": [4700]},
                            rtf_limit=0.0)
    assert run(tmp_path, results, "--no-charts") == 0
    command = ("python3 tests/memory_leak_stress_test.py --url http://127.0.0.1:8000 --rtf-limit 0 "
               "--watch 'worker=my worker' --watch worker=other --pid api=4700")
    assert command in (tmp_path / "memory_leak_stress_test_20260302_090000.md").read_text()
