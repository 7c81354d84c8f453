"""Ctrl-C in whole runs, against a service that hangs wherever it likes: once ends in order, twice at once."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stress_report.recording import result_from_json
from unit.test_hostile_server import GOOD, HEALTH, RESULT, SLOW, SUBMIT, Hostile, Talk

TESTS = Path(__file__).resolve().parents[1]
REPORT_S = 12.0  # the reader's start on a busy machine


def after(times: int, first: Talk, then: Talk) -> Talk:
    asked = itertools.count()
    return lambda sock: (first if next(asked) < times else then)(sock)


@contextlib.contextmanager
def stress_test(folder: Path, talks: dict[str, Talk], *options: str,
             script: Path = TESTS / "memory_leak_stress_test.py") -> Iterator[tuple[subprocess.Popen[str], Hostile]]:
    clip, server = folder / "clip.wav", Hostile(talks)
    with wave.open(str(clip), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(bytes(4000))
    command = [sys.executable, str(script), "--url", server.url, "--no-watch", "--phase", "leak", "--short-audio",
               str(clip), "--long-audio", str(clip), "--settle-timeout", "0.1", "--results-dir",
               str(folder / "results"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          start_new_session=True) as process:
        try:
            yield process, server
        finally:
            process.kill()
            server.listener.close()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def whole_lines(folder: Path) -> list[str | None]:
    """Kinds of error in the results, each line of which is whole."""
    text = "".join(file.read_text() for file in (folder / "results").glob("*.jsonl"))
    assert not text or text.endswith("\n")
    return [result_from_json(line).error_kind for line in text.splitlines()]


@pytest.mark.parametrize("page", [HEALTH, SUBMIT, RESULT])
@pytest.mark.parametrize("slow", ["never answers", "a byte of a header at a time", "100 Continue for ever"])
def test_ctrl_c_ends_a_run_that_hangs_and_every_task_has_its_line(slow: str, page: str, tmp_path: Path) -> None:
    talks = {page: after(6, GOOD[page], SLOW[slow])}
    with stress_test(tmp_path, talks, "--no-report") as (process, server):
        until(lambda: server.pages.count(page) == 7)
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
        assert time.monotonic() - began < 5 + REPORT_S
        assert process.returncode == 130, said
    assert "Traceback" not in said
    kinds = whole_lines(tmp_path)
    assert kinds[-1] == "interrupted"
    assert set(kinds[:-1]) == {None}


def test_a_second_ctrl_c_ends_at_once_with_the_files_whole(tmp_path: Path) -> None:
    with stress_test(tmp_path, {RESULT: after(6, GOOD[RESULT], SLOW["never answers"])}) as (process, server):
        until(lambda: server.pages.count(RESULT) == 7)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
        assert time.monotonic() - began < 5.0
        assert process.returncode == 130, said
    assert said.rstrip().endswith("interrupted")
    assert "Traceback" not in said
    assert len(whole_lines(tmp_path)) >= 4
    assert not list((tmp_path / "results").glob("*.md"))


def test_ctrl_c_while_the_report_is_written_leaves_the_results_and_says_how_to_make_it(tmp_path: Path) -> None:
    shutil.copy(TESTS / "memory_leak_stress_test.py", tmp_path / "memory_leak_stress_test.py")
    (tmp_path / "analyze_stress_test.py").write_text("import time\nprint('READING', flush=True)\ntime.sleep(60)\n")
    with stress_test(tmp_path, {}, "--min-cycles", "1", "--max-cycles", "1",
                  script=tmp_path / "memory_leak_stress_test.py") as (process, _):
        told = ""
        for line in iter(process.stdout.readline, "") if process.stdout else ():
            told += line
            if "READING" in line:
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        told += process.communicate(timeout=120)[0]
        assert time.monotonic() - began < 5.0
        assert process.returncode == 130, told
    assert "The report was not finished. The results are whole; make it with: " in told
    assert f"{tmp_path}/analyze_stress_test.py {tmp_path}/results/memory_leak_stress_test_" in told
    lines = [json.loads(line) for file in (tmp_path / "results").glob("*.jsonl") for line in file.open()]
    assert lines[-1]["end"] is True


@pytest.mark.parametrize(("reader", "status", "said"), [
    ("os.kill(os.getpid(), signal.SIGKILL)", 3, "The report was not finished. The results are whole; make it with: "),
    ("sys.exit(1)", 1, "")])
def test_a_reader_that_is_killed_is_inconclusive_and_said(reader: str, status: int, said: str, tmp_path: Path) -> None:
    """As for lack of memory after a stress test."""
    shutil.copy(TESTS / "memory_leak_stress_test.py", tmp_path / "memory_leak_stress_test.py")
    (tmp_path / "analyze_stress_test.py").write_text(f"import os, signal, sys\n{reader}\n")
    with stress_test(tmp_path, {}, "--min-cycles", "1", "--max-cycles", "1",
                     script=tmp_path / "memory_leak_stress_test.py") as (process, _):
        told = process.communicate(timeout=120)[0]
    assert process.returncode == status, told
    assert said in told
    assert bool(said) == ("The report was not finished" in told)


INSIDE_A_WAIT = """
import signal, threading
from memory_leak_stress_test import end_with_signals

aborted = threading.Event()
end_with_signals(aborted)
with aborted._cond:  # as wait() holds it for moments
    signal.raise_signal(signal.SIGINT)
print(aborted.wait(10))
"""


def test_a_signal_inside_a_wait_for_the_end_does_not_hang() -> None:
    ended = subprocess.run([sys.executable, "-c", INSIDE_A_WAIT], env=os.environ | {"PYTHONPATH": str(TESTS)},
                           capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "True\n", ended.stderr
