"""`make demo` as a person runs it, and ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from e2e.service import PATIENCE_S, lives, role_of, wait_for
from support import demo


def test_ctrl_c_ends_the_demo_with_its_service_and_leaves_the_results(tmp_path: Path) -> None:
    command = [sys.executable, demo.__file__, "--results-dir", str(tmp_path), "--no-report"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            wait_for(lambda: [f for f in tmp_path.glob("*.jsonl") if f.stat().st_size], "a first result")
            started = psutil.Process(process.pid).children(recursive=True)
            workers = [p.pid for p in started if role_of(p) == "worker"]
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all in the foreground
            printed, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130, printed
    assert "Demo: interrupted; everything measured until then is kept." in printed
    assert sorted(map(int, re.findall(r"--pid worker=(\d+)", printed))) == sorted(workers) != []
    assert len(started) >= 4  # stress test, redis-server, worker, uvicorn
    wait_for(lambda: not [p for p in started if lives(p)], "every process to end")


@pytest.mark.parametrize(
    ("status", "verdict", "exit_status", "words"),
    [
        (1, "LEAK", 0, "It works."),
        (1, "NO LEAK", 1, "was not found (worker: NO LEAK)"),
        (0, "NO LEAK", 1, "was not found"),
        (3, "INCONCLUSIVE", 3, "was not found"),
        (130, "LEAK", 130, "interrupted"),
        (4, "LEAK", 4, "could not start"),
    ],
)
def test_a_planted_leak_must_be_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    status: int, verdict: str, exit_status: int, words: str,
) -> None:
    monkeypatch.setattr(demo, "worker_verdict", lambda results, started: verdict)
    assert demo.conclude(status, 60, Path(), 0.0) == exit_status
    assert words in capsys.readouterr().out


@pytest.mark.parametrize("status", [0, 1, 3, 4, 130])
def test_without_a_planted_leak_the_status_is_the_stress_tests(status: int) -> None:
    assert demo.conclude(status, 0, Path(), 0.0) == status
