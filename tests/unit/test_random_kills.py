"""A whole run killed at random moments: what had been seen done is read back, and never as a pass.

KILLS=100 KILL_SEED=2 .venv/bin/python -m pytest tests/unit/test_random_kills.py -s     tries more, and others
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
import wave
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, cast

import pytest

import analyze_stress_test as reader
from memory_leak_stress_test import EXIT_INCONCLUSIVE, EXIT_PASS, EXIT_USAGE, TaskResult
from stress_report.recording import Unreadable, read_run

RESULT = "/result/"

TESTS = Path(__file__).resolve().parents[1]
KILLS, SEED = int(os.environ.get("KILLS", "8")), int(os.environ.get("KILL_SEED", "1"))
CYCLES, MOST = 6, 3  # of the leak phase; concurrent tasks of the ramp
AT_A_TIME = 3  # runs beside each other
RUN_TIMEOUT_S = 60

# The script with all its waits cut short, so that a kill comes as often as can be between two steps, not in a wait.
FAST = """
import sys
import memory_leak_stress_test as test

test.SETTLE_S, test.TICK_S, test.SCAN_S, test.POLL_FLOOR_S = 0.1, 0.05, 0.5, 0.01
sys.exit(test.main())
"""
WORKER = """
import sys, time
for _ in sys.stdin:
    end = time.process_time() + 0.03
    while time.process_time() < end:
        pass
    print(flush=True)
"""


class Service:
    """Its tasks are done as soon as the worker has worked on them; it remembers which it told to be done, in order."""

    def __init__(self, worker: subprocess.Popen[str]) -> None:
        self.told: list[str] = []
        numbers, turn, told = itertools.count(), threading.Lock(), self.told

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, **content: str) -> None:
                body = json.dumps(content).encode()
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

            def do_GET(self) -> None:
                if RESULT in self.path:
                    self.answer(status="done", text="it was")
                    told.append(self.path.rpartition("/")[2])
                else:
                    self.answer(status="ready")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with turn:
                    name = f"id-{next(numbers)}"
                    print(name, file=worker.stdin, flush=True)
                    cast(IO[str], worker.stdout).readline()
                self.answer(task_id=name)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Its client is killed."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@dataclass
class Run:
    """What is left of a run: `jsonl` is None where it had not begun to record."""

    after_s: float
    status: int
    jsonl: Path | None
    told: list[str]  # without that of the first task, which is of no phase


@contextlib.contextmanager
def service() -> Iterator[tuple[Service, int]]:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as worker:
        made = Service(worker)
        thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield made, worker.pid
        finally:
            made.server.shutdown()
            made.server.server_close()
            with contextlib.suppress(BrokenPipeError):  # it was killed in the middle of a line
                worker.communicate()


def run(folder: Path, clips: Sequence[Path], kill_after_s: float | None) -> Run:
    """A run of all phases, killed so long after its start."""
    with service() as (asked, pid):
        command = [sys.executable, "-c", FAST, "--url", asked.url, "--pid", f"worker={pid}", "--min-cycles", CYCLES,
                   "--max-cycles", CYCLES, "--max-concurrency", MOST, "--short-audio", clips[0], "--long-audio",
                   clips[1], "--results-dir", folder, "--no-report", "--interval", 0.2]
        began = time.monotonic()
        with subprocess.Popen([str(word) for word in command], env=os.environ | {"PYTHONPATH": str(TESTS)},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                said, _ = process.communicate(timeout=kill_after_s or RUN_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
        took = time.monotonic() - began
    assert "Traceback" not in said, said
    return Run(took, process.returncode, next(folder.glob("*.jsonl"), None), asked.told[1:])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = [tmp_path_factory.mktemp("clips") / f"{name}.wav" for name in ("short", "long")]
    for clip, seconds in zip(made, (100, 300), strict=True):  # so that no task of a busy machine takes as long
        with wave.open(str(clip), "wb") as file:
            file.setparams((1, 2, 1000, 0, "NONE", ""))
            file.writeframes(bytes(2000 * seconds))
    return made


def test_what_was_done_before_a_kill_is_read_back_and_never_as_a_pass(
    clips: Sequence[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(tmp_path / "whole", clips, None)
    assert whole.status in (EXIT_PASS, EXIT_INCONCLUSIVE), "it passes, unless the machine is too busy to measure"
    chance = random.Random(SEED)
    moments = [chance.uniform(0, whole.after_s) for _ in range(KILLS)]
    with ThreadPoolExecutor(AT_A_TIME) as runs:
        killed = list(runs.map(lambda n: run(tmp_path / str(n), clips, moments[n]), range(KILLS)))
    capsys.readouterr()
    found = Counter[str]()
    for each in killed:
        if each.jsonl is None:
            assert each.told == [], "nothing was sent before there was a record"
            found["before the first task"] += 1
            continue
        results: list[TaskResult] = []
        with contextlib.suppress(Unreadable):  # it holds no line yet
            results = read_run(each.jsonl, None).results
        kept = [result.task_id for result in results]
        lost = [name for name in each.told if name not in kept]
        assert set(lost) <= set(each.told[-MOST:]), "all that had ended before the last batch is there"
        assert len(set(kept)) == len(kept), "none counts twice"
        status = reader.main([str(each.jsonl), "--no-charts"])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert status != EXIT_PASS or results[-1].end, "never a pass, unless only the report was killed"
        assert (status == EXIT_USAGE) is (not results), said.err
        in_report = bool(results) and results[-1].end
        found["in the report" if in_report else "phase " + results[-1].phase if results else "no line yet"] += 1
        found["kills that lost what was just coming in"] += bool(lost)
        found["results told and not kept"] += len(lost)
        found["results kept"] += len(kept)
    with capsys.disabled():
        print(f"\n{KILLS} kills of a run of {whole.after_s:.1f} s (status {whole.status}):", dict(found))
    assert found["results kept"] > KILLS, "most of them hit a run that had begun"
    assert found["kills that lost what was just coming in"] <= max(2, KILLS // 10), "that takes a moment, and no longer"
