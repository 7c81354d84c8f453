"""`make bench-load`: what several load processes cost, measured, and 1,000 tasks from 8 machines reckoned from it.

1. How close together tasks arrive that Locust's users send, from one process and from two, at the receiver of
   arrival_spread.py; CPU and memory of the load processes.
2. What the recording machine spends on one task: its message unpacked, its outcome taken, its line on disk (fsynced).
   From that and the messages that are sent per task and per second: messages, bytes, lines and CPU per second for a
   level of 1,000 tasks. Nothing of it delays a task: times are taken by the machines that send.

Exit status: 0 tasks arrive within half a second, 1 they do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
import psutil
import requests

from asr_service.audio import AUDIO_DIR, STANDARD_CLIPS, build_clip
from bench.arrival_spread import SPREAD_LIMIT_S
from load_machines import REPORT_S, TRIPS, Clock, Fleet, LevelLoad, Machine, own_facts
from memory_leak_stress_test import (
    APIS,
    ApiClient,
    LevelFacts,
    Outcome,
    Place,
    Reading,
    Reserve,
    ResultLog,
    Settings,
    StressTest,
    host_facts,
    read_clips,
)

TESTS = Path(__file__).resolve().parents[1]
TASKS = 200
MACHINES, LEVEL = 8, 1000
SECONDS = (10.0, 60.0)  # that the level takes
HEARTBEATS = 2 * 1.0 + 1 / 3  # messages of Locust itself per second and process: a heartbeat each way, statistics


def arrivals(clip: Path, tasks: int, processes: int) -> dict[str, Any]:
    """One level of `tasks` through Locust; the spread of its first run as it arrived, and the load processes' cost."""
    receive = [sys.executable, str(TESTS / "bench/arrival_spread.py"), "--receive"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(receive, stdout=subprocess.PIPE,
                                                                  text=True) as receiver:
        try:
            assert receiver.stdout is not None
            url = f"http://127.0.0.1:{int(receiver.stdout.readline())}"
            command = [sys.executable, "-m", "locust", "-f", str(TESTS / "locustfile.py"), "--headless",
                       "--only-summary", "--processes", str(processes), "--host", url, "--short-audio", str(clip),
                       "--start", str(tasks), "--max-concurrency", str(tasks), "--results-dir", folder, "--no-report",
                       "--rtf-limit", "0", "--loglevel", "ERROR"]
            peaks: dict[int, float] = {}
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as locust:
                while locust.poll() is None:
                    for child in psutil.Process(locust.pid).children():
                        peaks[child.pid] = max(peaks.get(child.pid, 0.0), child.memory_info().rss / 2**20)
                    time.sleep(0.05)
            arrived = requests.get(f"{url}/arrivals", timeout=10).json()["arrivals"]
            lines = [json.loads(line) for line in next(Path(folder).glob("*.jsonl")).read_text().splitlines()]
        finally:
            receiver.terminate()
    first = sorted(arrived)[2 : 2 + tasks]  # behind the first task and the warm-up
    level = next(line["level"] for line in lines if line["level_run"] == 1 and line["level"])
    return {"arrival_s": first[-1] - first[0], "own_s": level["submit_spread_s"], "peak_mb": max(peaks.values()),
            "limited": level["client_limited"], "late_ms": level["ticker_late_ms"], "cpu": level["client_cpu_percent"]}


def cost_of_an_outcome(folder: Path, clip: Path) -> dict[str, float]:
    """Seconds and bytes per task at the recording machine."""
    client, clips = ApiClient("http://127.0.0.1:9", APIS["asr-queue"]), read_clips(clip)
    log = ResultLog(folder / "run.jsonl")
    test = StressTest(Settings(no_watch=True), client, clips, clips, None, log, None, client.aborted,  # type: ignore[arg-type]
                      host_facts(), Reserve(0.0))
    fleet = Fleet(lambda machine, message: None, lambda: {})
    fleet.machines["m"] = Machine("host#1", clock=Clock(0.0, 0.0, 0.001))
    recordings = [clips.take() for _ in range(LEVEL)]
    fleet.load = load = LevelLoad(client, {}, 60.0, lambda _: None, threading.Event(), fleet=fleet, batch=1,
                                  recordings=recordings)
    load.missing, load.shares = set(range(LEVEL)), {"m": list(range(LEVEL))}
    messages = [msgpack.dumps(("asr_to_master", {
        "kind": "outcome", "batch": 1, "outcome": dataclasses.asdict(outcome(n))}, "host_" + 32 * "0"))
        for n in range(LEVEL)]
    place, before, cpu = Place("concurrency", level_run=1), Reading(0.0, {}, {}, frozenset()), time.process_time()
    taken = []
    for packed in messages:
        began = time.perf_counter()
        fleet.receive("m", msgpack.loads(packed)[1])
        one = load.outcomes.get_nowait()
        log.append(test._result(one, recordings[one.number], LEVEL, before, place))
        taken.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    log.close()
    return {"seconds": statistics.median(taken), "cpu_s": cpu / LEVEL, "message": len(messages[0]),
            "line": (folder / "run.jsonl").stat().st_size / LEVEL}


def outcome(number: int) -> Outcome:
    return Outcome(number, "success", task_id=f"{number:032x}", submit_offset=0.0123, processing_time=12.345678,
                   queue_time=3.456789, time_error=0.123456, empty_text=False, service_seconds=147.0)


def reckon(cost: dict[str, float]) -> None:
    """Print what 1,000 tasks from 8 machines make of it."""
    facts = len(msgpack.dumps(own_facts(LevelFacts(0.01, 10.0, 5.0), 0.001)))
    before = MACHINES * (2 * TRIPS + 3)  # a clock's messages there and back, a share, "open", the release
    print(f"\n{LEVEL} tasks from {MACHINES} load processes, at the machine that records; before the release {before} "
          "messages")
    print(f"{'level takes':>12} {'messages/s':>11} {'kB/s':>7} {'lines/s':>8} {'kB/s':>7} {'CPU':>6}")
    for seconds in SECONDS:
        rate = LEVEL / seconds
        others = MACHINES * (1 / REPORT_S + HEARTBEATS)
        received = rate * cost["message"] + others * 150 + MACHINES * facts / seconds
        print(f"{seconds:10.0f} s {rate + others:11.0f} {received / 1e3:7.0f} {rate:8.0f} "
              f"{rate * cost['line'] / 1e3:7.0f} {100 * rate * cost['cpu_s']:5.0f} %")
    print("files: the JSONL alone, and for the last task of a level its pending file (3 writes)")
    print(f"most: {1 / cost['seconds']:.0f} results/s; should all {LEVEL} end in the same second, the last line is on "
          f"disk {LEVEL * cost['seconds']:.1f} s later")


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="load_cost.py", description="What several load processes cost.")
    cli.add_argument("--tasks", type=int, default=TASKS, help="concurrent tasks (%(default)s)")
    cli.add_argument("--clip", type=Path, default=AUDIO_DIR / "short_audio.wav", help="(the short standard clip)")
    options = cli.parse_args(argv)
    if not options.clip.exists():
        build_clip(options.clip, STANDARD_CLIPS[options.clip.name])
    print(f"{options.tasks} tasks of {options.clip.stat().st_size / 1e6:.1f} MB through Locust")
    kept = True
    for processes in (1, 2):
        seen = arrivals(options.clip, options.tasks, processes)
        kept = kept and seen["arrival_s"] < SPREAD_LIMIT_S
        limited = ", itself the limit" if seen["limited"] else ""
        print(f"  from {processes}: spread of arrival {seen['arrival_s']:.2f} s (its own record: {seen['own_s']:.2f}),"
              f" peak RSS of a process {seen['peak_mb']:.0f} MiB, CPU {seen['cpu']:.0f} % of a core, ticker late "
              f"{seen['late_ms']:.0f} ms{limited}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cost = cost_of_an_outcome(Path(folder), options.clip)
    print(f"one outcome: message {cost['message']:.0f} bytes, line {cost['line']:.0f} bytes, "
          f"{1000 * cost['seconds']:.2f} ms to its line on disk, {1000 * cost['cpu_s']:.2f} ms of CPU")
    reckon(cost)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
