"""Do tasks released together arrive together? The instrument's client against plain threads with `files=`.

A small receiver in its own process notes when the first byte of each upload arrives. Each client runs in a fresh
process and sends the same clips to it: spread of arrival (first to last task, seconds), the client's peak RSS (MiB, all
of it) and its CPU time (seconds), and the ratio of plain threads to the instrument in the same run.

    make bench-arrival                       200 tasks of the short standard clip, 50 of the long one
    make bench-arrival ARGS="--tasks 100 --clip tests/audio/short_audio.wav"

Exit status: 0 the instrument keeps its promise (below 0.5 s and 120 MiB), 1 it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import requests

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from asr_service.audio import AUDIO_DIR, STANDARD_CLIPS, build_clip  # noqa: E402
from memory_leak_stress_test import APIS, ApiClient, Batch, read_clips, read_memory  # noqa: E402

CASES = ((200, "short_audio.wav"), (50, "long_audio.wav"))
SPREAD_LIMIT_S = 0.5
MEMORY_LIMIT_MB = 120.0
CLIENTS = ("plain", "instrument")
FIGURES = {"spread_s": "spread of arrival, s", "peak_mb": "client's peak RSS, MiB", "cpu_s": "client's CPU, s"}


class Receiver(asyncio.Protocol):
    """One connection of an API that takes every upload, knows every task as done and reads whatever it is sent."""

    arrivals: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.head, self.left = transport, b"", 0

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
        else:
            self.head += data
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            self.head = b""
            if head.startswith(b"POST"):
                self.arrivals.append(time.monotonic())
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                self.left = int(length.partition(b":")[2]) - len(body)
        if self.left == 0:
            body = json.dumps({"task_id": str(len(self.arrivals)), "status": "done", "text": "x",
                               "arrivals": self.arrivals}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


async def receive() -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def send_with_instrument(url: str, clip: Path, tasks: int) -> list[float | None]:
    client, recordings = ApiClient(url, APIS["asr-queue"]), read_clips(clip)
    uploads = [client.prepare(recordings.take()) for _ in range(tasks)]
    batch = Batch(client, uploads, 120.0, lambda _: None, threading.Event())
    batch.connect()
    batch.release()
    outcomes = [batch.outcomes.get(timeout=120) for _ in range(tasks)]
    assert all(o.status == "success" for o in outcomes), outcomes
    return [o.submit_offset for o in outcomes]


def send_with_threads(url: str, clip: Path, tasks: int) -> list[float | None]:
    """What one writes at first: a barrier, then each thread posts the file."""
    gate, errors = threading.Barrier(tasks), []

    def send() -> None:
        gate.wait()
        try:
            with clip.open("rb") as audio:
                requests.post(f"{url}/submit", files={"audio": audio}, timeout=120).raise_for_status()
        except requests.RequestException as error:
            errors.append(error)

    threads = [threading.Thread(target=send) for _ in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    return []


def client(name: str, url: str, clip: Path, tasks: int) -> None:
    """The body of one client's process: send, then print its own figures."""
    offsets = (send_with_instrument if name == "instrument" else send_with_threads)(url, clip, tasks)
    times, memory = psutil.Process().cpu_times(), read_memory(psutil.Process())
    own = [o for o in offsets if o is not None]
    print(json.dumps({"peak_mb": memory.high_water if memory else None, "cpu_s": times.user + times.system,
                      "own_spread_s": max(own) - min(own) if own else None}))


def measure(name: str, clip: Path, tasks: int) -> dict[str, Any]:
    """Figures of one client against a fresh receiver."""
    with subprocess.Popen([sys.executable, __file__, "--receive"], stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout is not None
            url = f"http://127.0.0.1:{int(receiver.stdout.readline())}"
            command = [sys.executable, __file__, "--client", name, "--url", url, "--clip", str(clip)]
            sent = subprocess.run([*command, "--tasks", str(tasks)], check=True, stdout=subprocess.PIPE)
            figures: dict[str, Any] = json.loads(sent.stdout)
            arrivals = requests.get(f"{url}/arrivals", timeout=10).json()["arrivals"]
        finally:
            receiver.terminate()
    assert len(arrivals) == tasks, f"{len(arrivals)} of {tasks} uploads arrived"
    return figures | {"spread_s": max(arrivals) - min(arrivals)}


def compare(clip: Path, tasks: int) -> bool:
    """Print one case; whether the instrument keeps its promise in it."""
    plain, own = (measure(name, clip, tasks) for name in CLIENTS)
    print(f"{tasks} tasks of {clip.stat().st_size / 1e6:.1f} MB     plain threads, files=   instrument   ratio")
    for key, what in FIGURES.items():
        print(f"  {what:<30}{plain[key]:>17.2f}{own[key]:>13.2f}{plain[key] / own[key]:>8.1f}")
    print(f"  {'spread by its own record, s':<30}{'–':>17}{own['own_spread_s']:>13.2f}\n", flush=True)
    return bool(own["spread_s"] < SPREAD_LIMIT_S and own["peak_mb"] < MEMORY_LIMIT_MB)


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(description="Measure how close together tasks arrive that are released together.")
    cli.add_argument("--tasks", type=int, help="concurrent tasks (default: 200 short and 50 long)")
    cli.add_argument("--clip", type=Path, help="clip to send (default: the two standard clips)")
    cli.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    cli.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    cli.add_argument("--url", help=argparse.SUPPRESS)
    options = cli.parse_args(argv)
    if options.receive:
        asyncio.run(receive())
    elif options.client:
        client(options.client, options.url, options.clip, options.tasks)
    else:
        cases = [(tasks, AUDIO_DIR / name) for tasks, name in CASES]
        if options.clip:
            cases = [(options.tasks or CASES[0][0], options.clip)]
        for _, path in cases:
            if not path.exists():
                build_clip(path, STANDARD_CLIPS[path.name])
        kept = [compare(path, options.tasks or tasks) for tasks, path in cases]
        return 0 if all(kept) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
