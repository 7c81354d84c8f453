"""Whole runs of the command against the real service: what it prints, writes and returns, also when it is cut short."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.service import PATIENCE_S, RunningService, clip_options, running_service, wait_for
from memory_leak_stress_test import CSV_COLUMNS
from stress_report.recording import result_from_json

TESTS = Path(__file__).resolve().parents[1]
INSTRUMENT = TESTS / "memory_leak_stress_test.py"
ESCAPE = "\x1b"
SOON = ["--settle-timeout", "0.1"]  # memory is not judged here, so it need not come to rest
ONE_LEVEL = ["--phase", "concurrency", "--max-concurrency", "1", *SOON, "--no-report"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One of a second, and one that takes long enough to be interrupted."""
    return clip_options(tmp_path_factory.mktemp("clips"), 1.0, 12.0)


def command(service: RunningService, folder: Path, *options: str) -> list[str]:
    """Watches this service alone, whatever else runs on the machine."""
    pids = [f"{role}={service.pids(role)[0]}" for role in ("worker", "api")]
    watched = [word for pid in pids for word in ("--pid", pid)] if "--no-watch" not in options else []
    return [sys.executable, str(INSTRUMENT), "--url", service.url, "--results-dir", str(folder), *watched, *options]


def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False, **options)


@contextlib.contextmanager
def started(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def written(folder: Path) -> int:
    """Whole lines of the results so far."""
    return sum(file.read_text().count("\n") for file in folder.glob("*.jsonl"))


def results(folder: Path) -> list[dict[str, Any]]:
    """The results of a test that has ended."""
    files = list(folder.glob("*.jsonl"))
    text = files[0].read_text() if files else ""
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def busy(service: RunningService) -> bool:
    return bool(service.get("asr/queue/status")["workers_busy"])


def idle(service: RunningService) -> Callable[[], bool]:
    return lambda: not busy(service) and service.get("asr/queue/status")["queued"] == 0


# ----------------------------------------------------------------------------------------------- cut short


def test_ctrl_c_in_the_leak_phase_keeps_every_task_and_prints_the_summary(
    service: RunningService, clips: list[str], tmp_path: Path
) -> None:
    with started(command(service, tmp_path, *clips, "--phase", "leak", *SOON)) as process:
        wait_for(lambda: written(tmp_path) == 4, "the warm-up round and the first short task")
        wait_for(lambda: busy(service), "the long task to be at work")
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, printed
    lines = results(tmp_path)
    assert [(line["cycle"], line["audio_file"], line["upload"], line["error_kind"]) for line in lines] == [
        (0, "short.wav", "distinct", None),
        (0, "long.wav", "distinct", None),
        (0, "short.wav", "repeat", None),
        (1, "short.wav", "distinct", None),
        (1, "long.wav", "distinct", "interrupted"),
    ]
    assert [line["status"] for line in lines] == ["success"] * 4 + ["failed"]
    assert lines[4]["task_id"]
    assert lines[4]["processing_time"] is None
    assert "growth per cycle" in printed
    assert not printed.startswith("PASSED")
    assert next(tmp_path.glob("*.md")).read_text().startswith("# ")
    wait_for(idle(service), "the abandoned task to end")


def test_a_termination_in_the_ramp_gives_every_released_task_its_line(
    service: RunningService, clips: list[str], tmp_path: Path
) -> None:
    options = ["--short-audio", clips[3], "--long-audio", clips[3], "--phase", "concurrency", "--start", "3", *SOON]
    with started(command(service, tmp_path, *options)) as process:
        wait_for(lambda: written(tmp_path) == 1, "the warm-up task")
        wait_for(lambda: service.get("asr/queue/status")["queued"] == 2, "three tasks at the service")
        process.terminate()
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, printed
    level = [line for line in results(tmp_path) if line["level_run"]]
    assert [(line["concurrency"], line["error_kind"]) for line in level] == [(3, "interrupted")] * 3
    assert level[-1]["level"]["stop_reason"] == "interrupted"
    wait_for(idle(service), "the abandoned tasks to end")


def test_a_kill_loses_no_result(service: RunningService, clips: list[str], tmp_path: Path) -> None:
    with started(command(service, tmp_path, *clips, "--phase", "leak", *SOON)) as process:
        wait_for(lambda: written(tmp_path) == 3, "three results")
        process.kill()
        process.wait()
    kept = [result_from_json(json.dumps(line)) for line in results(tmp_path)]
    assert [one.status for one in kept] == ["success"] * 3
    with next(tmp_path.glob("*.csv")).open(newline="") as file:
        assert len(list(csv.reader(file))) > 2  # rows of before the kill, whole
    reader = run([sys.executable, str(TESTS / "analyze_stress_test.py"), str(next(tmp_path.glob("*.jsonl"))), "--json"])
    assert (reader.returncode, json.loads(reader.stdout)["verdict"]) == (3, "inconclusive"), reader.stderr
    wait_for(idle(service), "the abandoned task to end")


def test_monitoring_records_until_ctrl_c(service: RunningService, tmp_path: Path) -> None:
    with started(command(service, tmp_path, "--phase", "monitor", "--interval", "0.2", "--no-report")) as process:
        rows: list[dict[str, str]] = wait_for(lambda: sampled(tmp_path, 6), "six rows") or []
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, printed
    assert list(rows[0]) == list(CSV_COLUMNS)
    assert {int(row["pid"]) for row in rows} == {service.pids(role)[0] for role in ("worker", "api", "redis")}
    assert str(next(tmp_path.glob("*.csv"))) in printed


def sampled(folder: Path, least: int) -> list[dict[str, str]] | None:
    files = list(folder.glob("*.csv"))
    if not files:
        return None
    rows = list(csv.DictReader(files[0].read_text().rpartition("\n")[0].splitlines()))  # without a half-written one
    return rows if len(rows) >= least else None


def test_a_full_disk_ends_the_test_in_one_sentence_and_keeps_what_is_there(
    service: RunningService, clips: list[str], tmp_path: Path
) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    ended = run(command(service, tmp_path, *clips, *ONE_LEVEL), preexec_fn=small_files)
    assert "WARNING the test ends early:" in ended.stdout, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.returncode == 3
    whole = next(tmp_path.glob("*.jsonl")).read_text().splitlines()
    assert json.loads(whole[0])["status"] == "success"


# ----------------------------------------------------------------------------------------------- what it prints


def test_without_a_terminal_every_line_is_plain(service: RunningService, clips: list[str], tmp_path: Path) -> None:
    ended = run(command(service, tmp_path, *clips, *ONE_LEVEL), env=os.environ | {"ASR_API_TOKEN": "hunter2"})
    assert ended.returncode in (0, 3), ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert ESCAPE not in ended.stdout
    assert "\r" not in ended.stdout
    events, _, summary = ended.stdout.partition("results:   ")
    assert all(re.match(r"\d\d:\d\d:\d\d \S", line) for line in events.splitlines())
    assert f"watching worker {service.pids('worker')[0]} (" in events
    assert "level 1, run 3: 1 of 1 done" in events
    assert "stable concurrent tasks" in summary
    assert not list(tmp_path.glob("*.md"))  # --no-report
    assert os.devnull not in summary
    for text in (ended.stdout, *(file.read_text() for file in tmp_path.iterdir())):
        assert "hunter2" not in text


def test_quiet_prints_the_summary_alone(service: RunningService, clips: list[str], tmp_path: Path) -> None:
    ended = run(command(service, tmp_path, *clips, *ONE_LEVEL, "--quiet", "--no-watch"))
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("results:   ")
    assert lines[1] == "resources: not recorded (--no-watch)"
    assert "stable concurrent tasks" in ended.stdout


def test_the_test_goes_on_when_its_output_is_read_no_more(
    service: RunningService, clips: list[str], tmp_path: Path
) -> None:
    with subprocess.Popen(
        command(service, tmp_path, *clips, *ONE_LEVEL), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()  # as `| head -1` does
        assert process.stderr is not None
        complaints = process.stderr.read()
        process.wait(60)
    assert "Traceback" not in complaints
    assert [line["level_run"] for line in results(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("colours", [True, False])
def test_on_a_terminal_a_live_line_says_where_the_test_is(
    service: RunningService, clips: list[str], tmp_path: Path, colours: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "150"} | ({} if colours else {"NO_COLOR": "1"})
    argv = command(service, tmp_path, *clips, *ONE_LEVEL)
    shown = in_terminal(argv, environment)
    assert re.search(r"concurrency ramp, level 1 of at most 1, run 2 .*\d:\d\d:\d\d elapsed.*worker [\d,]+ MB", shown)
    coloured = re.search(ESCAPE + r"\[[\d;]*3\d[\d;]*m", shown)
    assert bool(coloured) is colours, repr(coloured)


def in_terminal(argv: list[str], environment: dict[str, str]) -> str:
    """Run a command in a pseudo-terminal; everything it showed."""
    terminal, other_end = pty.openpty()
    shown = bytearray()
    with subprocess.Popen(argv, stdin=other_end, stdout=other_end, stderr=other_end, env=environment) as process:
        os.close(other_end)
        deadline = time.monotonic() + 60
        with contextlib.suppress(OSError):  # the other end is closed: the command has ended
            while time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    shown += os.read(terminal, 65536)
        process.kill()
    os.close(terminal)
    return shown.decode(errors="replace")


# ----------------------------------------------------------------------------------------------- cannot start


def refused(argv: list[str]) -> str:
    ended = run(argv)
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("Cannot start: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_without_an_api_it_says_what_to_try(clips: list[str], tmp_path: Path) -> None:
    argv = [sys.executable, str(INSTRUMENT), *clips, "--url", "http://127.0.0.1:9", "--results-dir", str(tmp_path)]
    words = refused(argv)
    assert "API does not answer at http://127.0.0.1:9" in words
    assert "try: curl http://127.0.0.1:9/api/v1/health" in words
    assert not list(tmp_path.iterdir())


def test_without_a_worker_it_says_how_to_start_one(service: RunningService, clips: list[str], tmp_path: Path) -> None:
    argv = [sys.executable, str(INSTRUMENT), *clips, "--url", service.url, "--results-dir", str(tmp_path)]
    words = refused([*argv, "--watch", "worker=no-such-worker"])
    assert "Worker not found among this machine's processes; start it with: rq worker asr-queue --url redis://" in words


def test_a_service_that_says_it_is_unavailable_is_not_tested(clips: list[str], tmp_path: Path) -> None:
    with running_service() as lonely:
        argv = command(lonely, tmp_path, *clips)
        os.kill(lonely.pids("worker")[0], signal.SIGKILL)
        wait_for(lambda: lonely.get("health")["status"] == "unavailable", "the loss to be known")
        assert "API says it is unavailable" in refused(argv)


@pytest.mark.parametrize("folder", ["file/results", "/proc/results"])
def test_a_results_folder_that_cannot_be_written_is_said_before_the_test(
    service: RunningService, clips: list[str], tmp_path: Path, folder: str
) -> None:
    (tmp_path / "file").touch()
    words = refused(command(service, tmp_path / folder, *clips))
    assert "is not writable" in words
    assert "name another with --results-dir" in words


def test_the_script_alone_records_and_says_that_it_cannot_judge(
    service: RunningService, clips: list[str], tmp_path: Path
) -> None:
    alone = Path(shutil.copy(INSTRUMENT, tmp_path))
    argv = command(service, tmp_path / "results", *clips, *ONE_LEVEL)
    ended = run([argv[0], str(alone), *argv[2:]], cwd=tmp_path)
    assert "Recorded but not judged: analyze_stress_test.py is not beside this script" in ended.stdout
    assert ended.returncode == 3
    assert len(results(tmp_path / "results")) == 4
