"""What this tool itself takes of the machine: little, however large a clip is and however long a run.

UPLOAD_MB=1000 .venv/bin/python -m pytest tests/unit/test_own_memory.py -s     with a clip of 1 GB
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import ProcessTable, Sampler

TESTS = Path(__file__).resolve().parents[1]
UPLOAD_MB = int(os.environ.get("UPLOAD_MB", "200"))  # of 10^6 bytes
OWN_LIMIT_MB = 100.0  # MiB of private memory, whatever is mapped


def private_mb(pid: int) -> tuple[float, float]:
    """Anonymous memory and memory mapped from files of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    anonymous, mapped = (int(re.findall(rf"{name}:\s*(\d+)", status)[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return anonymous, mapped


class Sink:
    """Reads uploads without keeping them; every task is done when it is asked for."""

    def __init__(self) -> None:
        self.received = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the test has ended
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        buffer = bytearray(1 << 20)
        with contextlib.suppress(OSError), sock, sock.makefile("rb") as file:  # the client has gone
            while line := file.readline():
                headers = dict(iter(lambda: file.readline().lower().strip().partition(b": ")[::2], (b"", b"")))
                left = int(headers.get(b"content-length", 0))
                while left:
                    count = file.readinto(memoryview(buffer)[: min(left, len(buffer))])
                    left, self.received = left - count, self.received + count
                body = b'{"status": "done", "text": "it was", "task_id": "t"}' if b"/asr/" in line else (
                    b'{"status": "ready"}')
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def sparse_wav(path: Path, megabytes: int) -> Path:
    """Silence that takes no room on disk."""
    size = megabytes * 1_000_000
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size - 8, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16,
                         b"data", size - 44)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(size)
    return path


def test_a_large_clip_is_sent_from_a_mapping(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(bytes(4000))
    long, sink = sparse_wav(tmp_path / "long.wav", UPLOAD_MB), Sink()
    command = [sys.executable, TESTS / "memory_leak_stress_test.py", "--url", sink.url, "--no-watch", "--phase",
               "leak", "--min-cycles", "1", "--max-cycles", "1", "--short-audio", tmp_path / "short.wav",
               "--long-audio", long, "--settle-timeout", "0.1", "--results-dir", tmp_path, "--no-report"]
    own, mapped = [], []
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and sink.received < 1.9e6 * UPLOAD_MB:  # the reader's process comes afterwards
            with contextlib.suppress(FileNotFoundError, IndexError, ProcessLookupError):
                anonymous, file_backed = private_mb(process.pid)
                own.append(anonymous)
                mapped.append(file_backed)
            time.sleep(0.005)
        said = process.communicate(timeout=120)[0]
    sink.listener.close()
    print(f"{UPLOAD_MB} MB sent twice: own memory at most {max(own):.0f} MB, mapped at most {max(mapped):.0f} MB")
    assert "cycle 1: short.wav" in said
    assert sink.received > 1.9e6 * UPLOAD_MB, "it went out in the warm-up and in the cycle"
    assert max(mapped) > UPLOAD_MB / 2, "what is sent was seen while it was sent"
    assert max(own) < min(OWN_LIMIT_MB, UPLOAD_MB / 2)




@pytest.fixture
def busy_parent() -> Iterator[int]:
    """A process that starts a short-lived child again and again, as a worker that forks for each job."""
    program = "import subprocess\nwhile True: subprocess.run(['sleep', '0.01'])"
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        yield process.pid
        process.kill()


def test_nothing_is_kept_of_a_sample(busy_parent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a hundred times the usual rate, and as --phase monitor does, which may go on for a night."""
    for name in ("TICK_S", "SCAN_S"):
        monkeypatch.setattr(instrument, name, getattr(instrument, name) / 100)
    table = ProcessTable({}, {"worker": (busy_parent,)}, set())
    looks = [0]
    with Sampler(table, tmp_path / "r.csv", 0.01) as sampler:
        see = sampler._look

        def count(*how: Any) -> None:
            looks[0] += 1
            see(*how)

        monkeypatch.setattr(sampler, "_look", count)

        def blocks_after(more: int) -> int:
            end = looks[0] + more
            while looks[0] < end:
                time.sleep(0.05)
                sampler.open_window()
            gc.collect()
            between = []  # a look holds some hundred objects for a moment
            for _ in range(20):
                time.sleep(0.01)
                between.append(sys.getallocatedblocks())
            return min(between)

        held, files = [blocks_after(100)], len(os.listdir("/proc/self/fd"))
        grown = 250
        while grown >= 180 and len(held) < 5:  # on a busy machine a count may be of the midst of a look; a leak stays
            held.append(blocks_after(250))
            grown = held[-1] - held[-2]
        print(held, "objects")
        assert sampler.failure is None
        assert len(os.listdir("/proc/self/fd")) < files + 5, "it may be looking just now"
        assert grown < 180, "less than an object per look"
        assert len(cast(Any, table).alive) < 5
