"""`make bench-long`: does the tool itself stay as small in a night as it was in its first minute?

It monitors a worker that starts a short-lived child again and again, at 100 times the usual rate of samples and looks,
so that five minutes stand for eight hours. Once a second its private memory, open files and threads are read from
outside. The first third is its start; after it nothing may grow.

Exit status: 0 where nothing grew by more than GROWTH_LIMIT_MB (threads: not at all), 1 where it did.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
INTERVAL_S = 1.0  # between samples, as usual
GROWTH_LIMIT_MB = 2.0
FASTER = """
import sys
import memory_leak_stress_test as test

times = float(sys.argv.pop(1))
test.TICK_S, test.SCAN_S = test.TICK_S / times, test.SCAN_S / times
parse = test.parse_command_line
test.parse_command_line = lambda argv: test.dataclasses.replace(parse(argv), interval=1 / times)
sys.exit(test.main())
"""
WORKER = """
import subprocess, time
while True:
    subprocess.run(["sleep", "0.05"])
    time.sleep(0.05)
"""


@dataclass(frozen=True)
class Look:
    """What the tool holds at one moment."""

    private_mb: float  # MiB
    files: int
    threads: int


def look(pid: int) -> Look:
    status = Path(f"/proc/{pid}/status").read_text()
    kib, threads = (int(re.findall(rf"{name}:\s*(\d+)", status)[0]) for name in ("RssAnon", "Threads"))
    return Look(kib / 1024, len(os.listdir(f"/proc/{pid}/fd")), threads)


def monitored(folder: Path, seconds: float, times: float) -> list[Look]:
    """A look each second at a tool that monitors for so long."""
    with subprocess.Popen([sys.executable, "-c", WORKER]) as worker:
        try:
            command = [sys.executable, "-c", FASTER, str(times), "--phase", "monitor", "--pid", f"worker={worker.pid}",
                       "--results-dir", str(folder), "--no-report", "--quiet"]
            with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(TESTS)},
                                  stdout=subprocess.DEVNULL) as tool:
                looks = []
                for _ in range(int(seconds)):
                    time.sleep(1)
                    looks.append(look(tool.pid))
                tool.terminate()  # a shell lets its background jobs ignore Ctrl-C
                tool.wait(60)
        finally:
            worker.kill()
    return looks


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="long_run.py", description="Own memory and files of the tool in a long run.")
    cli.add_argument("--seconds", type=float, default=300.0, help="of the run (%(default)s)")
    cli.add_argument("--times", type=float, default=100.0, help="as many samples as usual (%(default)s)")
    options = cli.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        looks = monitored(Path(folder), options.seconds, options.times)
        [resources] = Path(folder).glob("*.csv")
        stamps = {line.split(",", 1)[0] for line in resources.read_text(encoding="utf-8").splitlines()[1:]}
        size = resources.stat().st_size
    third = len(looks) // 3
    begun, ended = looks[third : 2 * third], looks[-third:]
    before, after = (statistics.median(each.private_mb for each in part) for part in (begun, ended))
    files, threads = ({each.files for each in looks[third:]}, {each.threads for each in looks[third:]})
    hours = len(stamps) * INTERVAL_S / 3600
    print(f"{len(stamps):,} samples in {options.seconds:g} s, as many as {hours:.1f} h have; CSV {size / 1e6:.1f} MB")
    print(f"private memory of the tool: {before:.1f} MB, then {after:.1f} MB; highest "
          f"{max(each.private_mb for each in looks):.1f} MB")
    print(f"open files: {sorted(files)}; threads: {sorted(threads)}")
    return int(after - before > GROWTH_LIMIT_MB or len(threads) > 1 or max(files) - min(files) > 2)


if __name__ == "__main__":
    sys.exit(main())
