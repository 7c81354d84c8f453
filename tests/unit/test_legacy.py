"""Records of older tools: no phase, the RSS of one process, a CSV that may show that it was the wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stress_report import markdown, recording
from stress_report.judging import Judged, judge
from stress_report.saying import Words
from unit.reader_runs import CSV_HEAD, moment, sample_rows, statuses


def line(test_id: str, second: float, before: float, after: float, **changes: Any) -> dict[str, Any]:
    """A task of 80 s on a recording of 147 or 735 s, as the older tool wrote it."""
    clip, _, rest = test_id.partition("_c")
    return {"test_id": test_id, "timestamp": moment(second), "audio_file": f"{clip}.wav", "audio_size_mb": 4.49,
            "concurrency": int(rest[0]), "task_id": "94a98d8c", "status": "success", "processing_time": 80.0,
            "rtf": 80 / (735 if clip == "long" else 147), "worker_rss_before_mb": before,
            "worker_rss_after_mb": after, "worker_rss_delta_mb": after - before, "error": None} | changes


LINES = [line("short_c1_1765276924", 90, 13.2, 12.5), line("long_c1_1765277015", 190, 12.5, 13.3),
         line("short_c1_t0_1765277253", 290, 13.3, 12.3), line("short_c2_t0_1765277400", 390, 12.3, 12.9),
         line("short_c2_t1_1765277401", 391, 12.3, 12.9), line("short_c3_t0_1765277500", 490, 12.9, 13.0)]


def rising(pid: int, start: int, stop: int, top: float) -> str:
    """A process that climbs to its top and then falls back to 80 % of it before it is gone."""
    shares = [(second - start) / (stop - start) for second in range(start, stop - 1)] + [0.8]
    return "".join(sample_rows([start + n], ("rq", pid, top * share)) for n, share in enumerate(shares))


PARENT = sample_rows(range(0, 500), ("rq", 100, 12.9), ("uvicorn", 200, 26.4), cpu=1.0)
HORSES = [rising(1000, 11, 90, 5000.0), rising(1001, 111, 190, 4900.0), rising(1002, 211, 290, 5400.0)]
WRONG_PROCESS = PARENT + "".join(HORSES)
RIGHT_PROCESS = sample_rows(range(0, 500), ("rq", 100, 12.9), ("uvicorn", 200, 26.4))


def old_run(folder: Path, lines: list[dict[str, Any]], rows: str | None = None) -> Judged:
    path = folder / "memory_leak_stress_test_20260302_090000.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    if rows is not None:
        by_time = sorted(rows.splitlines(keepends=True))  # as a sampler writes them
        (folder / "system_resources_20260302_090000.csv").write_text(CSV_HEAD + "".join(by_time))
    return judge(recording.read_run(path, None))


def test_the_csv_shows_that_another_process_did_the_work(tmp_path: Path) -> None:
    run = old_run(tmp_path, LINES, WRONG_PROCESS)
    assert run.evidence is not None
    assert run.evidence.recorded is not None
    assert run.evidence.recorded.pid == 100
    found = {(h.pid, h.test_id) for h in run.evidence.hidden}
    assert found == {(1000, LINES[0]["test_id"]), (1001, LINES[1]["test_id"]), (1002, LINES[2]["test_id"])}
    last = run.evidence.hidden[2]
    assert (round(last.peak_mb), round(last.held_mb)) == (round(5400 * 77 / 79), round(5400 * 0.8))
    assert run.roles["worker"].growth.verdict == "NOT MEASURED"
    assert statuses(run)["long_audio_delta"] == statuses(run)["no_cumulative_growth"] == "not_measured"
    assert run.verdict == "inconclusive"
    report = markdown.report(run, None, {}, [], Words("en"))
    assert "(rq, pid 100, at most 13.3 MB) is not the one that did the work" in report
    assert "still held up to 4,320 MB at their last sample" in report


def test_a_parent_with_a_preloaded_model_is_told_from_its_work_horses(tmp_path: Path) -> None:
    """The horses need not be three times as large: they share what their parent has loaded."""
    lines = [each | {"worker_rss_before_mb": 600.0, "worker_rss_after_mb": 600.0} for each in LINES]
    parent = sample_rows(range(0, 500), ("rq", 100, 600.0), cpu=0.5)
    run = old_run(tmp_path, lines, parent + sample_rows(range(11, 90), ("rq", 1000, 900.0), cpu=95.0))
    assert run.evidence is not None
    assert [h.pid for h in run.evidence.hidden] == [1000]


def test_an_old_record_never_says_no_leak(tmp_path: Path) -> None:
    lines = [line(f"{clip}_c1_{1765276924 + n}", 10 + 30 * n + 10 * late, 12.9, 12.9)
             for n in range(15) for late, clip in enumerate(("short", "long"))]
    run = old_run(tmp_path, lines, RIGHT_PROCESS)
    assert run.evidence is not None
    assert run.evidence.hidden == []
    assert (run.roles["worker"].growth.verdict, run.roles["worker"].growth.reason) == ("INCONCLUSIVE", "old_record")
    assert run.verdict == "inconclusive"


@pytest.mark.parametrize("rows", [None, sample_rows(range(0, 500), ("rq", 100, 60.0))], ids=["no CSV", "none fits"])
def test_readings_of_an_unknown_process_clear_nobody(tmp_path: Path, rows: str | None) -> None:
    again = [line("long_c1_1765278000", 480, 12.9, 13.0)]
    found = statuses(old_run(tmp_path, LINES + again, rows))
    assert found["long_audio_delta"] == found["return_to_baseline"] == "inconclusive"


def test_lines_of_the_ramp_are_told_from_the_leak_phase_and_an_incomplete_level_is_called_so(tmp_path: Path) -> None:
    run = old_run(tmp_path, LINES, WRONG_PROCESS)
    assert [r.test_id for r in run.run.phase("leak")] == [LINES[0]["test_id"], LINES[1]["test_id"]]
    assert [(v.concurrency, v.submitted, v.complete, v.stable) for v in run.ramp.levels] == [
        (1, 1, True, True), (2, 2, True, True), (3, 1, False, False)]
    assert run.ramp.max_stable == 2
    report = markdown.report(run, None, {}, [], Words("en"))
    assert "| 3 | incomplete | 1 / 1? |" in report
    assert "Incomplete levels: 3." in report


def test_the_length_of_a_clip_comes_from_time_and_rtf(tmp_path: Path) -> None:
    run = old_run(tmp_path, LINES)
    assert run.run.results[0].audio_seconds == pytest.approx(147)
    assert run.run.results[0].audio_size_mb == pytest.approx(4.49 * 1.048576)


def test_a_failed_old_line_without_figures_is_read(tmp_path: Path) -> None:
    bad = line("short_c1_t0_9", 90, 0.0, 0.0, status="error", processing_time=None, rtf=None, error="queue is full")
    run = old_run(tmp_path, [bad])
    assert [(r.status, r.error, r.audio_seconds) for r in run.run.results] == [("failed", "queue is full", None)]


def test_load_tests_are_levels_and_not_leak_cycles(tmp_path: Path) -> None:
    """The older tool's load tests have ids like load_0_<time> and the tasks at once beside them."""
    lines = [line("short_c1_1765276924", 90, 13.2, 12.5)]
    lines += [line("short_c1_1", 200, 12.5, 12.5, concurrency=500) | {"test_id": f"load_{number}_{1765277000 + number}"}
              for number in range(1000)]
    run = old_run(tmp_path, lines)
    assert [r.test_id for r in run.run.phase("leak")] == ["short_c1_1765276924"]
    assert [(v.concurrency, v.runs, v.submitted, v.complete) for v in run.ramp.levels] == [(500, 2, 1000, True)]


def test_a_memory_of_0_in_every_line_was_not_measured(tmp_path: Path) -> None:
    lines = [each | {"worker_rss_before_mb": 0.0, "worker_rss_after_mb": 0.0, "worker_rss_delta_mb": 0.0}
             for each in LINES]
    run = old_run(tmp_path, lines)
    assert {mb for r in run.run.results for mb in (r.worker_rss_before_mb, r.worker_rss_after_mb,
                                                   r.worker_rss_delta_mb)} == {None}
    assert (run.roles["worker"].growth.verdict, run.roles["worker"].growth.reason) == ("NOT MEASURED", "not_measured")
    assert "memory is 0 in every line, so it was not measured" in markdown.report(run, None, {}, [], Words("en"))
    one = old_run(tmp_path, [lines[0] | {"worker_rss_after_mb": 12.0}, *lines[1:]])
    assert one.run.results[0].worker_rss_before_mb == 0.0, "it was measured once: the others are as they are"
