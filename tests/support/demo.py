"""`make demo`: start the embedded service, run the whole stress test on it in this terminal, and end the service.

The stress test is used only as the command that users run. Exit status: 0 the demo showed what it should, also where
that is a planted leak being found; else the status of the stress test.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil

if not __package__:  # started by path: the folder of asr_service is not importable yet
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from asr_service import with_parent
from asr_service.audio import AUDIO_DIR, build_clip

TESTS = Path(__file__).resolve().parents[1]
SHORT_CLIP, SHORT_SECONDS = AUDIO_DIR / "demo_short.wav", 12.0
LONG_CLIP, LONG_SECONDS = AUDIO_DIR / "demo_long.wav", 45.0
MAX_CONCURRENCY = 8
STOP_TIMEOUT_S = 15.0

PASSED, FAILED, INCONCLUSIVE, NO_START, INTERRUPTED = 0, 1, 3, 4, 130
MEANING = {
    PASSED: "every criterion passed",
    FAILED: "a criterion failed",
    INCONCLUSIVE: "the evidence is not enough for a verdict",
    NO_START: "the stress test could not start",
    INTERRUPTED: "interrupted; everything measured until then is kept",
}


class NoService(Exception):
    """The service did not start; it has said why."""


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(
        prog="make demo",
        description="Run the stress test on the embedded ASR service.",
        epilog="All other options go to tests/memory_leak_stress_test.py.",
        allow_abbrev=False,
    )
    cli.add_argument("--workers", default="2", help="rq workers of the service (%(default)s)")
    cli.add_argument("--leak-mb", type=float, default=0.0, help="memory the service keeps per task (%(default)s)")
    cli.add_argument("--results-dir", type=Path, default=TESTS / "results", help="(tests/results)")
    options, more = cli.parse_known_args(argv)
    started = time.time()
    try:
        short, long = build_clip(SHORT_CLIP, SHORT_SECONDS), build_clip(LONG_CLIP, LONG_SECONDS)
        with running_service("--workers", options.workers, "--leak-mb", str(options.leak_mb)) as (url, workers):
            clips = ["--short-audio", near(short), "--long-audio", near(long)]
            # Named, since another service's workers on this machine may serve a queue of the same name.
            named = [] if "--no-watch" in more else [word for pid in workers for word in ("--pid", f"worker={pid}")]
            fixed = ["--url", url, *clips, "--max-concurrency", str(MAX_CONCURRENCY), *named]
            script = near(TESTS / "memory_leak_stress_test.py")
            status = run_in_foreground([script, *fixed, "--results-dir", near(options.results_dir), *more])
    except NoService:
        status = NO_START
    except KeyboardInterrupt:
        status = INTERRUPTED
    return conclude(status, options.leak_mb, options.results_dir, started)


def near(path: Path) -> str:
    """The path as a person in this folder would type it."""
    return os.path.relpath(path)


@contextlib.contextmanager
def running_service(*options: str) -> Iterator[tuple[str, list[int]]]:
    """The service's URL and its workers' pids; it ends with this block, and where this program is killed.

    Raises NoService.
    """
    command = [sys.executable, with_parent.__file__, sys.executable, str(TESTS / "asr_service"), *options]
    # A session of its own: Ctrl-C goes to the stress test alone, which still needs the service to end its run.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as service:
        try:
            assert service.stdout is not None
            line = service.stdout.readline()
            if not line.startswith("ready: "):
                raise NoService
            children = [(p.pid, p.cmdline()) for p in psutil.Process(service.pid).children(recursive=True)]
            workers = [pid for pid, words in children if "worker" in words or " ".join(words).startswith("rq:worker")]
            yield line.removeprefix("ready: ").strip(), workers
        finally:
            service.terminate()
            service.wait(timeout=STOP_TIMEOUT_S)


def run_in_foreground(arguments: list[str]) -> int:
    """Run the stress test in this terminal to its end, also after Ctrl-C, which it gets from the terminal itself."""
    print(f"$ {shlex.join(['python3', *arguments])}\n", flush=True)
    with subprocess.Popen([sys.executable, *arguments]) as test:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            test.send_signal(number)

        # Handlers rather than SIG_IGN, which the stress test would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, pass_on)
        signal.signal(signal.SIGHUP, pass_on)
        return test.wait()


def conclude(status: int, leak_mb: float, results: Path, started: float) -> int:
    """Say in words how the demo ended. Returns its exit status."""
    meaning = MEANING.get(status, f"the stress test ended with status {status}")
    if leak_mb <= 0 or status not in (PASSED, FAILED, INCONCLUSIVE):
        print(f"\nDemo: {meaning}.")
        return status
    verdict = worker_verdict(results, started)
    if verdict == "LEAK":
        print(f"\nDemo: the {leak_mb:g} MB per task that the service was set up to leak were found. It works.")
        return PASSED
    print(f"\nDemo: the planted leak of {leak_mb:g} MB per task was not found (worker: {verdict}).")
    return status or FAILED


def worker_verdict(results: Path, started: float) -> str:
    """What the reader says about the workers' memory in the run recorded since `started`."""
    runs = [path for path in results.glob("memory_leak_stress_test_*.jsonl") if path.stat().st_mtime >= started]
    if not runs:
        return "no run was recorded"
    newest = max(runs, key=lambda path: path.stat().st_mtime)
    reader = [sys.executable, str(TESTS / "analyze_stress_test.py"), str(newest), "--json"]
    printed = subprocess.run(reader, stdout=subprocess.PIPE, text=True, check=False).stdout
    return str(json.loads(printed)["leak"].get("worker", {}).get("verdict"))


if __name__ == "__main__":
    sys.exit(main())
