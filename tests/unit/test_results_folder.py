"""The results folder is not trusted: what is planted there is neither followed nor written over."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analyze_stress_test as reader
import memory_leak_stress_test as instrument
from memory_leak_stress_test import CannotRecord, ProcessTable, ResultLog, Sampler, TaskResult, create, replace
from unit.test_hostile_server import GOOD, RESULT, SUBMIT
from unit.test_interruption import stress_test
from unit.test_limits import DONE

TESTS = Path(__file__).resolve().parents[1]


def result(number: int = 1) -> TaskResult:
    return TaskResult(f"a_c1_{number:04d}", "leak", "2026-01-01T00:00:00.000", "a.wav", 0.1, 3.0, 1, "success", cycle=0)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def start_log(folder: Path) -> None:
    ResultLog(folder / "run.jsonl").append(result())


def hold_result(folder: Path) -> None:
    ResultLog(folder / "run.jsonl").hold(result())


def start_sampler(folder: Path) -> None:
    Sampler(ProcessTable({}, {}, set()), folder / "run.csv", 1.0)


@pytest.mark.parametrize(("name", "write"), [
    ("run.jsonl", start_log), ("run.pending.json", hold_result), ("run.csv", start_sampler)])
@pytest.mark.parametrize("planted", ["link", "dangling link", "file", "hard link"])
def test_what_is_planted_is_neither_followed_nor_written_over(
    name: str, write: Callable[[Path], None], planted: str, folder: Path, victim: Path
) -> None:
    if planted == "file":
        (folder / name).write_text("precious")
    elif planted == "hard link":
        os.link(victim, folder / name)
    else:
        (folder / name).symlink_to(victim if planted == "link" else victim.with_name("new"))
    with pytest.raises((CannotRecord, FileExistsError)):
        write(folder)
    assert victim.read_text() == "precious"
    assert not victim.with_name("new").exists()
    assert planted != "file" or (folder / name).read_text() == "precious"


def test_a_planted_pending_file_outlives_the_end_of_the_run(folder: Path) -> None:
    log = ResultLog(folder / "run.jsonl")
    (folder / "run.pending.json").write_text("precious")
    with pytest.raises(CannotRecord):
        log.hold(result())
    log.release()
    assert (folder / "run.pending.json").read_text() == "precious"
    assert len((folder / "run.jsonl").read_text().splitlines()) == 1, "what was held is no less recorded"


def charted(folder: Path) -> None:
    """A recorded run that has both charts."""
    for file in (TESTS / "unit/golden").iterdir():
        if file.name in ("memory_leak_stress_test_20261125_015358.jsonl", "system_resources_20261125_015358.csv"):
            shutil.copy(file, folder / f"run{file.suffix}")


def test_a_planted_link_is_replaced_by_report_and_charts_and_not_followed(
    folder: Path, victim: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charted(folder)
    names = ("run.md", "run.memory.svg", "run.concurrency.svg")
    for name in names:
        (folder / name).symlink_to(victim)
    reader.main([str(folder / "run.jsonl"), "--resources", str(folder / "run.csv")])
    assert victim.read_text() == "precious"
    assert (folder / "run.md").read_text().startswith("#")
    assert not any((folder / name).is_symlink() for name in names)
    assert not list(folder.glob("*.tmp"))


def test_a_pipe_or_device_that_is_named_for_the_report_stays_what_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    charted(folder)
    os.mkfifo(folder / "pipe")
    count = "import sys; print(len(open(sys.argv[1]).read()))"
    with subprocess.Popen([sys.executable, "-c", count, folder / "pipe"], stdout=subprocess.PIPE) as listening:
        reader.main([str(folder / "run.jsonl"), "--no-charts", "--output", str(folder / "pipe")])
        assert int(listening.communicate(timeout=120)[0]) > 100
    assert reader.main([str(folder / "run.jsonl"), "--no-charts", "--output", os.devnull]) != instrument.EXIT_USAGE
    assert Path(os.devnull).is_char_device()


def test_what_fails_halfway_leaves_the_earlier_file_and_no_other(folder: Path) -> None:
    replace(folder / "report.md", b"old")
    with pytest.raises(TypeError):
        replace(folder / "report.md", "not bytes")  # type: ignore[arg-type]
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"report.md": "old"}


def test_files_go_into_the_folder_that_was_opened_whatever_takes_its_name(folder: Path, tmp_path: Path) -> None:
    opened = instrument.open_folder(folder)
    folder.rename(tmp_path / "moved")
    (tmp_path / "trap").mkdir()
    folder.symlink_to(tmp_path / "trap")
    log = ResultLog(folder / "run.jsonl", opened)
    log.hold(result())
    log.release()
    log.hold(result(2))
    os.close(create(folder / "run.csv", opened))
    assert sorted(file.name for file in (tmp_path / "moved").iterdir()) == ["run.csv", "run.jsonl", "run.pending.json"]
    assert list((tmp_path / "trap").iterdir()) == []
    assert instrument.place_now(opened, folder / "run.jsonl") == tmp_path / "moved/run.jsonl"


@pytest.mark.parametrize("again", [lambda log: log.append(result(2)), lambda log: log.hold(result(2))])
def test_a_folder_that_vanishes_is_told_truthfully(again: Callable[[ResultLog], None], folder: Path) -> None:
    opened = instrument.open_folder(folder)
    log = ResultLog(folder / "run.jsonl", opened)
    log.append(result())
    shutil.rmtree(folder)
    with pytest.raises(CannotRecord, match="has been deleted, with what was recorded in it"):
        again(log)
    assert instrument.place_now(opened, folder / "run.jsonl") is None


def test_a_folder_that_vanishes_during_the_first_task_is_made_again(tmp_path: Path) -> None:
    def submit(sock: Any) -> None:
        if not any((tmp_path / "results").glob("*")):
            shutil.rmtree(tmp_path / "results", ignore_errors=True)
        GOOD[SUBMIT](sock)

    cycles = ("--max-cycles", "1", "--min-cycles", "1", "--no-report")
    with stress_test(tmp_path, {SUBMIT: submit, RESULT: DONE}, *cycles) as (process, _):
        told = process.communicate(timeout=120)[0]
    assert "Traceback" not in told
    [jsonl] = (tmp_path / "results").glob("*.jsonl")
    assert len(jsonl.read_text().splitlines()) == 5, "two warm up, one is sent again, and a cycle of two"


def test_results_that_are_deleted_alone_are_said_to_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resources, opened = folder / "system_resources_1.csv", os.open(folder, os.O_RDONLY)
    resources.touch()
    status = instrument.report(instrument.Settings(results_dir=folder), opened, folder / "run.jsonl", resources,
                               threading.Event())
    assert status == 3
    assert capsys.readouterr().out == (
        f"WARNING what was recorded in {folder} was deleted while the test ran: there is no result\n")


@pytest.mark.parametrize(("error", "helps"), [(errno.ENOSPC, "see: df -hi "), (errno.EACCES, "sudo chown $USER ")])
def test_a_folder_that_takes_no_new_file_is_said_before_the_test(
    error: int, helps: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(instrument, "create", refuse)
    status = instrument.main(["--phase", "monitor", "--pid", f"worker={os.getpid()}", "--results-dir", str(folder)])
    assert status == instrument.EXIT_NO_START
    told = capsys.readouterr().err
    assert told.startswith(f"Cannot start: Results folder {folder} is not writable ({os.strerror(error)})")
    assert helps in told


@pytest.mark.parametrize(("what", "said", "status"), [
    ("delete", "was deleted while the test ran: there is no result", 3), ("move", "was moved while the test ran", 130)])
def test_monitoring_into_a_folder_that_vanishes_says_so(what: str, said: str, status: int, folder: Path,
                                                        tmp_path: Path) -> None:
    command: list[Any] = [sys.executable, TESTS / "memory_leak_stress_test.py", "--phase", "monitor", "--pid",
                          f"worker={os.getpid()}", "--interval", "0.2", "--results-dir", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            end = time.monotonic() + 60
            while not any(file.stat().st_size > 300 for file in folder.glob("*.csv")):
                assert time.monotonic() < end, "the monitor does not record"
                time.sleep(0.05)
            if what == "delete":
                shutil.rmtree(folder)  # and it ends by itself
            else:
                folder.rename(tmp_path / "moved")
                time.sleep(0.5)
                process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=120)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert said in told
    assert process.returncode == status
    assert "Traceback" not in told
    assert what == "delete" or f"resources: {tmp_path}/moved/system_resources_" in told
