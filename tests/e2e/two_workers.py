"""A service of one API and two worker processes, the first of which keeps so many MB of each task: for tests of hosts.

`python two_workers.py MB` prints its URL and the pids of its workers. The API is that of the preset asr-queue.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

TASK_S = 0.3  # of CPU


def work(tasks: Connection, of_parent: list[Connection], keep_mb: int) -> None:
    """A worker: uses CPU for a while, and keeps what a leak would. It ends with its parent, whose ends it closes."""
    for connection in of_parent:
        connection.close()
    kept = []
    while True:
        try:
            task = tasks.recv()
        except EOFError:
            return
        end = time.process_time() + TASK_S
        while time.process_time() < end:
            pass
        kept.append(b"x" * (keep_mb << 20))
        tasks.send(task)


class Api(BaseHTTPRequestHandler):
    """Tasks go to the workers in turn, each of which does one at a time."""

    protocol_version = "HTTP/1.1"
    numbers = itertools.count()
    done: set[int] = set()  # noqa: RUF012
    lanes: list[tuple[Connection, threading.Lock]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        if self.path.endswith("/health"):
            self.answer({"status": "ready", "workers_active": len(self.lanes)})
            return
        number = int(self.path.rpartition("/")[2])
        done = number in self.done
        self.answer({"task_id": str(number), "status": "done" if done else "processing",
                     "text": "some speech" if done else None, "duration": 0, "error": None})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        number = next(self.numbers)
        threading.Thread(target=self.run_task, args=(number,), daemon=True).start()
        self.answer({"task_id": str(number), "status": "queued", "position": 1})

    def run_task(self, number: int) -> None:
        tasks, turn = self.lanes[number % len(self.lanes)]
        with turn:
            tasks.send(number)
            self.done.add(tasks.recv())

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    workers = []
    for keep_mb in (int(sys.argv[1]), 0):
        ours, theirs = multiprocessing.Pipe()
        of_parent = [ours, *(lane for lane, _ in Api.lanes)]
        worker = multiprocessing.Process(target=work, args=(theirs, of_parent, keep_mb), daemon=True)
        worker.start()
        workers.append(worker)
        Api.lanes.append((ours, threading.Lock()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    print(f"http://127.0.0.1:{server.server_address[1]}", *(worker.pid for worker in workers), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
