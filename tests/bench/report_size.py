"""`make bench-report`: what a report of the largest run costs, in seconds and memory on one core.

Writes a run of 10,000 result lines and a CSV of 1,000,000 rows (two workers, an API, short-lived work-horses; about
four days at one sample per second), runs the reader on it as a user does, charts included, and beside it the least
that any tool must do with these files: a loop of Python's csv and json modules that adds up and forgets every row.

Exit status: 0 within the limits, 1 beyond them.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from memory_leak_stress_test import ProcessMemory, RoleMemory, Settings, TaskResult, host_facts

READER = Path(__file__).resolve().parents[1] / "analyze_stress_test.py"
LIMIT_S, LIMIT_MB = 5.0, 300.0
ROWS, LINES = 1_000_000, 10_000
BEGIN = datetime(2026, 1, 5, 8, 0, 0)
TASK_S, HORSE_S = 30, 20  # a task every 30 s, whose work-horse is seen in 20 samples

BASELINE = """
import csv, json, sys
rows = total = peak = 0
with open(sys.argv[2], newline="") as file:
    for row in csv.DictReader(file):
        rows, total, peak = rows + 1, total + float(row["cpu_percent"]), max(peak, float(row["memory_rss_mb"]))
with open(sys.argv[1]) as file:
    print(rows, round(total), peak, sum(json.loads(line)["status"] == "success" for line in file))
"""


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="report_size.py", description="Seconds and memory of the largest report.")
    cli.add_argument("--rows", type=int, default=ROWS, help="rows of the CSV (%(default)s)")
    cli.add_argument("--lines", type=int, default=LINES, help="lines of the JSONL (%(default)s)")
    options = cli.parse_args(argv)
    if hasattr(os, "sched_setaffinity"):  # Linux: one core for everything below
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        jsonl = Path(folder, "memory_leak_stress_test_20260105_080000.jsonl")
        resources = Path(folder, "system_resources_20260105_080000.csv")
        seconds = write_samples(resources, options.rows)
        write_results(jsonl, options.lines, seconds)
        sizes = " and ".join(f"{path.stat().st_size / 1e6:.0f} MB" for path in (resources, jsonl))
        print(f"{options.rows:,} CSV rows and {options.lines:,} result lines ({sizes}), Python "
              f"{platform.python_version()}")
        least = measure([sys.executable, "-c", BASELINE, str(jsonl), str(resources)])
        print(f"{'csv and json modules alone':27} {least[0]:5.2f} s {least[1]:5.0f} MB")
        reader = [sys.executable, str(READER), str(jsonl)]
        for name, command in (("reader without charts", [*reader, "--no-charts"]), ("reader with charts", reader)):
            taken = measure(command)
            print(f"{name:27} {taken[0]:5.2f} s {taken[1]:5.0f} MB   {taken[0] / least[0]:.2f} times as long")
    held = taken[0] < LIMIT_S and taken[1] < LIMIT_MB
    print(f"limits with charts, on one core: {LIMIT_S:g} s and {LIMIT_MB:g} MB: {'held' if held else 'BROKEN'}")
    return 0 if held else 1


def write_samples(path: Path, rows: int) -> int:
    """Two workers whose jobs run in work-horses, and an API. Returns the seconds that this many rows last."""
    written = second = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("timestamp,elapsed_seconds,process_name,pid,cpu_percent,memory_rss_mb,memory_percent\n")
        while written < rows:
            stamp = (BEGIN + timedelta(seconds=second)).isoformat(timespec="milliseconds")
            processes = [("rq", 100, 400 + second * 7 % 23), ("rq", 101, 410 + second * 5 % 19),
                         ("uvicorn", 200, 60 + second % 3)]
            if second % TASK_S < HORSE_S:
                processes.append(("rq", 1000 + second // TASK_S, 300 + 10 * (second % TASK_S)))
            for name, pid, rss in processes[: rows - written]:
                file.write(f"{stamp},{second:.3f},{name},{pid},{second * 13 % 100:.1f},{rss:.3f},{rss / 240:.2f}\n")
            written, second = written + len(processes), second + 1
    return second


def write_results(path: Path, lines: int, seconds: int) -> None:
    """Leak cycles of a short and a long clip, spread over the time of the samples, as the instrument writes them."""
    settings, host = Settings().for_record(), host_facts()
    with path.open("w", encoding="utf-8") as file:
        for number in range(1, lines + 1):
            at = BEGIN + timedelta(seconds=seconds * number / lines)
            born = (BEGIN - timedelta(hours=1)).isoformat(timespec="milliseconds")
            workers = [ProcessMemory(pid, born, "rq", 430.0, False, True, True, 380.0) for pid in (100, 101)]
            horse = ProcessMemory(1000 + number, at.isoformat(), "rq", 490.0, ended=True, held_mb=450.0)
            api = ProcessMemory(200, born, "uvicorn", 61.0, False, True, True, 50.0)
            memory = {"worker": RoleMemory(810.0, 810.0, 760.0, 760.0 + number % 5, 1300.0, [*workers, horse]),
                      "api": RoleMemory(60.0, 60.0, 50.0, 50.0, 61.0, [api])}
            clip = ("short", "long")[number % 2]
            result = TaskResult(
                f"{clip}_c1_{number:04d}", "leak", at.isoformat(timespec="milliseconds"), f"{clip}.wav", 4.7, 147.0, 1,
                "success", cycle=(number - 1) // 2, task_id=f"{number:032x}", processing_time=8.0, time_error=0.2,
                submit_offset=0.001, rtf=0.0544, empty_text=False, worker_rss_before_mb=810.0,
                worker_rss_after_mb=810.0, worker_rss_delta_mb=0.0, worker_rss_peak_mb=1300.0, settled=True,
                memory=memory, settings=settings, host=host)
            file.write(result.to_json() + "\n")


def measure(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of one core (user and system) and peak RSS (10^6 bytes) of a command that must not end in a traceback.

    What other programs of a busy host take from the core does not count.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 3):
        sys.exit(f"{command[1]} ended with status {process.returncode}: nothing was measured")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    sys.exit(main())
