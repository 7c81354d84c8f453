"""The reader as a command: exit status, files, what stands on standard output and error."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import analyze_stress_test as reader
from memory_leak_stress_test import TaskResult
from unit.reader_checks import ROWS, run
from unit.reader_runs import (
    CSV_HEAD,
    FLAT,
    LEAKING,
    healthy,
    leak_phase,
    level,
    ramp,
    record,
    sample_rows,
)


@pytest.mark.parametrize(("results", "status"), [
    (healthy(), 0), (leak_phase(LEAKING) + ramp(level(1), level(2), level(3)), 1), (leak_phase(FLAT[:6]), 3)])
def test_exit_status_follows_the_verdict(tmp_path: Path, results: list[TaskResult], status: int) -> None:
    assert run(tmp_path, results, "--no-charts") == status
    assert run(tmp_path, results, "--json") == status


def test_a_fault_of_the_reader_is_never_a_failed_criterion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reader, "judge", lambda run: {}[run])
    assert run(tmp_path, healthy(), "--json") == 3
    seen = capsys.readouterr()
    assert (seen.out, "a fault of this tool" in seen.err) == ("", True)


@pytest.mark.parametrize("options", [[], ["--lang", "fr", "x"], ["--colour", "x"], ["x", "--bas", "y"]])
def test_a_wrong_command_line_ends_with_2(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        reader.main(options)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize("make", [
    lambda folder: folder / "not_there.jsonl", lambda folder: folder,
    lambda folder: touched(folder / "empty.jsonl", ""),
    lambda folder: touched(folder / "other.jsonl", '{"a": 1}\nhello\n'),
    lambda folder: touched(folder / "bytes.jsonl", "\x00\x01\x02"),
    lambda folder: touched(folder / "empty.csv", CSV_HEAD)])
def test_unreadable_input_ends_with_2_and_one_sentence(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--json"]):
        assert reader.main([str(make(tmp_path)), *options]) == 2
        seen = capsys.readouterr()
        assert seen.out == ""
        assert seen.err.count("\n") == 1
        assert str(tmp_path) in seen.err


def touched(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_unreadable_baseline_and_resources_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--baseline", "--resources"):
        assert run(tmp_path, healthy(), "--no-charts", option, str(tmp_path / "gone")) == 2
        assert "gone" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, healthy(), "--output", str(tmp_path / "no" / "folder" / "r.md")) == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize(("results", "status"), [(leak_phase(LEAKING), 1), (healthy(), 3)])
def test_a_verdict_is_said_though_the_disk_has_no_room_for_the_report(
    tmp_path: Path, results: list[TaskResult], status: int, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reader, "put", full)
    assert run(tmp_path, results, "--no-charts") == status
    said = capsys.readouterr()
    assert said.out.startswith(("FAILED", "PASSED"))
    assert "report:" not in said.out
    assert "No space left on device" in said.err


def test_json_with_output_and_baseline_writes_the_report_and_says_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    baseline = record(before, leak_phase(LEAKING))
    out = tmp_path / "report.md"
    assert run(tmp_path, healthy(), "--json", "--baseline", str(baseline), "--output", str(out)) == 0
    content = json.loads(capsys.readouterr().out)["comparison"]
    assert content["fix"] == "fix_shown"
    assert {"what": "leak_verdict", "role": "worker", "before": "LEAK", "after": "NO LEAK"} in content["changes"]
    assert "![" in out.read_text()
    assert (tmp_path / "report.memory.svg").is_file()


def test_the_report_stands_beside_the_run_with_its_charts(tmp_path: Path) -> None:
    assert run(tmp_path, healthy()) == 0
    report = (tmp_path / "memory_leak_stress_test_20260302_090000.md").read_text()
    for chart in ("memory", "concurrency"):
        assert f"](memory_leak_stress_test_20260302_090000.{chart}.svg)" in report
        assert (tmp_path / f"memory_leak_stress_test_20260302_090000.{chart}.svg").stat().st_size > 1000


def test_without_charts_no_picture_is_written_or_linked(tmp_path: Path) -> None:
    assert run(tmp_path, healthy(), "--no-charts") == 0
    assert "![" not in (tmp_path / "memory_leak_stress_test_20260302_090000.md").read_text()
    assert not list(tmp_path.glob("*.svg"))


def test_several_csvs_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other_host.csv"
    other.write_text(CSV_HEAD + sample_rows(range(2200), ("asr-backend", 7, 33.0)))
    beside = tmp_path / "system_resources_20260302_090000.csv"
    assert run(tmp_path, healthy(), "--resources", str(beside), str(other)) == 0
    report = (tmp_path / "memory_leak_stress_test_20260302_090000.md").read_text()
    assert "| worker | 50.0 / 50.0 / 50.0 | 700.0 / 700.0 / 700.0 | 1 | 2,200 |" in report
    assert "| backend | 50.0 / 50.0 / 50.0 | 33.0 / 33.0 / 33.0 | 1 | 2,200 |" in report


def test_half_an_hour_of_a_csv_alone_gives_its_resources_and_no_verdict(tmp_path: Path) -> None:
    path = touched(tmp_path / "system_resources_20260302_090000.csv", ROWS)
    assert reader.main([str(path)]) == 3
    report = path.with_suffix(".md").read_text()
    assert "700.0 / 700.0 / 700.0" in report
    assert "37 min without a break are too short: at least 60 are needed" in report
    assert "![" in report


def test_copied_without_its_rooms_it_ends_with_one_sentence_and_no_verdict(tmp_path: Path) -> None:
    for name in ("analyze_stress_test.py", "memory_leak_stress_test.py"):
        shutil.copy(Path(reader.__file__).with_name(name), tmp_path)
    ended = subprocess.run([sys.executable, str(tmp_path / "analyze_stress_test.py"), str(tmp_path / "run.jsonl")],
                           capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "the folder stress_report beside this script" in ended.stderr
    assert "Traceback" not in ended.stderr
