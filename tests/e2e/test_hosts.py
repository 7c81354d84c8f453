"""Hosts that are watched for themselves while the load comes from elsewhere: live, one of two workers leaks.

Both hosts are this machine, each with a monitor of its own; the second's clock is set ahead in what it recorded.
"""

from __future__ import annotations

import contextlib
import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asr_service.audio import build_clip
from e2e.service import PATIENCE_S, TESTS, wait_for
from memory_leak_stress_test import EXIT_FAIL, EXIT_INTERRUPTED

pytestmark = pytest.mark.alone

KEEPS_MB = 60  # of each task, in the first worker
AHEAD_S = 2.0
CYCLES = 6  # a leak of so much shows in fewer cycles than anything else
INSTRUMENT, READER = TESTS / "memory_leak_stress_test.py", TESTS / "analyze_stress_test.py"


@contextlib.contextmanager
def two_workers() -> Iterator[tuple[str, list[str]]]:
    """The service's URL and the pids of its workers."""
    command = [sys.executable, str(TESTS / "e2e" / "two_workers.py"), str(KEEPS_MB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            url, *pids = service.stdout.readline().split()
            yield url, pids
        finally:
            service.kill()


@contextlib.contextmanager
def monitors(watched: Mapping[str, Path]) -> Iterator[None]:
    """A monitor of each worker, by its pid; ended as a person does it, when everything is at rest."""
    with contextlib.ExitStack() as all_of_them:
        watching = [all_of_them.enter_context(monitor(pid, folder)) for pid, folder in watched.items()]
        for folder in watched.values():
            wait_for(lambda folder=folder: any(len(path.read_text().splitlines()) > 1  # type: ignore[misc]
                                               for path in folder.glob("*.csv")), "the monitor to record")
        yield
        for each in watching:
            each.send_signal(signal.SIGINT)
        assert [each.wait(PATIENCE_S) for each in watching] == [EXIT_INTERRUPTED] * len(watching)


@contextlib.contextmanager
def monitor(pid: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(INSTRUMENT), "--phase", "monitor", "--duration", "10m", "--pid", f"worker={pid}",
               "--results-dir", str(folder), "--no-report"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as watching:
        try:
            yield watching
        finally:
            watching.kill()


def set_ahead(folder: Path) -> Path:
    """Move every wall-clock time that a monitor recorded; returns its CSV."""
    (path,), (lines,) = folder.glob("*.csv"), folder.glob("host_*.jsonl")

    def later(stamp: str) -> str:
        return (datetime.fromisoformat(stamp) + timedelta(seconds=AHEAD_S)).isoformat(timespec="milliseconds")

    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    path.write_text("".join(",".join(row) + "\n" for row in [head, *([later(row[0]), *row[1:]] for row in rows)]))
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    lines.write_text("".join(json.dumps(each | {"timestamp": later(each["timestamp"])}) + "\n" for each in records))
    return path


@dataclass(frozen=True)
class Watched:
    """What the reader makes of a run whose two workers were watched by a monitor each."""

    status: int
    printed: str
    summary: dict[str, Any]
    leaking_pid: int

    @property
    def leak(self) -> dict[str, Any]:
        found: dict[str, Any] = self.summary["leak_under_load"]
        return found


def watched_run(folder: Path) -> Watched:
    clip = build_clip(folder / "clip.wav", 2.0)
    first, second, load = folder / "first", folder / "second", folder / "load"
    with two_workers() as (url, pids), monitors(dict(zip(pids, (first, second), strict=True))):
        command = [sys.executable, str(INSTRUMENT), "--url", url, "--no-watch", "--phase", "loaded", "--at-once", "2",
                   "--min-cycles", str(CYCLES), "--max-cycles", str(CYCLES), "--short-audio", str(clip), "--long-audio",
                   str(clip), "--results-dir", str(load), "--no-report", "--quiet"]
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
    (run,), (beside,) = load.glob("*.jsonl"), first.glob("*.csv")
    judged = subprocess.run([sys.executable, str(READER), str(run), "--resources", str(beside), str(set_ahead(second)),
                             "--json"], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return Watched(judged.returncode, judged.stdout + judged.stderr, json.loads(judged.stdout), int(pids[0]))


def test_a_leak_on_one_of_two_hosts_is_found_there_and_at_its_rate(tmp_path: Path) -> None:
    run = watched_run(tmp_path)
    if run.leak["worker"]["verdict"] == "INCONCLUSIVE":  # this machine was too busy for memory to be seen at rest
        run = watched_run(tmp_path / "again")
    assert run.status == EXIT_FAIL, run.printed
    (name, other), leak = run.summary["hosts"], run.leak
    assert leak[f"worker@{name}"]["verdict"] == leak["worker"]["verdict"] == "LEAK"
    assert leak[f"worker@{name}"]["mb_per_cycle"] == pytest.approx(KEEPS_MB, abs=2.0)
    assert leak[f"worker@{name}"]["pid"] == run.leaking_pid
    assert leak[f"worker@{other}"]["verdict"] == "NO LEAK"
    assert abs(leak[f"worker@{other}"]["mb_per_cycle"]) < 2.0
    clocks = run.summary["hosts"][name], run.summary["hosts"][other]
    for clock, ahead in zip(clocks, (0.0, AHEAD_S), strict=True):
        if clock["clock_compared_by"] == "work":  # not where NTP keeps this machine's clock
            assert clock["clock_offset_s"] == pytest.approx(ahead, abs=clock["clock_error_s"])
