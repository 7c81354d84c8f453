"""`make demo-scale`: load from two Locust processes and a monitor of this machine, joined into one report.

On one machine what is meant for several: the embedded service, a monitor beside it (--phase monitor), and the ramp sent
by load processes with a master that records. The report joins the ramp's results with the monitor's samples. Exit
status: that of the reader.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

if not __package__:  # started by path: the folder of asr_service is not importable yet
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from asr_service.audio import build_clip
from support.demo import (
    INTERRUPTED,
    MEANING,
    NO_START,
    SHORT_CLIP,
    SHORT_SECONDS,
    TESTS,
    NoService,
    near,
    run_in_foreground,
    running_service,
)

PROCESSES = 2
MAX_CONCURRENCY = 8
STARTS_WITHIN_S = 30.0
ENDS_WITHIN_S = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(
        prog="make demo-scale", description="Run the ramp from two Locust processes on the embedded ASR service.",
        epilog="All other options go to Locust.", allow_abbrev=False)
    cli.add_argument("--workers", default="2", help="rq workers of the service (%(default)s)")
    cli.add_argument("--results-dir", type=Path, default=TESTS / "results", help="(tests/results)")
    options, more = cli.parse_known_args(argv)
    folder = options.results_dir
    folder.mkdir(parents=True, exist_ok=True)
    try:
        clip = build_clip(SHORT_CLIP, SHORT_SECONDS)
        with running_service("--workers", options.workers) as (url, workers), monitor(url, workers, folder) as samples:
            before = set(folder.glob("*.jsonl"))
            status = run_in_foreground([
                "-m", "locust", "-f", near(TESTS / "locustfile.py"), "--headless", "--only-summary", "--processes",
                str(PROCESSES), "--host", url, "--short-audio", near(clip), "--max-concurrency", str(MAX_CONCURRENCY),
                "--results-dir", near(folder), "--no-report", "--loglevel", "WARNING", *more])
        new = sorted(set(folder.glob("memory_leak_stress_test_*.jsonl")) - before)
        if new and status not in (NO_START, INTERRUPTED):
            status = run_in_foreground([near(TESTS / "analyze_stress_test.py"), near(new[-1]), "--resources",
                                        near(samples)])
    except NoService:
        status = NO_START
    except KeyboardInterrupt:
        status = INTERRUPTED
    print(f"\nDemo: {MEANING.get(status, f'it ended with status {status}')}.")
    return status


@contextlib.contextmanager
def monitor(url: str, workers: Sequence[int], folder: Path) -> Iterator[Path]:
    """The path of the samples that a monitor of this machine writes until the block ends. Raises NoService."""
    before = set(folder.glob("system_resources_*.csv"))
    named = [word for pid in workers for word in ("--pid", f"worker={pid}")]
    command = [sys.executable, str(TESTS / "memory_leak_stress_test.py"), "--phase", "monitor", "--url", url, *named,
               "--results-dir", str(folder), "--no-report", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            end = time.monotonic() + STARTS_WITHIN_S
            while not (found := sorted(set(folder.glob("system_resources_*.csv")) - before)):
                if process.poll() is not None or time.monotonic() > end:
                    raise NoService
                time.sleep(0.1)
            yield found[-1]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=ENDS_WITHIN_S)


if __name__ == "__main__":
    sys.exit(main())
