"""The script killed at each point of a batch: what is on disk then, and what the reader makes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stress_report.recording import read_run

TESTS = Path(__file__).resolve().parents[1]
SIZE = 3  # tasks of the batch in which the script is killed; the one before it is the warm-up task
RUN_TIMEOUT_S = 60

# The script with a kill planted at one point of batch 2: around the log's methods, or inside the writing of its line.
KILLED = """
import os, signal, sys
import memory_leak_stress_test as test

point = sys.argv.pop(1)
Log, calls = test.ResultLog, []
append, hold, release, write = Log.append, Log.hold, Log.release, os.write

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def killing_append(log, result):
    calls.append(result.batch)
    if (point, calls.count(2)) in (("before the first line", 1), ("between lines", 2)):
        die()
    append(log, result)

def killing_hold(log, result):
    if result.batch == 2 and point == "last outcome not held":
        die()
    hold(log, result)
    calls.append(("held", result.batch))
    if (point, calls.count(("held", 2))) in (("pending written", 1), ("pending complete", 2)):
        die()

def killing_release(log, **end):
    of_batch_2 = log._held is not None and log._held.batch == 2
    if of_batch_2 and point == "line torn":
        os.write = lambda fd, line: die(write(fd, line[: len(line) // 2]))
    if of_batch_2 and point == "line whole, pending still there":
        os.unlink = die
    release(log, **end)
    if of_batch_2 and point == "pending removed":
        die()

Log.append, Log.hold, Log.release = killing_append, killing_hold, killing_release
sys.exit(test.main())
"""


class Handler(BaseHTTPRequestHandler):
    """A service whose tasks are done at once."""

    protocol_version = "HTTP/1.1"

    def answer(self, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        if self.path.endswith("/health"):
            self.answer({"status": "ready"})
        else:
            self.answer({"status": "done", "text": "it was"})

    def do_POST(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"task_id": f"task-{threading.get_ident()}", "status": "queued"})

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(("point", "lines", "pending", "results", "facts_known"), [
    ("before the first line", 1, False, 0, False),
    ("between lines", 2, False, 1, False),
    ("last outcome not held", 3, False, 2, False),
    ("pending written", 3, True, 3, False),
    ("pending complete", 3, True, 3, True),
    ("line torn", 3, True, 3, True),
    ("line whole, pending still there", 4, True, 3, True),
    ("pending removed", 4, False, 3, True),
])
def test_what_is_read_back_after_a_kill(point: str, lines: int, pending: bool, results: int, facts_known: bool,
                                        url: str, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "clip.wav"), "wb") as clip:
        clip.setparams((1, 2, 16000, 0, "NONE", "NONE"))
        clip.writeframes(bytes(32000))
    clips = ["--short-audio", str(tmp_path / "clip.wav"), "--long-audio", str(tmp_path / "clip.wav")]
    command = [sys.executable, "-c", KILLED, point, "--url", url, "--phase", "concurrency", "--no-watch", "--start",
               str(SIZE), "--max-concurrency", str(SIZE), "--rtf-limit", "0", *clips, "--results-dir", str(tmp_path),
               "--no-report", "--settle-timeout", "0.1"]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=RUN_TIMEOUT_S, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    [jsonl] = tmp_path.glob("*.jsonl")
    text = jsonl.read_text()
    assert text.count("\n") == lines
    assert text.endswith("\n") is (point != "line torn")
    assert [path.name for path in tmp_path.glob("*.json")] == ([f"{jsonl.stem}.pending.json"] if pending else [])

    run = read_run(jsonl, None)
    batch = [result for result in run.results if result.batch == 2]
    assert [result.batch for result in run.results] == [1] + [2] * results
    assert len({result.test_id for result in run.results}) == 1 + results, "none counts twice"
    assert {result.settings["start"] for result in run.results} == {SIZE}
    assert run.skipped.total() == 0, "a line that was torn by the kill is whole in the pending file"
    assert all((result.level is not None) is facts_known for result in batch)
    assert not any(result.end for result in run.results)
