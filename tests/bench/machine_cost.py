"""What a look at the whole machine costs beside so many other processes, and a look at a container's limit.

    make bench-machine                  beside 1,000 other processes
    make bench-machine ARGS=3000

Forks them, each with a few MB of its own, and ends them afterwards. Two such looks are taken per batch of tasks, while
no task runs; a container's limit is read five times a second.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if not __package__:  # started by path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from memory_leak_stress_test import MIB, Ledger, look_at_machine, read_group

LOOKS = 20


def main() -> None:
    others = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    children = [fork_a_sleeper() for _ in range(others)]
    try:
        look = look_at_machine(set(), {os.getpid()})
        print(f"{len(children)} other processes of ours, {sum(each[1] for each in look.names.values())} in all")
        report("a look at the machine", lambda: look_at_machine(set(), {os.getpid()}))
        report("its record", lambda: Ledger().record(look, look, []))
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("max", 512 * MIB), ("current", 400 * MIB), ("peak", 450 * MIB),
                              ("stat", "".join(f"entry_{n} {n}\n" for n in range(60)) + f"anon {300 * MIB}")):
            Path(folder, f"memory.{name}").write_text(str(content))
        report("a container's limit, recorded", lambda: read_group(Path(folder)))


def fork_a_sleeper() -> int:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid


def report(what: str, act: Callable[[], object]) -> None:
    """Milliseconds of CPU, and of the clock, of one call: the median of several."""
    cpu, clock = [], []
    for _ in range(LOOKS):
        began, used = time.perf_counter(), time.process_time()
        act()
        cpu.append(1000 * (time.process_time() - used))
        clock.append(1000 * (time.perf_counter() - began))
    print(f"{what}: {statistics.median(cpu):.2f} ms of CPU, {statistics.median(clock):.2f} ms")


if __name__ == "__main__":
    main()
