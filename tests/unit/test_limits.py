"""What the system withholds: threads, processes, and the clips themselves. One sentence, and no result is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import EndsEarly, GpuMeter, ProcessTable, Sampler, Screen, read_clips
from stress_report.judging import judge
from stress_report.recording import read_run
from unit.test_hostile_server import RESULT, SUBMIT, Hostile, Talk, http
from unit.test_interruption import after, stress_test

TESTS = Path(__file__).resolve().parents[1]
NOBODY = 54321  # an id of no user, so that nobody's threads count but the test's
DONE: Talk = lambda sock: sock.sendall(http('{"status": "done", "text": "it was"}'))  # noqa: E731


def few_threads(most: int) -> list[str]:
    """How to start a command that gets so many threads and processes: the limit counts those of one user.

    Root with all its rights has none, so that it is given up; what it may read stays.
    """
    return ["setpriv", f"--ruid={NOBODY}", "--euid=0", "--bounding-set=-sys_resource,-sys_admin", "prlimit",
            f"--nproc={most}"]


may_limit = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("prlimit"),
                               reason="only root can run a command as another user")


def clip_in(folder: Path, seconds: int = 2) -> Path:
    with wave.open(str(folder / "clip.wav"), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(bytes(2000 * seconds))
    return folder / "clip.wav"


def limited(most: int, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    clip, server = str(clip_in(folder)), Hostile({RESULT: DONE})
    command = [sys.executable, TESTS / "memory_leak_stress_test.py", "--url", server.url, "--short-audio", clip,
               "--long-audio", clip, "--results-dir", folder, "--phase", "concurrency", "--start", "2",
               "--max-concurrency", "3", "--no-report", *options]
    ended = subprocess.run([*few_threads(most), *map(str, command)], capture_output=True, text=True, timeout=120,
                           check=False)
    server.listener.close()
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended


@may_limit
def test_the_ramp_ends_in_order_where_there_are_no_more_threads(tmp_path: Path) -> None:
    ended = limited(3, tmp_path, "--no-watch", "--settle-timeout", "0.1")
    assert ended.returncode == instrument.EXIT_INCONCLUSIVE
    assert "too few threads for 3 concurrent tasks (raise the limit: ulimit -u" in ended.stdout
    [jsonl] = tmp_path.glob("*.jsonl")
    ramp = judge(read_run(jsonl, [])).ramp
    assert (ramp.max_stable, ramp.confirmed, ramp.stop_reason) == (2, True, "client_limited")


@may_limit
def test_one_that_gets_no_thread_at_all_says_so_and_how_to_judge_what_there_is(tmp_path: Path) -> None:
    ended = limited(1, tmp_path, "--no-watch")
    assert ended.returncode == instrument.EXIT_INCONCLUSIVE
    assert "the test ends early: the system gives this tool too few threads for 1 concurrent task" in ended.stdout
    assert "the report's process cannot be started (Resource temporarily unavailable). Make it with: " in ended.stdout
    watched = limited(1, tmp_path, "--pid", f"worker={os.getpid()}")
    assert watched.returncode == instrument.EXIT_NO_START
    assert "Cannot start: The system gives this tool no thread to watch processes with; raise" in watched.stderr


def test_a_start_that_gets_no_thread_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refused)
    with pytest.raises(instrument.CannotStart, match="no thread to watch"), Sampler(
            ProcessTable({}, {}, set()), None, 1.0):
        pass
    nothing: Any = None
    with pytest.raises(instrument.CannotStart, match="no thread to watch GPUs"), GpuMeter(
            nothing, nothing, tmp_path / "gpu.csv"):
        pass
    screen, stopped = Screen(False, None), []
    screen.live = SimpleNamespace(start=refused, stop=lambda: stopped.append(1))  # type: ignore[assignment]
    with screen:
        assert (screen.live, stopped) == (None, [1])


# ------------------------------------------------------------------------------------------------ clips that change


def truncated(clip: Path) -> None:
    os.truncate(clip, 10)


def written_over(clip: Path) -> None:
    content = clip.read_bytes()
    clip.write_bytes(content[:100] + b"x" * (len(content) - 100))


def replaced(clip: Path) -> None:
    clip.with_name("new").write_bytes(b"x")
    clip.with_name("new").rename(clip)


@pytest.mark.parametrize("change", [truncated, written_over])
def test_a_clip_that_changes_is_sent_no_more(change: Callable[[Path], None], tmp_path: Path) -> None:
    clips = read_clips(clip_in(tmp_path))
    clips.take()
    change(clips.path)
    with pytest.raises(EndsEarly, match="clip.wav was changed while the test ran"):
        clips.take()


@pytest.mark.parametrize("change", [Path.unlink, replaced])
def test_a_clip_that_is_deleted_or_replaced_is_sent_as_it_was(change: Callable[[Path], None], tmp_path: Path) -> None:
    clips = read_clips(clip_in(tmp_path))
    before = b"".join(instrument.excerpt(clips.clips[0], 1.0).parts)
    change(clips.path)
    assert clips.take().size_bytes > 3_900
    assert b"".join(instrument.excerpt(clips.clips[0], 1.0).parts) == before


@pytest.mark.parametrize(("change", "status", "said", "least"), [
    (truncated, 3, "clip.wav was changed while the test ran. What was recorded is kept", 3),
    (Path.unlink, 3, "cycle 6: ", 14)])
def test_a_run_whose_clip_goes_ends_in_order(change: Callable[[Path], Any], status: int, said: str, least: int,
                                             tmp_path: Path) -> None:
    def sabotage(sock: Any) -> None:
        if (tmp_path / "clip.wav").exists():
            change(tmp_path / "clip.wav")
        accept(sock)

    def accept(sock: Any) -> None:
        sock.sendall(http('{"task_id": "t"}'))

    talks = {SUBMIT: after(4, accept, sabotage), RESULT: DONE}
    with stress_test(tmp_path, talks, "--min-cycles", "6", "--max-cycles", "6", "--no-report") as (process, _):
        told = process.communicate(timeout=120)[0]
    assert process.returncode == status, told
    assert said in told
    assert "Traceback" not in told
    [jsonl] = (tmp_path / "results").glob("*.jsonl")
    assert len(read_run(jsonl, []).results) >= least
