"""`make bench-results`: what it costs to put one result safely on disk, after 100 and after 10,000 results.

A batch of one task is held (written beside the results) twice and becomes a line once, as in the leak phase; that is
three times flushed and fsynced. Beside it, in the same run, the least that any tool must do: append a line of the same
size, flush and fsync it. The cost per result must not grow with the number of results.

Exit status: 0 where the later results cost no more than GROWTH_LIMIT times the first ones, 1 where they do.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from memory_leak_stress_test import ProcessMemory, ResultLog, RoleMemory, Settings, TaskResult, host_facts

RESULTS = 10_000
LOT = 100  # results whose median is taken, at the beginning and at the end
GROWTH_LIMIT = 1.5  # wide enough for a busy disk: a file that is written anew costs 100 times more at the end


def result(number: int) -> TaskResult:
    """A result of a service with two workers of four processes each."""
    processes = [ProcessMemory(100 + n, "2026-01-05T08:00:00.000", "rq", 700.0, False, True, n % 4 == 0, 650.0)
                 for n in range(8)]
    memory = {"worker": RoleMemory(1300.0, 1300.0, 1200.0, 1200.0, 1800.0, processes)}
    return TaskResult(f"clip_c1_{number:04d}", "leak", "2026-01-05T08:00:00.000", "clip.wav", 4.7, 147.0, 1, "success",
                      batch=number, cycle=number, processing_time=9.1, rtf=0.06, settled=True, memory=memory,
                      settings=Settings().for_record(), host=host_facts())


def seconds_each(write: Callable[[int], None], results: int) -> list[float]:
    taken = []
    for number in range(1, results + 1):
        begin = time.perf_counter()
        write(number)
        taken.append(time.perf_counter() - begin)
    return taken


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="result_cost.py", description="Cost of one result on disk.")
    cli.add_argument("--results", type=int, default=RESULTS, help="results written (%(default)s)")
    options = cli.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        log = ResultLog(Path(folder, "run.jsonl"))

        def ours(number: int) -> None:
            one = result(number)
            log.hold(one)
            log.hold(one)  # complete now
            log.release()

        taken = seconds_each(ours, options.results)
        log.close()
        line = (result(options.results).to_json() + "\n").encode()
        bare = os.open(Path(folder, "bare.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def least(_: int) -> None:
            os.write(bare, line)
            os.fsync(bare)

        floor = statistics.median(seconds_each(least, LOT))
        os.close(bare)
    first, last = statistics.median(taken[:LOT]), statistics.median(taken[-LOT:])
    print(f"Python {platform.python_version()}, line of {len(line)} bytes")
    for name, seconds in (("a bare append and fsync", floor), (f"result 1 to {LOT}", first),
                          (f"result {options.results - LOT + 1:,} to {options.results:,}", last)):
        print(f"{name:26} {1000 * seconds:7.3f} ms  {seconds / floor:5.1f} x")
    if last > GROWTH_LIMIT * first:
        print(f"FAILED: the cost of a result grows with their number ({last / first:.1f} x, limit {GROWTH_LIMIT})")
        return 1
    print(f"held: the last results cost {last / first:.2f} x the first (limit {GROWTH_LIMIT})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
