#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31", "urllib3>=2.2", "psutil>=6.0", "rich>=13.7", "tinytag>=2.0"]
# ///
"""Stress test of a speech-recognition service: is its memory leak gone, and how many requests at once does it stand?

Run it on the machine that runs the service. It has two phases:

  leak         one short and one long task per cycle, memory of every watched process at rest before and after each
               task, until the growth rule has decided (LEAK or NO LEAK) or the cycles are used up
  concurrency  1, 2, 3 … tasks released together, until a task fails, a worker dies or a limit is reached

Files, in --results-dir:

  memory_leak_stress_test_<time>.jsonl   one line per submitted task, on disk before the next one starts
  system_resources_<time>.csv            RSS and CPU of every watched process, one row each per second

Exit status: 0 every criterion passed · 1 a criterion failed · 2 wrong command line · 3 inconclusive ·
4 the test could not start · 130 interrupted (everything written so far is kept).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import functools
import itertools
import json
import math
import os
import platform
import queue
import re
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import typing
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, urlsplit

import psutil
import requests
import urllib3

if typing.TYPE_CHECKING:
    from rich.live import Live

__all__ = [  # what the reader, the bench and the tests take from here
    # the record
    "TaskResult", "RoleMemory", "ProcessMemory", "Busy", "Death", "LevelFacts", "Settings", "SCHEMA", "CSV_COLUMNS",
    "ROLES", "VERSION", "DOUBLE", "NOT_THE_SERVICES", "TOOL_FAULT", "median", "host_facts",
    # the rules
    "GAP_S", "SETTLE_S", "TOLERANCE_MB", "WINDOW", "WORK_FACTOR", "GIVE_UP_CYCLES", "CONFIRM_RUNS", "poll_wait",
    "GrowthVerdict", "RoleVerdict", "HorseSeries", "judge_leak", "judge_growth", "readings_of", "Breach", "LevelRun",
    "judge_level_run", "was_recycled", "crashes_and_recycled",
    # exit statuses
    "EXIT_PASS", "EXIT_FAIL", "EXIT_USAGE", "EXIT_INCONCLUSIVE", "EXIT_INTERRUPTED",
]

VERSION = "1.0.0"
SCHEMA = 2  # 1: lines were rewritten when memory was at rest, and every line of a batch carried its memory

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_NO_START = 4
EXIT_INTERRUPTED = 130

ROLES = ("worker", "api", "backend")
DOUBLE = "x2"  # --step: levels are doubled until one is bad, then the gap is halved
MIB = 1024 * 1024

# =================================================================================================== the record


@dataclass(frozen=True)
class ProcessMemory:
    """One process of a role's trees while a batch of tasks ran. MiB."""

    pid: int
    started: str  # local ISO time of its creation
    name: str
    peak_mb: float | None  # highest RSS
    ended: bool  # gone before the reading after
    resident: bool = False  # was there at the reading before: a worker, not a work-horse
    root: bool = False  # top of a watched tree
    held_mb: float | None = None  # private memory at its last sample


@dataclass
class RoleMemory:
    """One role, all its process trees together. MiB; None where it could not be read."""

    before_mb: float | None
    after_mb: float | None
    private_before_mb: float | None
    private_after_mb: float | None
    peak_mb: float | None
    processes: list[ProcessMemory] = field(default_factory=list)
    cpu_s: float | None = None  # CPU seconds used from the release of the batch until its last task ended
    rest_cpu_percent: float | None = None  # of one core, from then on until the reading after
    drift_mb: float | None = None  # growth of private memory (else RSS) over the last SETTLE_S before the reading after


@dataclass(frozen=True)
class Busy:
    """The process that used most CPU while a batch ran, of all those that are not watched."""

    pid: int
    name: str
    cpu_s: float  # CPU seconds, with those of its children that have ended


@dataclass(frozen=True)
class Death:
    """A process that serves a role has ended: a crash, or recycling between tasks. See was_recycled()."""

    role: str
    pid: int
    name: str
    at: str  # local ISO time when it was noticed
    root: bool = True  # top of a watched tree
    unfinished: int | None = None  # tasks that had not ended by then
    left_work: bool | None = None  # it left a child that was born for a task
    replaced: bool | None = None  # as many processes served the role at the reading after as before
    oom_kill: bool | None = None  # the kernel killed a process for lack of memory in the same batch


@dataclass
class LevelFacts:
    """What is true of a whole level run of the ramp: this tool's own figures, the machine's, and why the ramp ended."""

    submit_spread_s: float | None = None  # between the first bytes of the first and the last task
    client_cpu_percent: float | None = None  # of one core, used by this tool
    ticker_late_ms: float | None = None  # longest oversleeping of this tool's 20 ms ticker
    client_limited: bool = False  # this tool, and not the service, was the limit
    oom_kills: int | None = None  # processes the kernel killed for lack of memory meanwhile
    host_available_min_mb: float | None = None  # MiB
    stop_reason: str | None = None  # why the ramp ended with this level run


@dataclass
class TaskResult:
    """One submitted task, one line of the JSONL. Times in seconds, memory in MiB; None is "not measured".

    A batch is the group of tasks released together: one task in the leak phase, a level run in the ramp. What is
    known only when memory is at rest after it (from `worker_rss_after_mb` to `level`) stands in its last line alone.
    """

    test_id: str  # "<audio stem>_c<concurrency>_<running number>"
    phase: str  # leak | concurrency
    timestamp: str  # local ISO time when the result was known
    audio_file: str
    audio_size_mb: float | None  # 10^6 bytes
    audio_seconds: float | None
    concurrency: int  # tasks released together
    status: str  # success | failed | timeout
    schema: int = SCHEMA
    batch: int | None = None  # running number of the batch
    audio_path: str | None = None  # as given on the command line: it tells clips apart, audio_file may not
    cycle: int | None = None  # leak phase: 0 is the warm-up round, not judged
    level_run: int | None = None  # ramp: 0 is a warm-up task, 1 a level's first run, 2… its confirmations
    task_id: str | None = None
    error_kind: str | None = None
    error: str | None = None  # in the service's or the system's own words; of tool_fault the traceback
    error_facts: dict[str, Any] = field(default_factory=dict)  # what this tool knows of the failure
    processing_time: float | None = None  # from the common release until the task was seen done
    queue_time: float | None = None  # from its acceptance until first seen processing
    time_error: float | None = None  # between the last poll that saw it unfinished and the one that saw it done
    submit_offset: float | None = None  # from the common release to its first byte
    rtf: float | None = None  # processing_time / audio_seconds
    empty_text: bool | None = None  # done, but without a word: a silent failure some services show
    worker_rss_before_mb: float | None = None
    worker_rss_after_mb: float | None = None
    worker_rss_delta_mb: float | None = None
    worker_rss_peak_mb: float | None = None
    settled: bool | None = None  # whether memory came to rest before the reading after
    sample_gap_s: float | None = None  # longest time between two looks at the processes, up to the reading after
    memory: dict[str, RoleMemory] = field(default_factory=dict)
    busiest_other: Busy | None = None
    deaths: list[Death] = field(default_factory=list)
    level: LevelFacts | None = None
    end: bool = False  # the last line of a run that reached its end
    settings: dict[str, Any] = field(default_factory=dict)  # on disk in the first line, and where they change
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def clip(self) -> str:
        """What tells its clip from others."""
        return self.audio_path or self.audio_file

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)


# ================================================================================= settings and command line


class CannotStart(Exception):
    """The test cannot start; the message is one sentence for a person, with the command that helps."""


@dataclass(frozen=True)
class Settings:
    """The command line. Seconds, MB (MiB for memory), counts; the names are those of the options."""

    url: str = "http://localhost:8000"
    short_audio: Path = Path("tests/audio/short_audio.wav")
    long_audio: Path = Path("tests/audio/long_audio.wav")
    phase: str = "all"
    at_once: int | None = None
    min_cycles: int = 10
    max_cycles: int = 20
    tolerance_mb: float = 10.0
    delta_limit_mb: float = 200.0
    settle_timeout: float = 30.0
    start: int = 1
    step: int | str = 1  # or DOUBLE
    max_concurrency: int = 32
    rtf_limit: float = 1.0
    task_timeout: float = 3600.0
    stall_timeout: float = 120.0
    memory_reserve: float = 10.0
    watch: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pid: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    no_watch: bool = False
    interval: float = 1.0
    results_dir: Path = Path("tests/results")
    no_report: bool = False
    lang: str = "en"
    quiet: bool = False
    self_check: bool = False

    def for_record(self) -> dict[str, Any]:
        """What a reader needs to judge or repeat the run, as JSON; it holds no secret."""
        left_out = {"results_dir", "no_report", "lang", "quiet", "self_check"}
        record = {k: v for k, v in vars(self).items() if k not in left_out}
        patterns = {role: [without_secrets(pattern) for pattern in them] for role, them in self.watch.items()}
        pids = {role: list(them) for role, them in self.pid.items()}
        return {k: str(v) if isinstance(v, Path) else v for k, v in record.items()} | {
            "url": without_secrets(self.url), "watch": patterns, "pid": pids}


EXAMPLES = """\
examples:
  python3 tests/memory_leak_stress_test.py                         leak phase, then concurrency ramp, at localhost:8000
  python3 tests/memory_leak_stress_test.py --phase leak --max-cycles 30
  python3 tests/memory_leak_stress_test.py --url http://127.0.0.1:9000 --watch worker='celery .*worker'
  python3 tests/memory_leak_stress_test.py --phase concurrency --start 4 --max-concurrency 16 --rtf-limit 0
  python3 tests/memory_leak_stress_test.py --pid worker=4711 --pid api=4700
  python3 tests/memory_leak_stress_test.py --self-check            can this machine see a planted leak?

A token for the API is read from the environment variable ASR_API_TOKEN only.
exit status: 0 all criteria passed, 1 one failed, 2 wrong command line, 3 inconclusive, 4 could not start,
130 interrupted
"""


def parse_command_line(argv: Sequence[str] | None = None) -> Settings:
    """Read the command line; a wrong one ends the program with status 2 and one sentence."""
    p = argparse.ArgumentParser(
        prog="memory_leak_stress_test.py",
        usage="%(prog)s [options]",
        description="Tests whether the memory leak of a speech-recognition service is gone and how many tasks at once "
        "it stands. Run it on the machine that runs the service.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.set_defaults(**vars(Settings()) | {"url": os.environ.get("ASR_URL", Settings.url), "watch": [], "pid": [],
                                         "max_cycles": None})
    whole, positive = number(int, 1), number(float, 0, above=True)

    p.add_argument("--url", type=base_url, help="base URL of the API (default %(default)s, or environment ASR_URL)")
    p.add_argument("--short-audio", type=Path, metavar="PATH", help="short clip, also the ramp's (default %(default)s)")
    p.add_argument("--long-audio", type=Path, metavar="PATH", help="long clip (default %(default)s)")
    p.add_argument("--phase", choices=("all", "leak", "concurrency", "loaded", "monitor"),
                   help="what to run (default %(default)s): all is leak, then concurrency, then loaded where the ramp "
                   "left memory behind; monitor only records processes until Ctrl-C")
    p.add_argument("--at-once", type=whole, metavar="N",
                   help="tasks released together in the leak phase (default 1) and in the loaded phase (default: the "
                   "highest stable level)")

    leak = p.add_argument_group("leak phase")
    leak.add_argument("--min-cycles", type=whole, metavar="N",
                      help="earliest NO LEAK, and earliest end of the phase (default %(default)s)")
    leak.add_argument("--max-cycles", type=whole, metavar="N",
                      help=f"end of the phase (default {Settings.max_cycles}, or --min-cycles where that is more)")
    leak.add_argument("--tolerance-mb", type=positive, metavar="X",
                      help="growth per cycle that counts as a leak (default %(default)s)")
    leak.add_argument("--delta-limit-mb", type=positive, metavar="X",
                      help="growth allowed per task (default %(default)s)")
    leak.add_argument("--settle-timeout", type=positive, metavar="S",
                      help="longest wait for memory to come to rest (default %(default)s)")

    ramp = p.add_argument_group("concurrency ramp")
    ramp.add_argument("--start", type=whole, metavar="N", help="first level (default %(default)s)")
    ramp.add_argument("--step", type=step, metavar="N|x2",
                      help="tasks added per level; x2 doubles, then closes in (default %(default)s)")
    ramp.add_argument("--max-concurrency", type=whole, metavar="N", help="last level (default %(default)s)")
    ramp.add_argument("--rtf-limit", type=number(float, 0), metavar="X",
                      help="the ramp ends where a task's RTF reaches it (default %(default)s; 0: no limit)")
    ramp.add_argument("--task-timeout", type=positive, metavar="S",
                      help="one task, from submit to done (default %(default)s)")
    ramp.add_argument("--stall-timeout", type=positive, metavar="S",
                      help="a task without progress while every worker is idle has stalled (default %(default)s)")
    ramp.add_argument("--memory-reserve", type=number(float, 0, 100), metavar="PERCENT",
                      help="RAM kept free, else the ramp stops (default %(default)s)")

    what = p.add_argument_group("watched processes")
    what.add_argument("--watch", type=role_and(regex), action="append", metavar="ROLE=REGEX",
                      help="processes of a role (worker, api, backend) by the program they run; replaces that role's "
                      "default pattern; may repeat")
    what.add_argument("--pid", type=role_and(number(int, 1)), action="append", metavar="ROLE=PID",
                      help="watch this process tree for that role; may repeat")
    what.add_argument("--no-watch", action="store_true", help="load only, no process memory (remote service)")
    what.add_argument("--interval", type=number(float, 0.2, 60), metavar="S",
                      help="seconds between CSV samples (default %(default)s)")

    out = p.add_argument_group("output")
    out.add_argument("--results-dir", type=Path, metavar="DIR", help="where files are written (default %(default)s)")
    out.add_argument("--no-report", action="store_true", help="write no markdown report")
    out.add_argument("--lang", choices=("en", "zh-CN"), help="language of the report (default %(default)s)")
    out.add_argument("--quiet", action="store_true", help="print only the summary")
    out.add_argument("--version", action="version", version=VERSION)
    out.add_argument("--self-check", action="store_true", help="only check that a planted leak is seen on this machine")

    args = vars(p.parse_args(argv))
    if args["max_concurrency"] < args["start"]:
        p.error(f"--max-concurrency {args['max_concurrency']} is below --start {args['start']}: change one of them")
    if args["no_watch"] and (args["watch"] or args["pid"] or args["phase"] == "monitor"):
        p.error("--no-watch does not go with --watch, --pid or --phase monitor: leave one of them out")
    if args["phase"] == "loaded" and not args["at_once"]:
        p.error("--phase loaded alone needs --at-once N: how many tasks to release together in each cycle")
    if args["max_cycles"] is None:
        args["max_cycles"] = max(Settings.max_cycles, args["min_cycles"])
    args["watch"], args["pid"] = by_role(args["watch"]), by_role(args["pid"])
    return Settings(**args)


def number(kind: type, low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], Any]:
    """An argparse type: a finite number from `low` (or above it) to `high`."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high) or math.isinf(value) or (above and value == low):
            what = f"a {'whole ' if kind is int else ''}number {'above' if above else 'of at least'} {low:g}"
            upper = "" if math.isinf(high) else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}{upper}")
        return value

    return parse


def step(text: str) -> int | str:
    whole: int | str = DOUBLE if text == DOUBLE else number(int, 1)(text)
    return whole


def base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port of 99999, half an IPv6 address
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"{without_secrets(text)!r} is not a URL like http://localhost:8000")
    return text.rstrip("/")


def regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None
    return text


def role_and(parse: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    def parse_pair(text: str) -> tuple[str, Any]:
        role, _, value = text.partition("=")
        if role not in ROLES or not value:
            raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=VALUE with a role of {', '.join(ROLES)}")
        return role, parse(value)

    return parse_pair


def by_role(pairs: Iterable[tuple[str, Any]]) -> dict[str, tuple[Any, ...]]:
    table: dict[str, tuple[Any, ...]] = {}
    for role, value in pairs:
        table[role] = (*table.get(role, ()), value)
    return table


NAMED_SECRET = r"(?:password|passwd|secret|token|api[-_]?key|authorization)"
SECRETS = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]*@", re.I), r"\1***@"),  # redis://:password@host
    # token=…, "password": "…", Authorization: Bearer …; in a sentence a space is not enough ("unexpected token at 3")
    (re.compile(rf"({NAMED_SECRET}[\"']?\s*[=:]\s*[\"']?(?:(?:bearer|basic|token)\s+)?[\"']?)[^\s\"',&]+", re.I),
     r"\1***"),
    (re.compile(rf"(--?[\w-]*{NAMED_SECRET}\s+[\"']?)[^\s\"',&]+", re.I), r"\1***"),  # --token …
)


def without_secrets(text: str) -> str:
    """The text with passwords in URLs, `password=…`, `--token …` and the API token replaced by ***."""
    token = os.environ.get("ASR_API_TOKEN")
    if token:
        text = text.replace(token, "***")
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


# =============================================================================================== audio clips

AUDIO_ENDINGS = (".wav", ".mp3", ".m4a", ".flac", ".ogg")


@dataclass(frozen=True)
class Clip:
    """A recording to submit; `seconds` comes from the file's own header."""

    path: Path
    size_bytes: int
    seconds: float


def read_clip(path: Path) -> Clip:
    """Look at a clip without decoding it. Raises CannotStart where it cannot be used."""
    if path.suffix.lower() not in AUDIO_ENDINGS:
        raise CannotStart(f"{path} must end in one of {' '.join(AUDIO_ENDINGS)}: the service goes by the file name.")
    try:
        size = path.stat().st_size
        seconds = wav_seconds(path) if path.suffix.lower() == ".wav" else tagged_seconds(path)
    except FileNotFoundError:
        raise CannotStart(f"Audio clip not found: {path}. Make the standard clips with: make audio "
                          "(or name your own with --short-audio and --long-audio)") from None
    except (OSError, ValueError, struct.error) as error:
        raise CannotStart(f"{path} cannot be read as audio ({error}). Check it with: file {path}") from None
    if not seconds > 0:
        raise CannotStart(f"{path} holds no sound (length 0 s). Check it with: file {path}")
    return Clip(path, size, seconds)


def wav_seconds(path: Path) -> float:
    """Length of a RIFF/WAVE file: bytes of its data chunk over its byte rate (whatever the sample format).

    A data size that the file does not hold (a recorder cut off writes 0 or 0xFFFFFFFF) counts up to the file's end.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        riff = file.read(12)
        if riff[:4] not in (b"RIFF", b"RF64") or riff[8:12] != b"WAVE":
            raise ValueError("not a RIFF/WAVE file")
        byte_rate = 0
        while len(header := file.read(8)) == 8:
            kind, length = header[:4], struct.unpack("<I", header[4:])[0]
            if kind == b"fmt ":
                byte_rate = struct.unpack("<8xI", file.read(12))[0]
                file.seek(length - 12 + length % 2, os.SEEK_CUR)
            elif kind == b"data":
                left = size - file.tell()
                if not byte_rate:
                    raise ValueError("no format before the data")
                return (min(length, left) or left) / byte_rate
            else:
                file.seek(length + length % 2, os.SEEK_CUR)
    raise ValueError("no data chunk")


def tagged_seconds(path: Path) -> float:
    """Length of an mp3, m4a, flac or ogg file from its header."""
    try:
        # Only those who test with compressed clips need it; wav works without.
        from tinytag import TinyTag, TinyTagException
    except ImportError:
        raise ValueError(f"the length of {path.suffix} files is read with tinytag: pip install tinytag") from None
    try:
        return float(TinyTag.get(path, tags=False).duration or 0.0)
    except TinyTagException as error:
        raise ValueError(str(error)) from None


# ============================================================================================ the API client

SUBMIT_TIMEOUT_S = 120.0  # the whole answer to a submission: a busy service that takes longer refuses in effect
POLL_TIMEOUT_S = 10.0  # the whole answer to one poll; a slow one is asked again
ANSWER_LIMIT = 4_000_000  # bytes read of one answer: an hour of transcript is about 60 kB
WORDS_LIMIT = 300  # characters kept of the service's own words
POLL_SHARE = 0.05  # next poll after 5 % of the time so far: the timing error stays near 5 % and falls with length
POLL_FLOOR_S = 0.1
POLL_CEILING_S = 2.0
POLLS_PER_SECOND = 400  # of all tasks together; one client tops out near 700-900
POLL_DOUBLINGS = 4  # a failed poll doubles the wait, so often at most: 16 times the floor is near the ceiling
TIMEOUTS = ("task_timeout", "submit_timeout", "stalled")  # kinds of failure whose status is "timeout"
TOOL_FAULT = "tool_fault"
NOT_THE_SERVICES = ("interrupted", TOOL_FAULT)  # kinds of failure that say nothing of the service
TRACEBACK_LIMIT = 4000  # characters kept of its end
LOST_AFTER = 2  # answers "404 unknown" in a row before an accepted task counts as lost
HORSE_DIED = re.compile(r"work-?horse\b.{0,20}\bterminated|AbandonedJobError", re.I)  # RQ's words for a killed child


@dataclass(frozen=True)
class ApiDescription:
    """Where a service's API keeps what a test needs: paths, names of fields, words for states."""

    submit_path: str = "/api/v1/asr/submit"
    file_field: str = "audio"
    id_field: str = "task_id"
    result_path: str = "/api/v1/asr/result/{id}"
    status_field: str = "status"
    queued: frozenset[str] = frozenset({"queued"})
    processing: frozenset[str] = frozenset({"processing"})
    done: frozenset[str] = frozenset({"done"})
    failed: frozenset[str] = frozenset({"failed"})
    text_field: str = "text"
    error_field: str = "error"
    health_path: str = "/api/v1/health"
    unhealthy: frozenset[str] = frozenset({"unavailable"})
    queue_path: str = "/api/v1/asr/queue/status"


class TaskError(Exception):
    """A task came to an end without success.

    `kind` is one word, the message what the service or the system said, `facts` what this tool knows of it.
    """

    def __init__(self, kind: str, words: str = "", **facts: Any) -> None:
        super().__init__(shortened(words))
        self.kind, self.facts = kind, facts


class BadAnswer(ValueError):
    """An answer that the API's description does not fit: a problem in a few words, and the service's own words."""

    def __init__(self, problem: str, words: str = "") -> None:
        super().__init__(f"{problem}: {shortened(words)}" if words else problem)
        self.problem, self.words = problem, words


class PollFailed(Exception):
    """One poll brought no usable answer; the task itself may be well."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole within its time."""

    code: int
    body: bytes
    location: str | None = None

    @property
    def words(self) -> str:
        """The service's own words: the error field of a JSON answer, else its text."""
        said = self.body.decode("utf-8", "replace")
        try:
            content = json.loads(said)
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            found = next((content[k] for k in ("detail", "error", "message", "msg") if content.get(k)), content)
            said = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
        return f"-> {self.location}" if self.location else said

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises BadAnswer."""
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
            raise BadAnswer("not JSON" if self.body.strip() else "empty answer", self.words) from None
        if not isinstance(content, dict):
            raise BadAnswer("not a JSON object", self.words)
        return content


@dataclass(frozen=True)
class TaskState:
    """What a poll saw: state is queued, processing, done or failed."""

    state: str
    words: str = ""
    empty_text: bool | None = None


class ApiClient:
    """The service's API, fed by its description. Knows HTTP and states, nothing of threads or timing."""

    def __init__(self, url: str, api: ApiDescription, token: str | None = None) -> None:
        self.url, self.api = url, api
        self.headers = {"User-Agent": f"memory-leak-stress-test/{VERSION}"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def session(self) -> requests.Session:
        """A connection of its own, past any proxy of the environment (a proxy's queue is not the service's)."""
        session = requests.Session()
        session.trust_env = False
        return session

    def get(self, path: str) -> requests.PreparedRequest:
        return requests.Request("GET", self.url + path, headers=self.headers).prepare()

    def health(self, session: requests.Session) -> dict[str, Any]:
        """The health page's content. Raises requests.RequestException or BadAnswer."""
        answer = fetch(session, self.get(self.api.health_path), POLL_TIMEOUT_S)
        if answer.code != 200:
            raise BadAnswer(f"HTTP {answer.code}", answer.words)
        return answer.json()

    def workers(self, session: requests.Session) -> int | None:
        """How many workers the service says it has; None where it does not say."""
        try:
            answer = fetch(session, self.get(self.api.queue_path), POLL_TIMEOUT_S)
            count = answer.json().get("workers")
        except (requests.RequestException, ValueError):
            return None  # the page is a convenience: other services of this shape may lack it
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    def prepare(self, clip: Clip) -> requests.PreparedRequest:
        """Encode the upload once; every task of a level sends this same body."""
        with clip.path.open("rb") as file:
            upload = requests.Request("POST", self.url + self.api.submit_path, headers=self.headers,
                                      files={self.api.file_field: (clip.path.name, file.read())})
        return upload.prepare()

    def submit(self, session: requests.Session, upload: requests.PreparedRequest, timeout: float) -> str:
        """Send the clip, whole within `timeout` seconds; the service's task id. Raises TaskError."""
        try:
            answer = fetch(session, upload.copy(), timeout)
            if not 200 <= answer.code < 300:
                raise TaskError(f"submit_http_{answer.code}", answer.words)
            task_id = answer.json().get(self.api.id_field)
        except requests.RequestException as error:
            words = str(error)
            late = isinstance(error, requests.Timeout) or "timed out" in words  # the body could not be sent in time
            refused = "refused" in words.lower() or "NewConnectionError" in words
            kind = "submit_timeout" if late else "submit_refused" if refused else "submit_reset"
            raise TaskError(kind, words) from None
        except BadAnswer as error:
            raise TaskError("bad_response", error.words, problem=error.problem) from None
        if not isinstance(task_id, (str, int)) or task_id == "":
            raise TaskError("bad_response", answer.words, problem=f"no {self.api.id_field}")
        return str(task_id)

    def question(self, task_id: str) -> requests.PreparedRequest:
        """The poll for a task, made once: to make it each time would double what a poll costs."""
        return self.get(self.api.result_path.format(id=quote(task_id, safe="")))

    def poll(self, session: requests.Session, question: requests.PreparedRequest) -> TaskState | None:
        """The task's state, None where the service says it does not know it (404). Raises PollFailed."""
        try:
            answer = fetch(session, question, POLL_TIMEOUT_S)
            if answer.code == 404:
                return None
            if answer.code != 200:
                raise PollFailed(f"HTTP {answer.code}: {shortened(answer.words)}")
            content = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise PollFailed(shortened(str(error))) from None
        status = str(content.get(self.api.status_field))
        state = next((s for s in ("queued", "processing", "done", "failed") if status in getattr(self.api, s)), None)
        if state is None:
            raise PollFailed(f"unknown {self.api.status_field}: {shortened(json.dumps(content, ensure_ascii=False))}")
        text = content.get(self.api.text_field)
        return TaskState(state, str(content.get(self.api.error_field) or ""),
                         not str(text).strip() if state == "done" and text is not None else None)


def fetch(session: requests.Session, request: requests.PreparedRequest, timeout: float) -> Answer:
    """One exchange, whole within `timeout` seconds, without following redirects.

    Past `Session.send`, which waits for ever on a redirect's body that trickles. Raises requests.RequestException,
    and BadAnswer for one that cannot be decoded or is longer than ANSWER_LIMIT.
    """
    deadline = time.monotonic() + timeout
    body = bytearray()
    try:
        # urllib3 gives the time for connecting to the sending of the body as well: 10 s would cut off a slow upload.
        response = session.get_adapter(request.url or "").send(request, stream=True, timeout=(timeout, timeout))
        with response:
            # One byte more than asked may never come, so take what is there: read1 returns after one receive.
            while chunk := response.raw.read1(65536, decode_content=True):
                body += chunk
                if time.monotonic() > deadline:
                    raise requests.Timeout(f"the answer did not end within {timeout:g} s")
                if len(body) > ANSWER_LIMIT:
                    raise BadAnswer(f"longer than {ANSWER_LIMIT} bytes")
            return Answer(response.status_code, bytes(body), response.headers.get("Location"))
    except urllib3.exceptions.DecodeError as error:
        raise BadAnswer("cannot be decoded", str(error)) from None
    except urllib3.exceptions.TimeoutError as error:  # those of reading a body; the adapter translates the others
        raise requests.Timeout(str(error)) from None
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(str(error)) from None


def shortened(words: str, limit: int = WORDS_LIMIT) -> str:
    """One line of at most `limit` characters without secrets: its beginning and its end (a traceback's reason)."""
    head, tail = (words, "") if len(words) <= 20 * limit else (words[: 10 * limit], words[-10 * limit :])
    line = " ".join(without_secrets(f"{head} {tail}").split())
    cut = limit // 3
    return line if len(line) <= limit else f"{line[:cut]} … {line[cut + 3 - limit:]}"


@dataclass
class Outcome:
    """What became of one task. Times in seconds on one monotonic clock, from the common release."""

    number: int
    status: str  # success | failed | timeout
    error_kind: str | None = None
    error: str | None = None
    error_facts: dict[str, Any] = field(default_factory=dict)
    task_id: str | None = None
    submit_offset: float | None = None
    processing_time: float | None = None
    queue_time: float | None = None
    time_error: float | None = None
    empty_text: bool | None = None

    def failed(self, kind: str, words: str = "", facts: Mapping[str, Any] | None = None) -> None:
        """The task ended without success."""
        self.status = "timeout" if kind in TIMEOUTS else "failed"
        self.error_kind, self.error, self.error_facts = kind, words or None, dict(facts or {})

    @property
    def words(self) -> str:
        """Why it failed, for the screen: its kind, what this tool knows, the words of the service."""
        known = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.error_facts.items())
        return ": ".join(part for part in (self.error_kind, known, self.error) if part)


@dataclass
class Batch:
    """Tasks released together: what their threads share with the one that waits for them."""

    client: ApiClient
    upload: requests.PreparedRequest
    size: int
    task_timeout: float
    given_up: Callable[[float], TaskError | None]  # given the time of the last progress: why waiting is pointless
    aborted: threading.Event  # the user interrupts
    outcomes: queue.Queue[Outcome] = field(default_factory=queue.Queue)
    release_at: float = 0.0
    last_progress: float = 0.0  # any task of the batch changed its state

    def start(self) -> None:
        """Open every connection, then release all tasks at once."""
        gate = threading.Barrier(self.size + 1, action=self._stamp_release)
        for number in range(self.size):
            threading.Thread(target=self._task_thread, args=(number, gate), name=f"task-{number}", daemon=True).start()
        gate.wait()

    def ends(self, outcomes: Iterable[Outcome]) -> list[float]:
        """When each task was last known to be unfinished, on the monotonic clock; one without an end has none."""
        return [math.inf if o.processing_time is None else self.release_at + o.processing_time - (o.time_error or 0.0)
                for o in outcomes]

    def _stamp_release(self) -> None:
        self.release_at = self.last_progress = time.monotonic()

    def _task_thread(self, number: int, gate: threading.Barrier) -> None:
        outcome = Outcome(number, "failed")
        with self.client.session() as session:
            # Opens the connection. In trouble the submission meets it too and reports it, while a thread that ended
            # here would keep all others waiting at the gate.
            with contextlib.suppress(Exception):
                self.client.health(session)
            gate.wait()
            try:
                run_task(self, session, outcome)
            except TaskError as error:
                outcome.failed(error.kind, str(error), error.facts)
            except Exception:  # a fault of this tool: a result of its own kind, not a thread that vanished
                outcome.failed(TOOL_FAULT, without_secrets(traceback.format_exc()[-TRACEBACK_LIMIT:]))
        self.outcomes.put(outcome)


def run_task(batch: Batch, session: requests.Session, outcome: Outcome) -> None:
    """Submit one task and poll it to its end; fills `outcome` as it goes. Raises TaskError.

    Times as in the field: turnaround from the common release (the moment the task was due, so a client that is late
    cannot flatter the service) to the poll that saw it done; time_error back to the last poll that did not.
    """
    client, release = batch.client, batch.release_at
    if batch.aborted.is_set():
        raise TaskError("interrupted", sent=False)
    outcome.submit_offset = time.monotonic() - release
    outcome.task_id = client.submit(session, batch.upload, min(SUBMIT_TIMEOUT_S, batch.task_timeout))
    answered = unfinished_at = batch.last_progress = time.monotonic()
    question = client.question(outcome.task_id)
    state, unknown, failed_polls, trouble = "queued", 0, 0, ""
    reason: TaskError | None = None
    while True:
        if reason:  # and it has been asked for once more since: it may have ended before its worker did
            # What the service answers instead of a state says more than its silence.
            raise TaskError("bad_response", trouble) if trouble and reason.kind == "stalled" else reason
        batch.aborted.wait(poll_wait(time.monotonic() - release, batch.size, failed_polls))
        if batch.aborted.is_set():
            raise TaskError("interrupted", sent=True)
        asked = time.monotonic()
        if asked - release > batch.task_timeout:
            raise TaskError("task_timeout", trouble, limit_s=batch.task_timeout, last_seen=state)
        reason = batch.given_up(batch.last_progress)
        try:
            seen = client.poll(session, question)
        except PollFailed as error:  # the task itself may be well: ask until its own time-out
            failed_polls, trouble = failed_polls + 1, str(error)
            continue
        failed_polls, trouble = 0, ""
        now = time.monotonic()
        if seen is None:
            unknown += 1
            if unknown >= LOST_AFTER:
                raise TaskError("task_lost", task_id=outcome.task_id)
            continue
        unknown = 0
        if seen.state != state:
            batch.last_progress = now
            if seen.state == "processing" and outcome.queue_time is None:
                outcome.queue_time = now - answered
            state = seen.state
        if state in ("done", "failed"):
            outcome.processing_time, outcome.time_error = now - release, now - unfinished_at
        if state == "failed":
            kind = "worker_died" if HORSE_DIED.search(seen.words) else "task_failed"
            raise TaskError(kind, seen.words)
        if state == "done":
            outcome.status, outcome.empty_text = "success", seen.empty_text
            return
        unfinished_at = asked  # what the answer says was true at some time since


def poll_wait(elapsed: float, size: int, failed_polls: int = 0) -> float:
    """Seconds until a task's next poll: a share of the time so far, more after failed polls, within bounds.

    `size` tasks poll at a time, so the floor rises with it.
    """
    floor = max(POLL_FLOOR_S, size / POLLS_PER_SECOND)
    wait = max(floor, POLL_SHARE * elapsed) * (1 << min(failed_polls, POLL_DOUBLINGS))
    return max(floor, min(POLL_CEILING_S, wait))


# ======================================================================================== watched processes

# A role's default pattern is searched in the line "program arguments…" of program_line() and must begin inside the
# program, so that editors, greps and tails with the words among their arguments are not taken for the service.
PATTERNS: Mapping[str, tuple[str, ...]] = {
    "worker": (r"(?:^|/)rq\s+worker(?:-pool)?(?:\s|$)", r"(?:^|/)rqworker(?:\s|$)",
               r"^rq\.cli\s+worker(?:-pool)?(?:\s|$)", r"^rq:worker:"),
    "api": (r"(?:^|/)uvicorn(?:\s|$)", r"(?:^|/)gunicorn(?:\s|$)", r"^gunicorn: "),
    "backend": (r"(?:^|/)asr-backend(?:\s|$)",),
}
START_HINT = {
    "worker": "start it with: rq worker asr-queue --url redis://localhost:6379/0 (or name yours with "
              "--watch worker=REGEX or --pid worker=PID)",
    "api": "start it with: uvicorn src.api.main:app --host 0.0.0.0 --port 8000 (or name yours with --watch api=REGEX "
           "or --pid api=PID)",
    "backend": "start it, or leave --watch backend and --pid backend out",
}
QUEUE_NAME = "asr-queue"
POOL = re.compile(r"(?:\S*/)?rq(?:\.cli)?\s+worker-pool\b")
INTERPRETER = re.compile(r"^(python|pypy)[\d.]*t?d?(\.exe)?$", re.I)
MODULE_OR_CODE = re.compile(r"^-[bBdEhiIOPqRsSuvVx]*([mc])(.*)")  # also -um uvicorn, -muvicorn; not -Xfrozen_modules
SHELL = re.compile(r"^(ba|da|z|k|a)?sh$")
YOUNG_S = 5.0  # a process may still exec or set its title: look at its command line again


def program_line(argv: Sequence[str]) -> str:
    """The program that runs, then its arguments: what a role's pattern is matched against.

    An interpreter stands back behind its script or module (`python -m rq.cli worker q` -> `rq.cli worker q`); a shell
    only behind a script file, since `sh -c "rq worker q"` is the shell. A title set by setproctitle is kept as it is.
    """
    words = [word for word in argv if word]
    if not words:
        return ""
    name = os.path.basename(words[0])
    if INTERPRETER.match(name):
        at = 1
        while at < len(words) and words[at].startswith("-") and words[at] != "-":
            if found := MODULE_OR_CODE.match(words[at]):
                return " ".join([found[2], *words[at + 1 :]] if found[1] == "m" else words).lstrip()
            at += 2 if words[at] in ("-W", "-X", "--check-hash-based-pycs") else 1
        return " ".join(words[at:])
    if SHELL.match(name) and len(words) > 1 and not words[1].startswith(("-", "+")):
        return " ".join(words[1:])
    return " ".join(words)


def plays(role_patterns: Sequence[str], argv: Sequence[str]) -> bool:
    """Whether a command line runs a program of these patterns; one may also begin at the interpreter itself."""
    lines = (program_line(argv), " ".join(argv).rstrip())
    title = not any(argv[1:])
    return any((found := re.search(p, line)) and found.start() < max(1, len(line if title else line.split(" ", 1)[0]))
               for line in lines for p in role_patterns)


@dataclass(frozen=True)
class MemorySample:
    """One process now, MiB: RSS, private memory and peak RSS; None where the system does not tell.

    Private memory is RssAnon + RssShmem + VmSwap: what the process cannot get back from a file, so what a leak is made
    of. Mapped files (a model) move RSS but not this; swapping hides memory from RSS but not from this. Shared memory
    without a file counts in each process that maps it: a leak there (tensors handed between processes) must show, and
    a buffer of fixed size counted more than once is first use, not growth.
    """

    rss: float
    private: float | None
    high_water: float | None


STATUS_KIB = re.compile(rb"^(VmRSS|VmHWM|RssAnon|RssShmem|VmSwap):\s*(\d+)", re.M)


def read_memory(process: psutil.Process) -> MemorySample | None:
    """About 30 us on Linux whatever the size; None when the process has gone or is a zombie."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None if sys.platform == "linux" else read_rss(process)
    mb = {key: int(kib) / 1024 for key, kib in STATUS_KIB.findall(status)}
    if b"VmRSS" not in mb:  # a zombie keeps its entry but holds no memory
        return None
    private = mb[b"RssAnon"] + mb.get(b"RssShmem", 0.0) + mb.get(b"VmSwap", 0.0) if b"RssAnon" in mb else None
    return MemorySample(mb[b"VmRSS"], private, mb.get(b"VmHWM"))


def read_rss(process: psutil.Process) -> MemorySample | None:
    """RSS alone, on systems without /proc/PID/status."""
    try:
        return MemorySample(process.memory_info().rss / MIB, None, None)
    except psutil.Error:
        return None


def reset_high_water(pid: int) -> None:
    """Let VmHWM start again from the present RSS, so that a peak belongs to one task."""
    # Another user's process, or not Linux: the peak then comes from sampling and from rises of VmHWM.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def listens(pid: int, port: int) -> bool:
    """Whether a process listens on a TCP port (servers with several workers bind in the parent)."""
    try:
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port
                   for c in psutil.Process(pid).net_connections("tcp"))
    except psutil.Error:
        return False  # ended, or another user's: nobody tells


CPU_FIELDS = slice(11, 15)  # of /proc/PID/stat behind the name: utime, stime, and those of children that have ended
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float | None:
    """CPU a process has used in its life, with that of its children that have ended and been waited for; None: gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return sum(map(int, stat.rpartition(b")")[2].split()[CPU_FIELDS])) / CLOCK_TICKS
    except (FileNotFoundError, ProcessLookupError):
        return None if sys.platform == "linux" else other_cpu_seconds(pid)


def other_cpu_seconds(pid: int) -> float | None:
    """The same on systems without /proc."""
    try:
        return sum(psutil.Process(pid).cpu_times()[:4])
    except psutil.Error:
        return None


def ancestors(pid: int) -> list[int]:
    """The process's parents up to the first, nearest first; none where it has ended."""
    try:
        return [p.pid for p in psutil.Process(pid).parents()]
    except psutil.Error:
        return []


@dataclass
class Watched:
    """A process of a watched tree and what was last read of it."""

    process: psutil.Process
    role: str
    name: str
    started: float  # seconds since the epoch
    line: str
    root: bool  # top of its tree
    serves: bool  # takes tasks by itself: a root, a worker below a pool, a server's child; not a work-horse or helper
    sample: MemorySample
    tick_peak: float  # RSS peak since the sample before
    high_water: float  # VmHWM at the last sample
    peak: float  # RSS peak in this window
    parent: int | None = None
    resident: bool = False  # was there when the window opened
    ended: bool = False
    cpu_seconds: float = 0.0  # used at the last scan
    last_row: tuple[float, float] | None = None  # when its last CSV row was written, CPU seconds then

    def for_record(self) -> ProcessMemory:
        started = datetime.fromtimestamp(self.started).isoformat(timespec="milliseconds")
        return ProcessMemory(self.process.pid, started, self.name, rounded(self.peak), self.ended, self.resident,
                             self.root, rounded(self.sample.private))


def is_worker(watched: Watched) -> bool:
    """Whether its children are work-horses and helpers; those of a pool, a shell or a supervisor are workers."""
    try:
        pool = watched.root and POOL.match(watched.line)  # its workers have its command line, too
        return not pool and plays(PATTERNS["worker"], watched.process.cmdline())
    except psutil.Error:
        return True  # it has just ended, and what it has left behind serves no more


@dataclass(frozen=True)
class Program:
    """A process's command line when last read, and the roles whose patterns it meets."""

    created: float
    line: str
    roles: frozenset[str]
    may_change: bool  # a shell may exec at any time, an RQ worker's title says what it does now


@dataclass
class ProcessTable:
    """The watched processes: finds roots by their program, follows their descendants, forgets the dead."""

    patterns: Mapping[str, Sequence[str]]
    pids: Mapping[str, Sequence[int]]
    port: int  # of the API
    narrowed: set[str]  # roles found by default pattern where other services' processes can be told from ours
    alive: dict[int, Watched] = field(default_factory=dict)
    seen: dict[int, Program] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)  # all pids a tick ago
    told: set[str] = field(default_factory=set)  # roles of which ours have been told from others'
    own: frozenset[int] = frozenset()

    @classmethod
    def for_settings(cls, s: Settings) -> ProcessTable:
        patterns = {role: s.watch.get(role, PATTERNS[role]) for role in ROLES if role in s.watch or role not in s.pid}
        url = urlsplit(s.url)
        own = frozenset(p.pid for p in (psutil.Process(), *psutil.Process().parents()))
        return cls(patterns, s.pid, url.port or {"http": 80, "https": 443}[url.scheme],
                   {"worker", "api"} - s.watch.keys() - s.pid.keys(), own=own)

    def scan(self) -> None:
        """Look for new roots on the whole machine; reads only command lines not read before, or that may change."""
        first, programs = not self.seen, self._programs()
        for role, pids in self.pids.items():
            for pid in pids if first else ():  # later the number may be another process's
                self._add(role, pid, None)
        for role in self.patterns:
            found = [pid for pid, program in programs.items() if role in program.roles]
            ours = self._ours(role, found, programs)
            for pid in sorted(ours, key=lambda p: programs[p].created):  # parents are older
                self._add(role, pid, None)
        self.follow()

    def _ours(self, role: str, found: list[int], programs: Mapping[int, Program]) -> set[int]:
        """Other services run uvicorn and rq too: keep the server on the API's port, the workers that name its queue.

        A worker's title names the queue only while it listens; its scheduler or work-horse then tells for it. Where
        none can be told when first found (a proxy in front, a queue of another name), all are watched.
        """
        if role not in self.narrowed:
            return set(found)
        ours = {p for p in found if p not in self.alive and
                (QUEUE_NAME in programs[p].line if role == "worker" else listens(p, self.port))}
        if ours:
            self.told.add(role)
        elif found and role not in self.told:
            self.narrowed.discard(role)
            return set(found)
        return ours.union(*({p for p in ancestors(pid) if p in found} for pid in ours))

    def _programs(self) -> dict[int, Program]:
        now, current = time.time(), {}
        for process in psutil.process_iter():
            pid = process.pid
            if pid in self.own:
                continue
            try:
                created = process.create_time()
                known = self.seen.get(pid)
                if known and known.created == created and now - created > YOUNG_S and not known.may_change:
                    current[pid] = known
                    continue
                argv = process.cmdline()
            except psutil.Error:
                continue  # ended while we looked, or another user's on a system that hides them
            line = " ".join(argv)
            roles = frozenset(role for role, patterns in self.patterns.items() if plays(patterns, argv))
            name = os.path.basename(argv[0]) if argv else ""
            may_change = bool(SHELL.match(name)) or line.startswith("rq:worker:")
            current[pid] = Program(created, line, roles, may_change)
        self.seen = current
        return current

    def follow(self) -> None:
        """Take in new children of watched processes: only pids not there a tick ago are asked for their parent."""
        pids = set(psutil.pids())
        new, self.known = pids - self.known - self.own, pids
        while born := [pid for pid in new if self._adopt(pid)]:
            new.difference_update(born)

    def _adopt(self, pid: int) -> Watched | None:
        try:
            parent = self.alive.get(psutil.Process(pid).ppid())
        except psutil.Error:
            return None  # ended at once
        return self._add(parent.role, pid, parent) if parent else None

    def _add(self, role: str, pid: int, parent: Watched | None) -> Watched | None:
        if pid in self.alive:
            return None
        try:
            process = psutil.Process(pid)
            argv, started, name = process.cmdline(), process.create_time(), process.name()
            below: list[psutil.Process] = []
            if parent is None:  # a match below a watched process (a work-horse, a scheduler) is part of its tree
                below = process.children(recursive=True)
                above = (self.alive.get(p) for p in ancestors(pid))
                parent = next((w for w in above if w and w.role == role), None)
        except psutil.Error:
            return None  # ended between the list and the look
        sample = read_memory(process)
        if sample is None:
            return None
        serves = parent is None or (role == "worker" and plays(PATTERNS["worker"], argv) and not is_worker(parent))
        peak = max(sample.rss, sample.high_water or 0.0)  # new since the last look, so is its peak
        self.alive[pid] = watched = Watched(process, role, name, started, program_line(argv), parent is None, serves,
                                            sample, peak, 0.0, peak, parent.process.pid if parent else None)
        for child in below:
            if child.pid not in self.own:
                self._adopt(child.pid)
        return watched

    def serving(self) -> Counter[str]:
        """How many processes serve each role; a child of a server that listens with it is a server, too."""
        for watched in self.alive.values():
            if watched.role == "api" and not watched.serves:  # a child gets its socket a moment after its birth
                watched.serves = listens(watched.process.pid, self.port)
        return Counter(w.role for w in self.alive.values() if w.serves)

    def read(self, *, identify: bool = True) -> list[Watched]:
        """Sample every watched process; returns those that have ended since the last time.

        With `identify` it makes sure that each pid still is the process it was, which costs as much as the sample.
        """
        ended = []
        for pid, watched in list(self.alive.items()):
            sample = read_memory(watched.process) if not identify or watched.process.is_running() else None
            if sample is None:
                watched.ended = True
                ended.append(self.alive.pop(pid))
                continue
            high = sample.high_water or 0.0
            # A risen VmHWM is a peak that stood between two samples, however short it was.
            watched.tick_peak = max(sample.rss, high if high > watched.high_water else 0.0)
            watched.peak = max(watched.peak, watched.tick_peak)
            watched.high_water, watched.sample = high, sample
        return ended


# ================================================================================================ the sampler

TICK_S = 0.2  # trees and memory are looked at this often: a work-horse of 0.4 s is seen, at well under 1 % of a core
SCAN_S = 1.0  # the whole machine is searched for new roots this often
SETTLE_S = 2.0  # memory has come to rest when it kept within SETTLE_MB for this long
SETTLE_MB = 5.0
IDLE_CPU = 0.03  # share of a core below which a worker or work-horse is idle (RQ's heartbeat uses 0.001)
GAP_S = 3.0  # a longer hole in the samples could hide a replaced process
CSV_COLUMNS = ("timestamp", "elapsed_seconds", "process_name", "pid", "cpu_percent", "memory_rss_mb", "memory_percent")


@dataclass(frozen=True)
class Reading:
    """All watched roles at one moment: role -> RSS and private memory in MiB, summed over its trees."""

    at: float
    rss: Mapping[str, float]
    private: Mapping[str, float]
    pids: frozenset[int]
    settled: bool = False
    drift: Mapping[str, float] = field(default_factory=dict)  # role -> MiB gained while it was seen to be at rest


@dataclass(frozen=True)
class Ending:
    """A process that serves a role has ended, as the sampler noticed it."""

    at: float  # monotonic
    role: str
    pid: int
    name: str
    root: bool
    left_work: bool  # a child of it that was born in this window lives on

    def as_death(self, unfinished: int, replaced: bool, oom_kill: bool | None) -> Death:
        noticed = datetime.now() - timedelta(seconds=time.monotonic() - self.at)
        return Death(self.role, self.pid, self.name, noticed.isoformat(timespec="milliseconds"), self.root, unfinished,
                     self.left_work, replaced, oom_kill)


@dataclass(frozen=True)
class Look:
    """A watched process as the sampler last saw it. Memory in MiB."""

    role: str
    pid: int
    name: str
    line: str
    root: bool
    serves: bool
    rss: float
    private: float | None


@dataclass(frozen=True)
class Observed:
    """What was seen of the watched processes between two readings. Memory in MiB."""

    processes: Mapping[str, tuple[ProcessMemory, ...]]  # role -> those that ended meanwhile, then those alive
    peaks: Mapping[str, float]  # role -> highest sum of RSS over its trees
    endings: tuple[Ending, ...]
    not_replaced: frozenset[str]  # roles that fewer processes serve than when the window opened
    available_min: float  # of free memory on the host
    oom_kills: int | None  # processes the kernel killed for lack of memory
    longest_gap: float  # seconds between two looks at the processes


@dataclass(frozen=True)
class CpuLook:
    """CPU seconds used so far, at one moment: who works while tasks run?"""

    at: float  # monotonic
    roles: Mapping[str, float]  # role -> its processes and their ended children
    others: Mapping[int, float]  # pid -> CPU seconds, of every process that is not watched


@dataclass
class Window:
    """What the sampler gathers between two readings; nothing but the sampler ever holds one."""

    ended: list[Watched] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)
    reported: int = 0  # of them, the first so many
    serving: Counter[str] = field(default_factory=Counter)  # processes that served each role when it opened
    available_min: float = math.inf
    oom_kills: int | None = None  # the kernel's count when the window opened
    longest_gap: float = 0.0


@dataclass(frozen=True)
class Tick:
    """One look at the processes, and what else is due at it."""

    number: int
    at: float  # monotonic
    gap: float  # seconds since the look before; above the plan's period where ticks were late or missed
    scan: bool  # search the whole machine for new roots
    rows: bool  # write the CSV's rows


@dataclass(frozen=True)
class TickPlan:
    """Deadlines on the monotonic clock, fixed by `start`: a late tick does not move those after it.

    A missed tick is skipped; a search or a row that was due at it is due at the next one: late rather than never.
    """

    start: float
    interval: float  # seconds between the CSV's rows

    @property
    def row_ticks(self) -> int:
        return math.ceil(self.interval / TICK_S)

    @property
    def period(self) -> float:
        """Seconds between ticks, TICK_S at most: rows stand at whole ticks."""
        return self.interval / self.row_ticks

    def number(self, now: float, before: Tick | None) -> int:
        """Of the next tick: the latest one whose time has come, or the one to wait for."""
        return max(before.number + 1, math.floor((now - self.start) / self.period)) if before else 0

    def wait(self, now: float, before: Tick | None) -> float:
        """Seconds until the next tick is due."""
        return max(0.0, self.start + self.number(now, before) * self.period - now)

    def tick(self, now: float, before: Tick | None) -> Tick:
        """What is due now that the wait is over."""
        number, done = self.number(now, before), before.number if before else -1
        scan_ticks = math.ceil(SCAN_S / self.period)
        return Tick(number, now, now - (before.at if before else self.start),
                    scan=number // scan_ticks > done // scan_ticks,
                    rows=number // self.row_ticks > done // self.row_ticks)


def schedule(plan: TickPlan, stop: threading.Event) -> Iterator[Tick]:
    """Ticks as their time comes, until `stop`."""
    tick: Tick | None = None
    while not stop.wait(plan.wait(time.monotonic(), tick)):
        tick = plan.tick(time.monotonic(), tick)
        yield tick


class Sampler:
    """The one thread that looks at processes: it reads memory, writes the CSV, notices deaths. Others ask it."""

    def __init__(self, table: ProcessTable, csv_path: Path | None, interval: float) -> None:
        self.table = table
        self.interval = interval
        self.failure: str | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._latest: Reading | None = None
        self._last_busy = time.monotonic()
        self._csv = csv_path.open("w", newline="", encoding="utf-8") if csv_path else None
        self._rows = csv.writer(self._csv) if self._csv else None
        self._total = psutil.virtual_memory().total / MIB
        self._window = Window()
        table.scan()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        if self._rows:
            self._rows.writerow(CSV_COLUMNS)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._csv:
            with contextlib.suppress(OSError):  # every sample was flushed: a full disk has been told of
                self._csv.close()

    def _run(self) -> None:
        plan = TickPlan(time.monotonic(), self.interval)
        try:
            for tick in schedule(plan, self._stop):
                stamp = datetime.now()  # of the tick, however long the look takes
                with self._changed:
                    self._window.longest_gap = max(self._window.longest_gap, tick.gap)
                    self._look(tick.at, tick.scan)
                    self._changed.notify_all()
                if tick.rows:
                    self._write_rows(tick.at, tick.at - plan.start, stamp)
        except OSError as error:  # nothing may pass for a measurement that is none
            with self._changed:
                self.failure = f"sampling stopped ({error}): memory is not measured from here on"
                self.table.alive.clear()
                self._window.peaks.clear()

    def _look(self, now: float, scan: bool) -> None:
        self.table.scan() if scan else self.table.follow()
        self._read(now, identify=scan)
        alive = list(self.table.alive.values())
        rss, private, peaks = role_sums(alive)
        for role, peak in peaks.items():
            self._window.peaks[role] = max(peak, self._window.peaks.get(role, 0.0))
        self._window.available_min = min(self._window.available_min, psutil.virtual_memory().available / MIB)
        if scan and self._busy([w for w in alive if w.role == "worker"]):
            self._last_busy = now
        self._latest = Reading(now, rss, private, frozenset(self.table.alive))

    def _read(self, now: float, *, identify: bool = True) -> None:
        for watched in self.table.read(identify=identify):
            self._window.ended.append(watched)
            if watched.serves:
                pid = watched.process.pid
                left_work = any(w.parent == pid and not w.resident for w in self.table.alive.values())
                self._window.endings.append(Ending(now, watched.role, pid, watched.name, watched.root, left_work))

    def _busy(self, workers: Sequence[Watched]) -> bool:
        """Whether any worker or work-horse used CPU since the last scan: a horse that sleeps has hung like a worker."""
        busy = False
        for w in workers:
            try:
                times = w.process.cpu_times()
            except psutil.Error:
                continue  # it has just ended; the next look says so
            used, w.cpu_seconds = times.user + times.system - w.cpu_seconds, times.user + times.system
            busy = busy or used > IDLE_CPU * SCAN_S
        return busy

    def _write_rows(self, now: float, elapsed: float, stamp: datetime) -> None:
        if not self._csv or not self._rows or self.failure:
            return
        iso = stamp.isoformat(timespec="milliseconds")
        try:
            for w in list(self.table.alive.values()):
                with contextlib.suppress(psutil.Error):  # died between the look and the row: drop it, keep the others
                    cpu = cpu_percent(w, now)
                    self._rows.writerow((iso, round(elapsed, 3), w.name, w.process.pid, round(cpu, 1),
                                         round(w.sample.rss, 2), round(100 * w.sample.rss / self._total, 2)))
            self._csv.flush()
        except OSError as error:  # a full disk must not pass for a quiet machine; memory is measured all the same
            self.failure = f"the CSV ends early: {error}"

    def watched(self) -> list[Look]:
        """The processes watched now, roots before their children."""
        with self._changed:
            ordered = sorted(self.table.alive.values(), key=lambda w: (ROLES.index(w.role), not w.root, w.started))
            return [Look(w.role, w.process.pid, w.name, w.line, w.root, w.serves, w.sample.rss, w.sample.private)
                    for w in ordered]

    def latest(self) -> Reading | None:
        """The newest reading, None before the first."""
        with self._changed:
            return self._latest

    def idle_seconds(self) -> float:
        """How long no watched worker or work-horse has used CPU; 0 where nobody looks any more."""
        with self._changed:
            return time.monotonic() - self._last_busy if self._thread.is_alive() else 0.0

    def serving(self, role: str = "worker") -> int:
        """Processes alive that take tasks."""
        with self._changed:
            return self.table.serving()[role]

    def endings(self) -> tuple[Ending, ...]:
        """Processes that served a role and ended in this window."""
        with self._changed:
            return tuple(self._window.endings)

    def cpu_look(self) -> CpuLook:
        """Look at every process of the machine: about 15 us each, so only where no task is running."""
        with self._changed:
            watched = {pid: w.role for pid, w in self.table.alive.items()}
        roles: dict[str, float] = {}
        others: dict[int, float] = {}
        for pid in psutil.pids():
            used = cpu_seconds(pid)
            if used is None or pid in self.table.own:
                continue
            if pid in watched:
                roles[watched[pid]] = roles.get(watched[pid], 0.0) + used
            else:
                others[pid] = used
        return CpuLook(time.monotonic(), roles, others)

    def at_rest(self, timeout: float, aborted: threading.Event) -> Reading:
        """Wait until private memory of every role kept within SETTLE_MB for SETTLE_S and no process came or went.

        After `timeout` seconds (or an interruption) what was usual in the second half of the wait is returned with
        settled False: memory that swings for ever is judged by its middle, not by where it happened to be.
        """
        begin = time.monotonic()
        since: list[Reading] = []
        with self._changed:
            while True:
                self._changed.wait(TICK_S * 5)
                newest = self._latest
                if newest and newest.at > (since[-1].at if since else begin):
                    since.append(newest)
                recent = [r for r in since if since[-1].at - r.at <= SETTLE_S + 0.05]
                whole = len(recent) > 2  # on a starved machine ticks are missed: one reading alone is always flat
                if whole and since[-1].at - since[0].at >= SETTLE_S - 0.05 and is_flat(recent):
                    return dataclasses.replace(recent[-1], settled=True, drift=gained(recent[0], recent[-1]))
                if not self._thread.is_alive() or aborted.is_set() or time.monotonic() - begin > timeout:
                    return middle(since[len(since) // 2 :]) if since else Reading(begin, {}, {}, frozenset())

    def open_window(self) -> None:
        """Begin a window: peaks start again from the present memory; no death goes uncounted between two windows."""
        with self._changed:
            for w in self.table.alive.values():
                w.resident = True
                reset_high_water(w.process.pid)
            unreported = self._window.endings[self._window.reported :]
            self._window = Window(endings=unreported, oom_kills=oom_kills(),
                                  available_min=psutil.virtual_memory().available / MIB)
            self._window.serving = self.table.serving()
            self._window.serving.update(e.role for e in unreported)
            self._read(time.monotonic())
            for w in self.table.alive.values():
                w.peak = w.tick_peak = w.sample.rss
            _, _, self._window.peaks = role_sums(self.table.alive.values())
            self._last_busy = time.monotonic()

    def observed(self) -> Observed:
        """What was seen since the window opened, as a copy; deaths noticed later are reported with the next window."""
        with self._changed:
            window, kills = self._window, oom_kills()
            window.reported = len(window.endings)
            processes: dict[str, tuple[ProcessMemory, ...]] = {}
            for w in (*window.ended, *self.table.alive.values()):
                processes[w.role] = (*processes.get(w.role, ()), w.for_record())
            fewer = frozenset((window.serving - self.table.serving()).keys())
            return Observed(processes, dict(window.peaks), tuple(window.endings), fewer, window.available_min,
                            None if kills is None or window.oom_kills is None else kills - window.oom_kills,
                            window.longest_gap)


def role_sums(processes: Iterable[Watched]) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """RSS, private memory (without roles where any is unknown) and peak since the last sample, MiB per role."""
    rss: dict[str, float] = {}
    private: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for w in processes:
        rss[w.role] = rss.get(w.role, 0.0) + w.sample.rss
        private[w.role] = private.get(w.role, 0.0) + (math.nan if w.sample.private is None else w.sample.private)
        peaks[w.role] = peaks.get(w.role, 0.0) + w.tick_peak
    return rss, {role: mb for role, mb in private.items() if not math.isnan(mb)}, peaks


def gained(first: Reading, last: Reading) -> dict[str, float]:
    """MiB that each role gained between two readings."""
    return {role: last.private.get(role, rss) - first.private.get(role, first.rss[role])
            for role, rss in last.rss.items() if role in first.rss}


def middle(readings: Sequence[Reading]) -> Reading:
    """The last reading with the median of all in place of each role's memory."""
    last = readings[-1]
    rss = {role: statistics.median(r.rss[role] for r in readings if role in r.rss) for role in last.rss}
    private = {role: statistics.median(r.private[role] for r in readings if role in r.private) for role in last.private}
    return dataclasses.replace(last, rss=rss, private=private)


def is_flat(readings: Sequence[Reading]) -> bool:
    """Whether no process came or went and every role's memory kept within SETTLE_MB."""
    series: dict[str, list[float]] = {}
    for reading in readings:
        for role, rss in reading.rss.items():
            series.setdefault(role, []).append(reading.private.get(role, rss))
    return len({r.pids for r in readings}) == 1 and all(max(mb) - min(mb) <= SETTLE_MB for mb in series.values())


def cpu_percent(watched: Watched, now: float) -> float:
    """CPU since the last call, percent of one core; of a process asked for the first time, over its whole age."""
    times = watched.process.cpu_times()
    used = times.user + times.system
    since, before = watched.last_row or (now - max(0.01, time.time() - watched.started), 0.0)
    watched.last_row = (now, used)
    return 100 * (used - before) / max(0.001, now - since)


def busiest_other(before: CpuLook, after: CpuLook) -> Busy | None:
    """The unwatched process that used most CPU in between; None where none used any."""
    used = {pid: cpu - before.others.get(pid, 0.0) for pid, cpu in after.others.items()}
    for pid in sorted(used, key=lambda p: -used[p]):
        if used[pid] <= 0:
            return None
        with contextlib.suppress(psutil.Error):  # it has just ended: the next one will do
            return Busy(pid, psutil.Process(pid).name(), round(used[pid], 2))
    return None


def oom_kills() -> int | None:
    """Processes the kernel killed for lack of memory since boot; None where it does not say."""
    try:
        words = Path("/proc/vmstat").read_text().split()
    except OSError:
        return None
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else None


# ============================================================================================== the result log


class CannotRecord(Exception):
    """The results cannot be written any more; the message is one sentence for a person."""


class ResultLog:
    """The JSONL: opened once, only appended to; a line is flushed and fsynced once and never touched again.

    The last result of a batch becomes a line when it is complete, that is when memory is at rest and it is known
    whether the run goes on after it. Until then it is safe in `<same name>.pending.json`. Methods raise CannotRecord.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.pending = path, path.with_suffix(".pending.json")
        self.results: list[TaskResult] = []  # in memory every result of a batch has what its last line has on disk
        self._held: TaskResult | None = None
        self._said: tuple[dict[str, Any], dict[str, Any]] | None = None  # settings and host on the last line
        self._whole = 0  # bytes of whole lines on disk
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise self._cannot(error) from None

    def append(self, result: TaskResult) -> None:
        """Write the line of a result that is complete."""
        self.results.append(result)
        self._write(result)

    def hold(self, result: TaskResult) -> None:
        """Keep a result that is not complete yet, or more of it, safe on disk until release()."""
        if result is not self._held:
            self.release()
            self.results.append(result)
            self._held = result
        new = self.pending.with_suffix(".tmp")
        try:
            with new.open("w", encoding="utf-8") as file:
                file.write(self._line(result))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.pending)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise self._cannot(error) from None

    def release(self, *, end: bool = False) -> None:
        """Write the line of the result that is held, if any; `end` says that the run ends with it as it should."""
        if self._held:
            held, self._held = self._held, None
            held.end = end
            self._write(held)
            self.pending.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._fd)

    def _line(self, result: TaskResult) -> str:
        """Settings and host stand where they are new."""
        said = (result.settings, result.host)
        return (dataclasses.replace(result, settings={}, host={}) if said == self._said else result).to_json() + "\n"

    def _write(self, result: TaskResult) -> None:
        line = self._line(result).encode()
        try:
            written = 0
            while written < len(line):
                written += os.write(self._fd, line[written:])
            os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):  # a torn line is skipped when read
                os.ftruncate(self._fd, self._whole)
            raise self._cannot(error) from None
        self._whole += len(line)
        self._said = (result.settings, result.host)

    def _cannot(self, error: OSError) -> CannotRecord:
        return CannotRecord(f"the test ends early: {self.path} cannot be written ({error.strerror}). What it holds is "
                            f"kept; make room (see: df -h {self.path.parent}) and run it again")


def role_memory(before: Reading, after: Reading, seen: Observed,
                cpu: Sequence[CpuLook] = ()) -> dict[str, RoleMemory]:
    """The record's memory of every role that was watched at either reading or in between.

    `cpu`: looks at the release of the batch, at the end of its last task, and at the reading after.
    """
    return {role: RoleMemory(
        rounded(before.rss.get(role)), rounded(after.rss.get(role)), rounded(before.private.get(role)),
        rounded(after.private.get(role)), rounded(seen.peaks.get(role)), list(seen.processes.get(role, ())),
        *cpu_use(role, cpu), rounded(after.drift.get(role)))
        for role in ROLES if role in before.rss or role in after.rss or role in seen.peaks}


def cpu_use(role: str, looks: Sequence[CpuLook]) -> tuple[float | None, float | None]:
    """CPU seconds of a role while the batch ran, and percent of a core at rest; None where a death hides them."""
    used = [look.roles.get(role) for look in looks]
    if len(used) < 3 or None in used:
        return None, None
    release, ended, rest = typing.cast("list[float]", used)
    at_rest = 100 * (rest - ended) / max(0.1, looks[2].at - looks[1].at)
    # A process that died meanwhile took its count along: what is left may be less than before.
    return (round(ended - release, 2) if ended >= release else None, round(at_rest, 1) if rest >= ended else None)


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def host_facts() -> dict[str, Any]:
    return {"name": socket.gethostname(), "cpus": os.cpu_count(), "tool_version": VERSION,
            "memory_mb": round(psutil.virtual_memory().total / MIB), "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}"}


# ============================================================================================= the growth rule

TOLERANCE_MB = 10.0  # growth per cycle that counts as a leak: a 200 MB budget spread over 20 cycles
MIN_CYCLES = 10  # earliest NO LEAK: in fewer cycles jumps in one cycle of four are easily missed
LEAK_CYCLES = 13  # a heap collected every 12 cycles, or sooner, has fallen by then; in 12 one in twelve has not
SURE_TOLERANCES = 4  # earlier than that only growth that is surely four tolerances, with one or more in every cycle
WINDOW = 6  # fewest readings for a slope: growth of 1.2 sd per cycle shows in 6, nothing useful in fewer
TURN_WINDOW = 4  # fewest means over a turn of several workers, each of which is many readings
FLOOR_SHARE = 0.2  # of the tolerance: a window smoother than that is luck; a real allocator varies by 2-4.5 MB
CALM_SHARE = 0.6  # of the readings, the last ones: flat series of sd 30 are cleared in 96 %, by the last half in 84 %
RISE_SD = 3.0  # a reading this far above all before it, and half a tolerance or more, is a rise and not noise
CHANCE_OF_ONE, CHANCE = 0.06, 0.03  # that one jump, or more of them, only pause. With 0.03 jumps of 58 MB in one cycle
# of 3.5 are cleared in 9 %, a warm-up of 300 MB over 8 tasks in 88 % (0.06: 12 % and 96 %); one jump in the first
# judged cycle is mostly first use: 0.06 forgives it after 16 quiet cycles, at a price of 0.6 %
UPPER_95 = (3.0, 4.7, 6.3, 7.8, 9.2, 10.5, 11.8, 13.1, 14.4, 15.7)  # of a Poisson mean, after 0, 1, 2 … 9 events
KEEPS_UP = 0.7  # a leak grows on at 70 % of its speed or more; a warm-up over 16 tasks has halved it one window later
REST_SHARE = 0.56  # without its largest jump a leak still grows at 56 % of its rate, so that two jumps alone are none
# yet: two steps of 150 MB are accused in 9 % of runs (0.45: 27 %), jumps every sixth cycle in 44 % (0.45: 95 %)
MAX_FALL_SHARE = 0.5  # memory that once gave back half of its range is a cache or a collected heap
HIDING_FALL = 5  # tolerances: a fall of a worker's memory by so much can hide a leak of two tolerances over 10 cycles
STANDS_OUT = 3  # a jump or fall of this many usual steps has a shape worth naming; smaller ones are noise
WORTH_SAYING_MB = 0.05  # less growth per cycle would read "grows by 0.0 MB"
EVERY_LOOK = 60  # a long run is looked at after each cycle up to this one, then every 60th part later
NORMAL_99, NORMAL_90 = 2.326348, 1.28  # one-sided quantiles: sure to 99 %, and seen in 90 % of runs
HORSE_MB = 8.0  # nor is what a shell forks while it waits (sleep: 1-5 MB)
WORK_FACTOR = 3  # a role that works uses so many times what it uses at rest (an idle worker: 0.1-0.2 % of a core)
ROLE_CPU_S = 0.05  # ... and at least this over all tasks: an API takes 2-40 ms for each
TELLING_CPU_S = 0.05  # five of the kernel's clock ticks: a clip that takes less of them cannot show it task by task
WORK_SHARE = 0.9  # of the others: where a second worker is not watched, half of them do not show it
HORSE_SHARE = 0.5  # a child much smaller than its worker (sh, ffmpeg) is a tool of the job, not its work-horse


@dataclass(frozen=True)
class GrowthVerdict:
    """What the growth rule says of one series of settled readings."""

    verdict: str  # "LEAK" | "NO LEAK" | "INCONCLUSIVE" | "NOT MEASURED"
    reason: str  # one word for it; the reader has the sentences
    facts: dict[str, Any]  # the numbers a sentence needs
    mb_per_cycle: float | None  # least-squares slope over the window that decided
    upper_bound_mb_per_cycle: float | None
    cycles: int  # cycles judged


@dataclass(frozen=True)
class Rise:
    """Memory stepped up, and not back: the place of the first reading that stood out, and by how much, MB."""

    place: int
    mb: float


@dataclass(frozen=True)
class HorseSeries:
    """Work-horses of one clip over the leak phase, in order of their jobs, judged by what each last held."""

    clip: str
    horses: list[ProcessMemory]
    growth: GrowthVerdict


@dataclass(frozen=True)
class RoleVerdict:
    """The leak verdict of one role."""

    role: str
    growth: GrowthVerdict
    readings: list[tuple[int, float]]  # (cycle, MiB at rest) of the unbroken series that decided
    breaks: list[tuple[int, str]]  # (cycle, "replaced" | "failed_task" | "missing_reading") that cut the series
    horses: list[HorseSeries]  # empty where jobs run in the worker itself


def judge_tasks(
    readings: Sequence[float], *, workers: int, tolerance_mb: float = TOLERANCE_MB, min_cycles: int = MIN_CYCLES
) -> GrowthVerdict:
    """Judge readings after each task, two tasks a cycle, of a service with so many workers that take turns.

    By the readings at the end of each cycle, and where these depend on which worker had the long clip last, by their
    mean over a turn. Growth accuses in either, also from after every worker's first task on, before which some give
    back what the warm-up left. The end of each cycle may clear only where no fall can have hidden growth.
    """
    judge = functools.partial(judge_history, tolerance_mb=tolerance_mb, min_cycles=min_cycles)
    ends, means = readings[1::2], moving_turn(readings, workers)
    by_cycle = judge(ends)
    if workers < 2:
        return by_cycle
    by_turn = judge(means, turn=workers)
    accusing = (by_cycle, by_turn, judge(ends[first_turn(workers) :]))
    leak = next((each for each in accusing if each.verdict == "LEAK"), None)
    hidden = bool(ends) and largest_fall(ends[: by_cycle.cycles]) > HIDING_FALL * tolerance_mb
    if leak or (by_cycle.verdict == "NO LEAK" and not hidden):
        return leak or by_cycle
    if by_turn.reason != "too_few":
        return by_turn
    if by_cycle.verdict == "INCONCLUSIVE":
        return by_cycle
    more = max(min_cycles, first_clearing(workers)) - len(ends)
    return dataclasses.replace(by_turn, facts={"cycles": len(ends), "more": more}, cycles=len(ends))


def judge_history(
    readings: Sequence[float], *, tolerance_mb: float = TOLERANCE_MB, min_cycles: int = MIN_CYCLES, turn: int = 1
) -> GrowthVerdict:
    """The verdict on a series that was looked at after every reading: what was once decided stands.

    More readings are taken only because another role waits, or to be surer; noise in them does not undo a verdict.
    What does is evidence: the other verdict; for NO LEAK a rise that came later; for LEAK a fall of half the range.
    """
    judge = functools.partial(judge_growth, tolerance_mb=tolerance_mb, min_cycles=min_cycles, turn=turn)
    now, stands, revoked = judge([]), None, None
    for points in looks(len(readings)):
        now = judge(readings[:points])
        if now.verdict != "INCONCLUSIVE":
            revoked = stands if stands and stands.verdict != now.verdict else revoked
            stands = now
        elif stands and contradicted(stands, now, readings[:points], tolerance_mb, turn):
            stands, revoked = None, stands
    found = stands or now
    facts = dict(found.facts)
    if found.cycles < now.cycles:
        facts |= {"said_at": found.cycles, "later": now.cycles - found.cycles}
    if revoked and revoked.verdict != found.verdict:
        facts |= {"revoked": revoked.verdict, "revoked_at": revoked.cycles}
    return dataclasses.replace(found, facts=facts)


def looks(readings: int) -> Iterator[int]:
    """After how many readings a series is looked at; the last look is at all of them."""
    look = 0
    while look < readings:
        look = min(readings, look + max(1, look // EVERY_LOOK))
        yield look


def contradicted(
    stands: GrowthVerdict, now: GrowthVerdict, readings: Sequence[float], tolerance_mb: float, turn: int
) -> bool:
    """Whether readings after a verdict speak against it, and do not only leave it open."""
    if stands.verdict == "LEAK":
        return now.reason == "swings"
    rises = find_rises(readings, stands.facts["slope"], tolerance_mb, turn)
    later = [rise for rise in rises if rise.place > stands.cycles - turn]
    return bool(later) and cycles_by_size(rises, tolerance_mb) > now.cycles


def judge_growth(
    readings: Sequence[float], *, tolerance_mb: float = TOLERANCE_MB, min_cycles: int = MIN_CYCLES, turn: int = 1
) -> GrowthVerdict:
    """Judge settled readings y1 … yn, MB, one per cycle: LEAK, NO LEAK, or INCONCLUSIVE (run one more cycle).

    It must accuse: growth of a tolerance per cycle or more that goes on, clean or noisy, also on top of a warm-up
    that ends; jumps that keep coming; growth in one of several workers, now in this one, now in that.
    It must not accuse: a flat series, however noisy; a single jump, early or late; a warm-up that saturates; a
    saw-tooth and heaps that were collected while it looked; a random walk; memory that falls.
    It must not clear: any of the leaks; jumps that may only pause; fewer than `min_cycles` readings.
    It cannot tell a leak from a cache that is not yet full, nor from a heap collected later than it looked, and says
    so; it clears growth below the tolerance, and says how much that is.

    `turn`: each reading is the mean over so many cycles (see moving_turn), so that neighbours are no independent ones.
    """
    cycles, fewest = len(readings) + turn - 1 if readings else 0, fewest_readings(turn)
    if len(readings) < fewest:
        facts = {"cycles": cycles, "more": max(min_cycles, first_clearing(turn)) - cycles}
        return GrowthVerdict("INCONCLUSIVE", "too_few", facts, None, None, cycles)
    leak = seek_leak(readings, tolerance_mb, min_cycles, turn)
    calm = seek_calm(readings, tolerance_mb, min_cycles, turn)
    verdict, reason, facts = leak
    if calm and (calm[0] == "NO LEAK" or verdict != "LEAK"):  # growth that has surely ended was a cache
        verdict, reason, facts = calm
    return GrowthVerdict(verdict, reason, facts, facts["slope"], facts["high"], cycles)


def seek_leak(
    readings: Sequence[float], tolerance_mb: float, min_cycles: int, turn: int
) -> tuple[str, str, dict[str, Any]]:
    """LEAK, or INCONCLUSIVE and the condition that failed.

    LEAK: two windows of n/3 readings, one after the other, both grow, together by a tolerance per cycle or more. The
    later one does so surely (lower 99 % bound above 0) and not much slower than the earlier one; there is more than one
    jump, and memory never gave back half of its range. In fewer cycles than show a heap's collection only growth in
    every cycle, and surely by several tolerances, is enough.
    """
    points, cycles, floor_mb = len(readings), len(readings) + turn - 1, FLOOR_SHARE * tolerance_mb
    window = max(fewest_readings(turn), (turn + 4) // 2, math.ceil(points / 3))  # two show more than one smeared jump
    full = cycles >= LEAK_CYCLES and 2 * window <= points
    window = window if full else points // 2
    seen = readings[-2 * window :]
    whole, early, late = (fit(part, floor_mb, turn) for part in (seen, seen[:window], seen[window:]))
    steps = [b - a for a, b in itertools.pairwise(seen)]
    net, jump, rest = seen[-1] - seen[0], largest_jump(seen, turn), len(steps) - turn
    settled = readings[first_turn(turn) :] or readings
    fall_back = largest_fall(settled)

    surely = late["slope"] > t_quantile(2 * window - 2) * slope_error(whole["sd"], window, turn)
    growing = min(whole["slope"], late["slope"]) >= tolerance_mb and whole["low"] > 0 and surely
    keeps_up = early["slope"] > 0 and late["slope"] >= KEEPS_UP * early["slope"]
    one_jump = rest < 2 or (net - jump) / rest < REST_SHARE * net / len(steps)
    swings = fall_back > MAX_FALL_SHARE * (max(settled) - min(settled))
    every_cycle = whole["low"] >= SURE_TOLERANCES * tolerance_mb and min(steps) >= tolerance_mb / turn
    soon = every_cycle and window >= WINDOW // 2 and cycles >= min(min_cycles, MIN_CYCLES)

    facts = whole | {"cycles": cycles, "net": net, "step": jump, "fall_back": fall_back, "earlier": early["slope"],
                     "smallest_step": min(steps), "grown": readings[-1] - readings[0],
                     "longer": 10 * math.ceil(0.4 * cycles)}  # about four times as many
    stands_out = STANDS_OUT * statistics.median(abs(step) for step in steps)
    if growing and keeps_up and not one_jump and not swings and (full or soon):
        return "LEAK", "steady_growth" if full else "fast_growth", facts
    if one_jump and jump > stands_out:
        return "INCONCLUSIVE", "one_jump", facts
    if swings and fall_back > stands_out:
        return "INCONCLUSIVE", "swings", facts
    if early["low"] > 0 and not keeps_up:
        return "INCONCLUSIVE", "slowing_down", facts | {"now": late["slope"]}
    if growing:
        return "INCONCLUSIVE", "unconfirmed", facts | {"needed": max(LEAK_CYCLES, cycles + 1)}
    calm = fit(readings[-calm_window(points, turn) :], floor_mb, turn)
    enough = max(cycles + 1, enough_cycles(calm["sd"], tolerance_mb, turn))
    return "INCONCLUSIVE", "too_noisy", facts | calm | {"enough": enough}


def seek_calm(
    readings: Sequence[float], tolerance_mb: float, min_cycles: int, turn: int
) -> tuple[str, str, dict[str, Any]] | None:
    """NO LEAK; INCONCLUSIVE where memory is calm, but not for long enough; None where it is not surely calm.

    Calm: over three fifths of the readings, or since the last rise, growth is surely (upper 99 % bound) below the
    tolerance. Enough: rises that came as often as these did would hardly have stayed out for so long, or could not
    come often enough to matter.
    """
    before = min(first_turn(turn), len(readings) - fewest_readings(turn))
    settled, cycles = readings[before:], len(readings) + turn - 1
    window, floor_mb = calm_window(len(settled), turn), FLOOR_SHARE * tolerance_mb
    rises = find_rises(settled, fit(settled[-window:], floor_mb, turn)["slope"], tolerance_mb, turn)
    last = rises[-1].place + turn - 1 if rises else 0  # latest cycle that can have brought the last rise
    window = max(fewest_readings(turn), min(window, len(settled) - last))
    facts = fit(settled[-window:], floor_mb, turn) | {"cycles": cycles, "tolerance": tolerance_mb}
    if facts["high"] >= tolerance_mb:
        return None
    more = max(min_cycles - cycles, first_turn(turn) - before)
    if more > 0:
        return "INCONCLUSIVE", "too_few", facts | {"more": more}
    if rises:
        enough = before + min(cycles_by_time(rises, last), cycles_by_size(rises, tolerance_mb))
        if cycles < enough:
            size, since = statistics.mean(rise.mb for rise in rises), cycles - 1 - before - last
            facts |= {"jumps": len(rises), "size": size, "since": since, "enough": enough, "more": enough - cycles}
            return "INCONCLUSIVE", "rises_not_over", facts

    bound = max(facts["high"], 0.1)  # memory that falls: a bound of 0 or less reads like a promise
    rarest = cycles / 3  # none seen in n cycles: jumps come less often than 3/n, with 95 % confidence
    if facts["low"] >= WORTH_SAYING_MB:
        return "NO LEAK", "small_growth", facts | {"cycles_per_gb": int(1024 / facts["slope"]), "rarest": rarest}
    return "NO LEAK", "no_growth", facts | {"high": bound, "cycles_per_gb": int(1024 / bound), "rarest": rarest}


def find_rises(readings: Sequence[float], slope: float, tolerance_mb: float, turn: int = 1) -> list[Rise]:
    """Readings above all before them by more than noise and than steady growth of `slope` below the tolerance.

    What the next reading gives back was no rise. One jump takes a whole turn to show in means over a turn, so readings
    are compared with those a turn ago, and rises less than a turn apart are one.
    """
    step = turn * min(max(slope, 0.0), tolerance_mb)
    height = max(tolerance_mb / 2, RISE_SD * noise_sd(readings, turn)) + step
    rises: list[Rise] = []
    place, highest = turn, readings[0]
    while place < len(readings):
        stands_out = readings[place] > highest + height
        if stands_out and all(later > highest for later in readings[place + turn : place + turn + 1]):
            top = max(readings[place : place + turn])
            rises.append(Rise(place, top - highest))
            place, highest = place + turn, top
            continue
        if not stands_out:
            highest = max(highest, readings[place - turn + 1])
        place += 1
    return rises


def cycles_by_time(rises: Sequence[Rise], last: int) -> int:
    """Cycles after which rises, the last in cycle `last`, have hardly paused by chance: each of J that come at any
    time would have come by then in last/n of cases, all of them in (last/n)^J."""
    chance = CHANCE_OF_ONE if len(rises) == 1 else CHANCE
    return math.ceil(last / math.pow(chance, 1 / len(rises))) + 1


def cycles_by_size(rises: Sequence[Rise], tolerance_mb: float) -> float:
    """Cycles after which so many rises, as often as they may come with 95 % confidence, stay below the tolerance."""
    if len(rises) >= len(UPPER_95):
        return math.inf
    return math.ceil(statistics.mean(rise.mb for rise in rises) * UPPER_95[len(rises)] / tolerance_mb) + 1


def fit(readings: Sequence[float], floor_mb: float = FLOOR_SHARE * TOLERANCE_MB, turn: int = 1) -> dict[str, Any]:
    """Least-squares slope with one-sided 99 % bounds, MB per cycle, and the sd of one cycle's reading, MB.

    Residuals of means over a turn are smooth whatever the noise; but their steps are the differences of two cycles a
    turn apart, divided by the turn, and tell the noise of one.
    """
    m = len(readings)
    middle, mean = (m - 1) / 2, sum(readings) / m
    slope = sum((x - middle) * (y - mean) for x, y in enumerate(readings)) * 12 / (m * (m * m - 1))
    if turn == 1:
        squares = sum((y - mean - slope * (x - middle)) ** 2 for x, y in enumerate(readings))
    else:
        step = (readings[-1] - readings[0]) / (m - 1)
        squares = turn**2 / 2 * sum((b - a - step) ** 2 for a, b in itertools.pairwise(readings))
    df = max(1, m - 2)
    sd = max(floor_mb, math.sqrt(squares / df))
    margin = t_quantile(df) * slope_error(sd, m, turn)
    return {"slope": slope, "low": slope - margin, "high": slope + margin, "sd": sd, "window": m + turn - 1}


def slope_error(sd: float, readings: int, turn: int) -> float:
    """Standard error of a slope over so many means, each over a turn of cycles whose readings vary by `sd`."""
    return sd * slope_factor(readings, turn)


@functools.cache
def slope_factor(readings: int, turn: int) -> float:
    """... for an sd of 1: the weights that the slope gives to each cycle's own reading, summed as squares."""
    middle, spread = (readings - 1) / 2, readings * (readings * readings - 1) / 12
    weights = [sum(place - middle for place in range(max(0, cycle - turn + 1), min(readings, cycle + 1))) / turn
               for cycle in range(readings + turn - 1)]
    return math.sqrt(sum(weight * weight for weight in weights)) / spread


@functools.cache
def t_quantile(df: int) -> float:
    """Student's t, one-sided 99 %: Abramowitz and Stegun 26.7.5, 0.11 % too small at df 4, 0.01 % from df 8."""
    if df < 3:
        return (31.82052, 6.964557)[df - 1]  # where the expansion is of no use
    z = NORMAL_99
    return (
        z
        + (z**3 + z) / (4 * df)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * df**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * df**4)
    )


def fewest_readings(turn: int) -> int:
    """The fewest readings that a slope is taken from."""
    return max(TURN_WINDOW, WINDOW - turn + 1)


def first_turn(turn: int) -> int:
    """How many means over a turn still hold readings from before every worker had its first task in turn."""
    return math.ceil(turn / 2) if turn > 1 else 0


def first_clearing(turn: int) -> int:
    """The first cycle in which means over a turn can clear."""
    return first_turn(turn) + fewest_readings(turn) + turn - 1


def calm_window(readings: int, turn: int = 1) -> int:
    """How many of the readings, the last ones, must be calm."""
    return max(fewest_readings(turn), math.ceil(CALM_SHARE * readings))


def enough_cycles(sd: float, tolerance_mb: float, turn: int = 1) -> int:
    """Cycles after which growth by the tolerance shows, in 90 % of runs, in the last part of readings of this sd."""
    m = fewest_readings(turn)
    while (t_quantile(m - 2) + NORMAL_90) * slope_error(sd, m, turn) > tolerance_mb:
        m += 1
    return math.ceil(m / CALM_SHARE) + turn - 1


def largest_fall(readings: Sequence[float]) -> float:
    """The largest fall from a running maximum (drawdown), MB."""
    highest = itertools.accumulate(readings, max)
    return max(high - reading for high, reading in zip(highest, readings, strict=True))


def largest_jump(readings: Sequence[float], turn: int) -> float:
    """The most that memory grew by within one cycle, MB; means over a turn show one jump in so many steps."""
    return max(b - a for a, b in zip(readings, readings[turn:] or readings[-1:], strict=False))


def noise_sd(readings: Sequence[float], turn: int = 1) -> float:
    """Sd of a reading about its level, MB, from the falls between readings up to three cycles apart.

    From falls only, since rises, which are looked for, must not raise the bar for themselves as they do in a residual
    sd. Their median, since one collected heap must not raise it either: 0.6745 * sqrt(2) sd for normal readings. Means
    over a turn that share cycles differ by less, in the proportion of those they do not share.
    """
    falls = [(a - b) * math.sqrt(turn / min(apart, turn)) for apart in (1, 2, 3)
             for a, b in zip(readings, readings[apart:], strict=False) if a >= b]
    return statistics.median(falls) / 0.954 if falls else 0.0


def moving_turn(readings: Sequence[float], workers: int) -> list[float]:
    """One reading per cycle from one per task, two tasks a cycle: with several workers the mean over one full turn.

    Tasks go round the workers, and some keep what their last clip needed. Who has had which repeats itself after 2 *
    workers tasks, given that the order of the clips alternates from cycle to cycle where the number of workers is even
    and never where it is odd; so the mean over so many does not depend on it. It is judged with `turn` = workers.
    """
    if workers < 2:
        return list(readings[1::2])
    sums = list(itertools.accumulate(readings, initial=0.0))
    return [(sums[end] - sums[end - 2 * workers]) / (2 * workers) for end in range(2 * workers, len(sums), 2)]


@dataclass(frozen=True)
class CycleReadings:
    """What a role held at rest after each batch of one cycle, MB."""

    cycle: int
    readings: tuple[float, ...]
    failed: bool  # a task of the cycle failed


@dataclass(frozen=True)
class Judge:
    """The growth rule with the limits of a run."""

    tolerance_mb: float
    min_cycles: int
    workers: int  # that take turns at single tasks

    def series(self, readings: Sequence[float]) -> GrowthVerdict:
        return judge_history(readings, tolerance_mb=self.tolerance_mb, min_cycles=self.min_cycles)

    def cycles(self, cycles: Sequence[CycleReadings]) -> GrowthVerdict:
        """Of several workers that take turns, each cycle's readings depend on who had which clip."""
        if self.workers > 1 and all(len(each.readings) == 2 for each in cycles):
            return judge_tasks([mb for each in cycles for mb in each.readings], workers=self.workers,
                               tolerance_mb=self.tolerance_mb, min_cycles=self.min_cycles)
        return self.series([each.readings[-1] for each in cycles])


def judge_leak(
    results: Sequence[TaskResult],
    *,
    phase: str = "leak",
    tolerance_mb: float = TOLERANCE_MB,
    min_cycles: int = MIN_CYCLES,
    sampler_gap_s: float | None = None,
) -> dict[str, RoleVerdict]:
    """Verdict of every watched role, and of the worker in any case, from the results of a phase of cycles.

    `sampler_gap_s`: the longest time between two samples, where more is known of it than the results tell. Like theirs
    it counts without the warm-up round, which is not judged.
    """
    of_phase = [result for result in results if result.phase == phase]
    judge = Judge(tolerance_mb, min_cycles, workers_in_turn(of_phase))
    watched = {"worker"}.union(*(result.memory for result in of_phase))
    gap_s = max([sampler_gap_s or 0.0, *(result.sample_gap_s or 0.0 for result in of_phase if result.cycle)])
    return {role: judge_role(role, of_phase, judge, gap_s) for role in ROLES if role in watched}


def workers_in_turn(results: Sequence[TaskResult]) -> int:
    """How many workers take turns: as many as got a task in the warm-up round, where later tasks come one by one."""
    one_by_one = all(result.concurrency == 1 for result in results if result.cycle)
    return max((result.concurrency for result in results if result.cycle == 0), default=1) if one_by_one else 1


def judge_role(role: str, results: Sequence[TaskResult], judge: Judge, gap_s: float) -> RoleVerdict:
    """Judge the role's readings at rest, and its work-horses; a LEAK in any of them is a LEAK."""
    measure, around = readings_of(role, results)
    if all(after is None for _, after in around):
        return RoleVerdict(role, GrowthVerdict("NOT MEASURED", "not_measured", {}, None, None, 0), [], [], [])
    if idle := without_work(role, results):
        return RoleVerdict(role, GrowthVerdict("NOT MEASURED", "no_work", idle, None, None, 0), [], [], [])
    series, breaks = cut_into_series(role, results, [after for _, after in around])
    growth, judged = decide(role, results, series, breaks, judge)
    if growth.verdict == "NO LEAK" and {kind for _, kind in breaks} == {"missing_reading"}:
        doubt = judge.cycles(without_gaps(results, [after for _, after in around]))
        growth = doubt if doubt.verdict == "INCONCLUSIVE" else growth
    horses = horse_series(results, judge) if role == "worker" else []
    growth = consider_horses(growth, horses, {result.clip for result in results if result.cycle})
    growth = withhold(growth, breaks, gap_s, count_unsettled(results, judged))
    growth = dataclasses.replace(growth, facts=growth.facts | {"measure": measure})
    return RoleVerdict(role, growth, [(each.cycle, each.readings[-1]) for each in judged], breaks, horses)


def decide(role: str, results: Sequence[TaskResult], series: Sequence[list[CycleReadings]],
           breaks: Sequence[tuple[int, str]], judge: Judge) -> tuple[GrowthVerdict, list[CycleReadings]]:
    """The verdict on the role's series, and the cycles that it rests on.

    A leak in any unbroken series is a leak, whether its tasks succeeded or not. Else it is judged by the growth within
    the lives of its processes, where they were replaced; else since the last task that failed: what fails proves
    nothing of what succeeds.
    """
    judged = [(judge.cycles(cycles), cycles) for cycles in series]
    if leaking := next((each for each in judged if each[0].verdict == "LEAK"), None):
        return leaking
    growth, cycles = judged[-1]
    if any(kind == "replaced" for _, kind in breaks):
        return judge_lives(role, results, breaks, judge), cycles
    failed = max((place for place, each in enumerate(cycles) if each.failed), default=None)
    if failed is None:
        return growth, cycles
    since = cycles[failed + 1 :]
    if growth.mb_per_cycle is None and (seen := growth_seen(cycles)) >= judge.tolerance_mb:
        facts = {"cycle": cycles[failed].cycle, "slope": seen, "cycles": len(cycles)}
        return GrowthVerdict("INCONCLUSIVE", "failing_growth", facts, seen, None, len(cycles)), cycles
    return judge.cycles(since), since


def growth_seen(cycles: Sequence[CycleReadings]) -> float:
    """MB per cycle over readings too few for a verdict; 0 where memory did not grow in each cycle."""
    readings = [each.readings[-1] for each in cycles]
    rising = len(readings) > 2 and all(b > a for a, b in itertools.pairwise(readings))
    return (readings[-1] - readings[0]) / (len(readings) - 1) if rising else 0.0


def judge_lives(role: str, results: Sequence[TaskResult], breaks: Sequence[tuple[int, str]],
                judge: Judge) -> GrowthVerdict:
    """The growth rule on the growth within the lives of recycled processes, put end to end.

    What they leak is contained by their end: how often that comes, and how much it keeps within bounds, is said.
    """
    lives, tasks = lives_of(role, results), tasks_per_cycle(results)
    growth = judge_steps([life.steps for life in lives], lives, tasks, judge)
    replaced = [cycle for cycle, kind in breaks if kind == "replaced"]
    facts = growth.facts | {
        "cycle": replaced[-1], "times": len(replaced), "per_task": (growth.mb_per_cycle or 0.0) / tasks,
        "tasks": statistics.median([len(life.held) for life in lives]) if lives else 0,
        "contained": max((max(life.held.values()) - life.first_used for life in lives), default=0.0)}
    reason = {"LEAK": "recycled_leak", "NO LEAK": "recycled_calm"}.get(growth.verdict, "replaced")
    return dataclasses.replace(growth, reason=reason, facts=facts)


def judge_steps(steps: Sequence[Mapping[int, float]], lives: Sequence[Life], tasks: int, judge: Judge) -> GrowthVerdict:
    """The verdict on steps within lives, of which each life has fewer than it had tasks.

    Where too few are left for so many cycles, growth that goes on in each task accuses, too. And a life's first use
    of a further clip, where it did not give back memory, is as good as any other step to show that nothing grows.
    """
    own = [0.0, *itertools.accumulate(sum(each) for each in steps_within(lives, steps))]
    growth = judge.series(own[::tasks])
    if growth.verdict != "INCONCLUSIVE":
        return growth
    by_task = dataclasses.replace(judge, tolerance_mb=judge.tolerance_mb / tasks).series(own)
    if by_task.verdict == "LEAK":
        per_cycle = {name: by_task.facts[name] * tasks for name in ("slope", "low", "high")}
        return dataclasses.replace(by_task, facts=by_task.facts | per_cycle, mb_per_cycle=per_cycle["slope"],
                                   upper_bound_mb_per_cycle=per_cycle["high"])
    more = [life.steps | {place: max(0.0, mb) for place, mb in life.first_uses.items()} for life in lives]
    calm = judge.series([0.0, *itertools.accumulate(sum(each) for each in steps_within(lives, more))][::tasks])
    return calm if calm.verdict == "NO LEAK" else growth


def without_work(role: str, results: Sequence[TaskResult]) -> dict[str, Any] | None:
    """Facts of a role whose processes did not do the work: its memory says nothing of the one that did; else None.

    Over all tasks its processes must have used clearly more CPU than at rest, or have forked work-horses; a worker so
    for each task long enough to show it. Judged where the record holds it, from as many batches as a slope needs.
    """
    batches = [list(b) for _, b in itertools.groupby((r for r in results if r.status == "success"), lambda r: r.batch)]
    uses = [Use(b[-1], m.cpu_s, m.rest_cpu_percent / 100, max(r.processing_time or 0.0 for r in b)) for b in batches
            if (m := b[-1].memory.get(role)) and m.cpu_s is not None and m.rest_cpu_percent is not None]
    if len(uses) < WINDOW:
        return None
    at_rest = statistics.mean(use.at_rest for use in uses)
    most = {use.last.clip: max(u.cpu_s for u in uses if u.last.clip == use.last.clip) for use in uses}
    telling = [use for use in uses if role == "worker" and most[use.last.clip] >= TELLING_CPU_S]
    worked = sum(use.cpu_s > WORK_FACTOR * at_rest * use.seconds or has_forked(use.last) for use in telling)
    cpu_s, seconds = sum(use.cpu_s for use in uses), sum(use.seconds for use in uses)
    in_all = (cpu_s >= ROLE_CPU_S and cpu_s > WORK_FACTOR * at_rest * seconds) or any(has_forked(u.last) for u in uses)
    if in_all and worked >= WORK_SHARE * len(telling):
        return None
    others = Counter[tuple[int, str]]()
    for other in (use.last.busiest_other for use in uses):
        if other:
            others[other.pid, other.name] += round(1000 * other.cpu_s)
    pid, name = others.most_common(1)[0][0] if others else (None, None)
    return {"tasks": len(telling) or len(uses), "worked": worked, "pid": pid, "name": name}


@dataclass(frozen=True)
class Use:
    """CPU that a role used for a batch."""

    last: TaskResult
    cpu_s: float
    at_rest: float  # share of a core, afterwards
    seconds: float  # until its last task was done


def has_forked(result: TaskResult) -> bool:
    horse = work_horse(result)
    return horse is not None and (horse.peak_mb or 0.0) >= HORSE_MB


def readings_of(
    role: str, results: Sequence[TaskResult]
) -> tuple[str, list[tuple[float | None, float | None]]]:
    """A role's readings before and after each task, MB: private memory where any is known ("private"), else RSS."""
    memories = [result.memory.get(role) for result in results]
    if any(memory and memory.private_after_mb is not None for memory in memories):  # never both in one series
        return "private", [(m.private_before_mb, m.private_after_mb) if m else (None, None) for m in memories]
    return "rss", [(m.before_mb, m.after_mb) if m else (None, None) for m in memories]


def count_unsettled(results: Sequence[TaskResult], cycles: Sequence[CycleReadings]) -> int:
    """Cycles of these in which memory did not come to rest."""
    restless = {result.cycle for result in results if result.settled is False}
    return sum(each.cycle in restless for each in cycles)


def cut_into_series(
    role: str, results: Sequence[TaskResult], after: Sequence[float | None]
) -> tuple[list[list[CycleReadings]], list[tuple[int, str]]]:
    """Readings at rest of the judged cycles in unbroken series, and (cycle, kind) of what happened to them.

    A lost reading and a replaced process break a series; a failed task does not, since what it kept counts.
    """
    cycles: dict[int, dict[int | None, list[tuple[TaskResult, float | None]]]] = {}
    for result, reading in zip(results, after, strict=True):
        cycles.setdefault(result.cycle or 0, {}).setdefault(result.batch, []).append((result, reading))
    complete = max((len(batches) for cycle, batches in cycles.items() if cycle > 0), default=0)
    replaced = cycles_of_replacement(role, results)
    series: list[list[CycleReadings]] = [[]]
    breaks: list[tuple[int, str]] = []
    for cycle in range(max(cycles) + 1):
        batches = list(cycles.get(cycle, {}).values())
        readings = [batch[-1][1] for batch in batches]
        failed = any(result.status != "success" for batch in batches for result, _ in batch)
        if cycle in replaced:
            breaks.append((cycle, "replaced"))
        elif cycle == 0:
            continue
        elif len(batches) < complete or None in readings:
            breaks.append((cycle, "missing_reading"))
        else:
            breaks += [(cycle, "failed_task")] * failed
            series[-1].append(CycleReadings(cycle, tuple(typing.cast("list[float]", readings)), failed))
            continue
        series.append([])
    return series, breaks


def without_gaps(results: Sequence[TaskResult], after: Sequence[float | None]) -> list[CycleReadings]:
    """Readings of all judged cycles, a lost one taken as the one before it: so that no rise is lost with it."""
    batches = {(r.cycle or 0, r.batch): reading for r, reading in zip(results, after, strict=True)}
    cycles: dict[int, list[float]] = {}
    last: float | None = None
    for (cycle, _), reading in batches.items():
        last = last if reading is None else reading
        if last is not None:
            cycles.setdefault(cycle, []).append(last)
    complete = max((len(readings) for cycle, readings in cycles.items() if cycle), default=0)
    return [CycleReadings(cycle, tuple([readings[0]] * (complete - len(readings)) + readings), failed=False)
            for cycle, readings in sorted(cycles.items()) if cycle]


def tasks_per_cycle(results: Sequence[TaskResult]) -> int:
    """Batches in a judged cycle."""
    batches, cycles = ({getattr(r, name) for r in results if r.cycle} for name in ("batch", "cycle"))
    return max(1, round(len(batches) / max(1, len(cycles))))


@dataclass
class Life:
    """A process of a role at rest after each batch, MB: place of the batch -> what it held."""

    held: dict[int, float] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # clips it has met
    steps: dict[int, float] = field(default_factory=dict)  # growth after its first use of each clip
    first_uses: dict[int, float] = field(default_factory=dict)  # growth at its first use of each clip

    @property
    def first_used(self) -> float:
        """What it held when it had met each clip."""
        before = min(self.steps, default=None)
        return max(self.held.values()) if before is None else self.held[before] - self.steps[before]


def lives_of(role: str, results: Sequence[TaskResult]) -> list[Life]:
    """The lives of a role's long-lived processes over the batches of a phase."""
    lives: dict[tuple[int, str], Life] = {}
    last: dict[int | None, TaskResult] = {result.batch: result for result in results if role in result.memory}
    for place, result in enumerate(last.values()):
        for process in (p for p in result.memory[role].processes if not p.ended and p.held_mb is not None):
            life = lives.setdefault((process.pid, process.started), Life())
            held = process.held_mb or 0.0
            if place - 1 in life.held and result.cycle:
                steps = life.steps if result.clip in life.used else life.first_uses
                steps[place] = held - life.held[place - 1]
            if place - 1 in life.held or process.resident:
                life.used.add(result.clip)
            life.held[place] = held
    return [life for life in lives.values() if len(life.held) > 1]


def steps_within(lives: Sequence[Life], steps: Sequence[Mapping[int, float]]) -> list[list[float]]:
    """These steps of each life, by the batches in which any had loaded its model, in order."""
    places: dict[int, list[float]] = {}
    for life, own in zip(lives, steps, strict=True):
        loaded = max(life.held.values()) / 2
        for place, mb in own.items():
            if life.held[place] - mb >= loaded:
                places.setdefault(place, []).append(mb)
    return [places[place] for place in sorted(places)]


def cycles_of_replacement(role: str, results: Sequence[TaskResult]) -> set[int]:
    """Cycles in which a root process (or another long-lived one with memory worth counting) ended or was replaced."""
    cycles: set[int] = set()
    known: set[tuple[int, str]] = set()
    for result in results:
        processes = result.memory[role].processes if role in result.memory else []
        roots = {(process.pid, process.started) for process in processes if process.root and process.resident}
        ended = [process for process in processes if process.ended]
        lost = any(each.root or (each.resident and (each.held_mb or 0.0) > TOLERANCE_MB) for each in ended)
        if lost or (known and roots and roots != known):
            cycles.add(result.cycle or 0)
        known = set() if lost else roots or known
    return cycles


def withhold(
    growth: GrowthVerdict, breaks: Sequence[tuple[int, str]], gap_s: float, unsettled: int
) -> GrowthVerdict:
    """Never NO LEAK where memory may have gone unseen; where too little is left to judge, say what broke the series."""
    facts: dict[str, Any]
    if breaks and growth.reason == "too_few":
        reason, facts = breaks[-1][1], {"cycle": breaks[-1][0]}
    elif growth.verdict == "NO LEAK" and gap_s > GAP_S:
        reason, facts = "sampler_gap", {"gap_s": gap_s}
    elif growth.verdict == "NO LEAK" and 2 * unsettled > growth.cycles:
        reason, facts = "unsettled", {"unsettled": unsettled}
    else:
        return growth
    return dataclasses.replace(growth, verdict="INCONCLUSIVE", reason=reason, facts=growth.facts | facts)


def consider_horses(growth: GrowthVerdict, horses: Sequence[HorseSeries], clips: set[str]) -> GrowthVerdict:
    """What work-horses add: memory ends with each of them, unless each new one holds more than the one before."""
    for horse in horses:
        facts = horse.growth.facts | {"clip": horse.clip}
        if horse.growth.verdict == "LEAK" and growth.verdict != "LEAK":
            return dataclasses.replace(horse.growth, reason="horses_leak", facts=facts)
        if horse.growth.reason == "unconfirmed" and growth.verdict == "NO LEAK":
            return dataclasses.replace(horse.growth, reason="horses_growing", facts=facts)
    if growth.verdict == "NO LEAK" and {horse.clip for horse in horses} == clips:
        return dataclasses.replace(growth, reason="fork_per_job")
    return growth


def horse_series(results: Sequence[TaskResult], judge: Judge) -> list[HorseSeries]:
    """Work-horses of each clip in order of their jobs, the heaviest of each task."""
    horses: dict[str, list[ProcessMemory]] = {}
    for result in results:
        horse = work_horse(result)
        if result.cycle and result.status == "success" and horse:
            horses.setdefault(result.clip, []).append(horse)
    return [HorseSeries(clip, jobs, judge.series([horse.held_mb for horse in jobs if horse.held_mb is not None]))
            for clip, jobs in horses.items()]


def work_horse(result: TaskResult) -> ProcessMemory | None:
    """The process born for this task and gone after it, the heaviest one, where the worker forks for each job."""
    processes = result.memory["worker"].processes if "worker" in result.memory else []
    worker_peak = max((process.peak_mb or 0.0 for process in processes if process.resident), default=0.0)
    born = [process for process in processes if process.ended and not process.resident and not process.root]
    heaviest = max(born, key=lambda process: process.peak_mb or 0.0, default=None)
    return heaviest if heaviest and (heaviest.peak_mb or 0.0) >= HORSE_SHARE * worker_peak else None


# =============================================================================================== the leak phase

GIVE_UP_CYCLES = 3  # so many cycles in a row without a success: the service is broken, more of them tell nothing new
MORE_WARM_UPS = 2  # rounds added at most where a worker still looks as if it had had no task
MOST_WARM_UP = 16  # tasks at once in the warm-up round, however many workers the service says it has


class ToolFault(Exception):
    """A task thread of this tool broke: what was recorded is kept, and the run ends."""


@dataclass(frozen=True)
class Place:
    """Where in the test a batch stands."""

    phase: str  # leak | concurrency
    cycle: int | None = None  # leak phase: 0 is the warm-up round
    level_run: int | None = None  # ramp: 0 is a warm-up task


@dataclass
class StressTest:
    """What both phases work with."""

    settings: Settings
    client: ApiClient
    short: Clip
    long: Clip
    sampler: Sampler | None  # None with --no-watch
    log: ResultLog
    screen: Screen
    aborted: threading.Event
    host: dict[str, Any]
    drained: bool = True  # nothing of the last batch is unfinished
    batches: int = 0
    uploads: dict[Path, requests.PreparedRequest] = field(default_factory=dict)

    def at_rest(self) -> Reading:
        """A settled reading of all watched processes (empty with --no-watch)."""
        if not self.sampler:
            return Reading(time.monotonic(), {}, {}, frozenset())
        self.screen.status(doing="waiting for memory to settle")
        return self.sampler.at_rest(self.settings.settle_timeout, self.aborted)

    def given_up(self, last_progress: float) -> TaskError | None:
        """Why waiting for a task is pointless: no worker is left, or all have been idle for the stall time-out."""
        if not self.sampler:
            return None
        died = [ending for ending in self.sampler.endings() if ending.role == "worker"]
        still = min(time.monotonic() - last_progress, self.sampler.idle_seconds())
        if died and not self.sampler.serving() and time.monotonic() - died[-1].at > RESTART_WAIT_S:
            return TaskError("worker_died", pid=died[-1].pid, name=died[-1].name, workers_left=0)
        if still < self.settings.stall_timeout:
            return None
        if died:
            return TaskError("worker_died", pid=died[-1].pid, name=died[-1].name, idle_s=round(still))
        return TaskError("stalled", idle_s=round(still))

    def batch(self, clip: Clip, size: int, before: Reading, place: Place) -> tuple[list[TaskResult], Reading]:
        """Run `size` tasks released together; their results and the reading at rest after them.

        All results are on disk; the last one is held by the log until the next batch begins or the run ends. Raises
        CannotRecord and ToolFault.
        """
        self.log.release()
        self.batches += 1
        if clip.path not in self.uploads:
            self.uploads[clip.path] = self.client.prepare(clip)
        tasks = Batch(self.client, self.uploads[clip.path], size, self.settings.task_timeout, self.given_up,
                      self.aborted)
        if self.sampler:
            self.sampler.open_window()
        cpu = [self.sampler.cpu_look()] if self.sampler else []
        meter = ClientMeter()
        tasks.start()
        results: list[TaskResult] = []
        outcomes: list[Outcome] = []
        for outcome in self._collect(tasks, meter):
            outcomes.append(outcome)
            results.append(self._result(outcome, clip, size, before, place))
            (self.log.hold if len(results) == size else self.log.append)(results[-1])
            self.screen.status(done=f"{len(results)} of {size} done")
            if outcome.error_kind:
                self.screen.event(f"{results[-1].test_id} {outcome.status}: {outcome.words}")
        level = meter.level_facts(outcomes) if place.phase == "concurrency" else None
        if self.sampler:
            cpu.append(self.sampler.cpu_look())
        self._drain(outcomes)
        after = self.at_rest()
        self._complete(results, before, after, level, cpu, tasks.ends(outcomes))
        if fault := next((outcome for outcome in outcomes if outcome.error_kind == TOOL_FAULT), None):
            raise ToolFault(fault.error)
        return results, after

    def _collect(self, tasks: Batch, meter: ClientMeter) -> Iterator[Outcome]:
        """Outcomes as they come. Those that do not come in time, or within a moment of an interruption, are made up."""
        missing = set(range(tasks.size))
        overdue = tasks.release_at + tasks.task_timeout + OVERTIME_S
        announced = 0
        while missing:
            if self.aborted.is_set():
                overdue = min(overdue, time.monotonic() + ABORT_GRACE_S)
            if time.monotonic() > overdue:
                for number in sorted(missing):
                    outcome = Outcome(number, "failed")
                    if self.aborted.is_set():
                        outcome.failed("interrupted", facts={"sent": True})
                    else:
                        outcome.failed("task_timeout", facts={"limit_s": tasks.task_timeout, "exchange_ended": False})
                    yield outcome
                return
            outcome_or_none = meter.wait_for(tasks.outcomes)
            if outcome_or_none:
                missing.discard(outcome_or_none.number)
                yield outcome_or_none
            elif self.sampler:
                for ending in self.sampler.endings()[announced:]:
                    self.screen.event(f"{ending.role} process {ending.pid} ({ending.name}) ended while "
                                      f"{len(missing)} task{'s were' if len(missing) > 1 else ' was'} unfinished")
                    announced += 1

    def _result(self, outcome: Outcome, clip: Clip, size: int, before: Reading, place: Place) -> TaskResult:
        """The line of one outcome, as far as it is known before memory has come to rest."""
        finished = outcome.processing_time
        return TaskResult(
            test_id=f"{clip.path.stem}_c{size}_{len(self.log.results) + 1:04d}", phase=place.phase, batch=self.batches,
            timestamp=datetime.now().isoformat(timespec="milliseconds"), audio_file=clip.path.name,
            audio_path=str(clip.path), audio_size_mb=round(clip.size_bytes / 1e6, 3),
            audio_seconds=round(clip.seconds, 3), concurrency=size, status=outcome.status, cycle=place.cycle,
            level_run=place.level_run, task_id=outcome.task_id, error_kind=outcome.error_kind, error=outcome.error,
            error_facts=outcome.error_facts, processing_time=rounded(finished), queue_time=rounded(outcome.queue_time),
            time_error=rounded(outcome.time_error), submit_offset=rounded(outcome.submit_offset, 4),
            empty_text=outcome.empty_text,
            rtf=rounded(finished / clip.seconds, 4) if finished is not None and outcome.status == "success" else None,
            worker_rss_before_mb=rounded(before.rss.get("worker")), settings=self.settings.for_record(),
            host=self.host)

    def _complete(self, results: Sequence[TaskResult], before: Reading, after: Reading, level: LevelFacts | None,
                  cpu: Sequence[CpuLook], ends: Sequence[float]) -> None:
        """Add what is known only at rest to the results in memory, and to the one that is held.

        `ends`: the last moments (monotonic) at which each task was known to be unfinished.
        """
        for result in results:
            result.level = level
        if self.sampler:
            seen = self.sampler.observed()
            memory = role_memory(before, after, seen, [*cpu, self.sampler.cpu_look()])
            if level:
                level.host_available_min_mb, level.oom_kills = rounded(seen.available_min), seen.oom_kills
            oom_kill = None if seen.oom_kills is None else seen.oom_kills > 0
            deaths = [e.as_death(sum(end > e.at for end in ends), e.role not in seen.not_replaced, oom_kill)
                      for e in seen.endings]
            for result in results:
                result.settled, result.sample_gap_s = after.settled, rounded(seen.longest_gap)
                result.memory, result.deaths = memory, deaths
                result.busiest_other = busiest_other(cpu[0], cpu[1])
                add_worker_rss(result, memory.get("worker"))
        self.log.hold(results[-1])

    def _drain(self, outcomes: Sequence[Outcome]) -> None:
        """Wait for accepted tasks that were given up: what still runs would count against the next measurement."""
        left = {o.task_id for o in outcomes if o.task_id and o.processing_time is None and o.error_kind != "task_lost"}
        # Perhaps accepted, under a name that never came: only the workers' rest tells that it has ended.
        nameless = any(not o.task_id and o.error_kind in PERHAPS_ACCEPTED for o in outcomes)
        begin, limit = time.monotonic(), self.settings.stall_timeout
        with self.client.session() as session:
            while not self.aborted.is_set():
                left = {task_id for task_id in left if not has_ended(self.client, session, task_id)}
                idle = self.sampler.idle_seconds() if self.sampler else 0.0
                nobody = self.sampler is not None and not self.sampler.serving()
                self.drained = not left
                waited = time.monotonic() - begin >= (min(limit, RECOVERY_S) if nobody else limit)
                # A dead worker's task may be called "processing" for ever though nothing works on it any more.
                if waited or idle >= limit or not (left or (nameless and self.sampler and idle < NAMELESS_IDLE_S)):
                    return
                self.screen.status(doing="waiting for abandoned tasks")
                self.aborted.wait(POLL_CEILING_S / 2)


def add_worker_rss(result: TaskResult, worker: RoleMemory | None) -> None:
    """The worker's RSS in fields of its own, which are easy to plot."""
    if worker:
        result.worker_rss_after_mb, result.worker_rss_peak_mb = worker.after_mb, worker.peak_mb
        if worker.before_mb is not None and worker.after_mb is not None:
            result.worker_rss_delta_mb = rounded(worker.after_mb - worker.before_mb)


def has_ended(client: ApiClient, session: requests.Session, task_id: str) -> bool:
    try:
        seen = client.poll(session, client.question(task_id))
    except PollFailed:
        return False
    return seen is None or seen.state in ("done", "failed")


def warm_up(test: StressTest, before: Reading, clips: Sequence[Clip], size: int, more: int,
            place: Place) -> tuple[list[TaskResult], Reading]:
    """Tasks that are not judged, so that every worker has loaded its model: each clip, `size` of it at once.

    Which worker takes a task is the service's choice: the first clip goes out up to `more` times again while a worker
    looks as if it had had no task. The last batch's results, and the reading after it.
    """
    results: list[TaskResult] = []
    for number, clip in enumerate([*clips, *[clips[0]] * more]):
        if test.aborted.is_set() or (number >= len(clips) and not needs_more(test, results)):
            break
        test.screen.status(where=f"{place.phase} phase, warm-up", doing=f"{size} x {clip.path.name}")
        results, before = test.batch(clip, size, before, place)
    return results, before


def needs_more(test: StressTest, last: Sequence[TaskResult]) -> bool:
    """Whether a worker has not loaded its model yet and another task may help: one that fails will not."""
    works = any(result.status == "success" for result in last)
    return works and test.sampler is not None and unloaded(test.sampler.watched())


def unloaded(processes: Iterable[Look]) -> bool:
    """Whether a worker holds less than half of what the fullest does: it has not loaded its model yet."""
    held = [look.private or look.rss for look in processes if look.role == "worker" and look.serves]
    return bool(held) and min(held) < max(held) / 2


def leak_phase(test: StressTest) -> None:
    """Cycles of one short and one long clip until the growth rule has decided for every role, or they are used up."""
    short, long, size = test.short, test.long, test.settings.at_once or 1
    workers = count_workers(test)
    test.screen.phase("leak", f"{size} x {short.path.name} and {long.path.name} per cycle", test.settings)
    _, before = warm_up(test, test.at_rest(), (short, long), min(max(size, workers), MOST_WARM_UP), MORE_WARM_UPS,
                        Place("leak", cycle=0))

    def clips(cycle: int) -> tuple[Clip, ...]:
        # Workers take turns: in one order only, each of an even number would always get the same clip, and which of
        # the clips memory follows could not be told from which of the workers it is in. So each turn has another one.
        return (short, long) if workers % 2 or (cycle - 1) // (workers // 2) % 2 == 0 else (long, short)

    run_cycles(test, "leak", before, clips, size)


def loaded_phase(test: StressTest, size: int) -> None:
    """The same level again and again, at rest in between: a high-water mark stays, a leak under load goes on."""
    test.screen.phase("loaded", f"{size} x {test.short.path.name} per cycle", test.settings)
    _, before = warm_up(test, test.at_rest(), (test.short,), size, 0, Place("loaded", cycle=0))
    run_cycles(test, "loaded", before, lambda cycle: (test.short,), size)


def run_cycles(test: StressTest, phase: str, before: Reading, clips: Callable[[int], Sequence[Clip]],
               size: int) -> None:
    """Cycles of `size` tasks of each clip until the growth rule has decided for every role, or they are used up."""
    s, without_success = test.settings, 0
    for cycle in range(1, s.max_cycles + 1):
        began = time.monotonic()
        results: list[TaskResult] = []
        for clip in clips(cycle):
            if test.aborted.is_set():
                return
            test.screen.status(where=f"{phase} phase, cycle {cycle} of at most {s.max_cycles}", doing=clip.path.name)
            batch, before = test.batch(clip, size, before, Place(phase, cycle=cycle))
            results += batch
        verdicts = judge_leak(test.log.results, phase=phase, tolerance_mb=s.tolerance_mb, min_cycles=s.min_cycles)
        decided = all(v.growth.verdict in ("LEAK", "NO LEAK") for v in verdicts.values())
        test.screen.cycle(cycle, results, verdicts)
        test.screen.expect((time.monotonic() - began) * (max(s.min_cycles, cycle + 1) - cycle))
        without_success = 0 if any(r.status == "success" for r in results) else without_success + 1
        if without_success == GIVE_UP_CYCLES:
            test.screen.event(f"{phase} phase ends: no task succeeded in {GIVE_UP_CYCLES} cycles")
            return
        if decided and cycle >= s.min_cycles:
            return


def count_workers(test: StressTest) -> int:
    """How many tasks the service works on at once, as far as it says so or can be seen."""
    with test.client.session() as session:
        return max(test.client.workers(session) or 1, test.sampler.serving() if test.sampler else 1)


# ========================================================================================= the concurrency ramp

BASE_RUNS = 3  # level 1 is the base of every ratio
CONFIRM_RUNS = 3  # n tasks without failure prove a failure rate below 1 - 0.05^(1/n): 8 tasks < 31 %, 24 < 12 %
STOP_REASONS = {"worker_died": "worker_died", "process_died": "worker_died", "rtf_limit": "rtf_limit"}  # by breach
FAILURES = ("failure", "worker_died")
CLIENT_SPREAD = 0.10  # submit offsets beyond this share of the median turnaround: the tasks were not together
SPREAD_FLOOR_S = 0.05  # ... unless below what a busy host's scheduler makes of any two threads
CLIENT_CPU = 80.0  # percent of a core: this tool itself is near its limit
TICKER_S = 0.02
TICKER_LATE_S = 0.1
TICKER_LATE_SHARE = 0.01  # of the ticks: a single hiccup of a virtual machine does not make a level the client's
CLIENT_TRIES = 2  # runs in which this tool was the limit before its limit, and not a passing hiccup, ends the ramp
OWN_FILES = 64  # open files of this tool beside one connection per task
RESTART_WAIT_S = 2.0  # a supervisor brings a dead worker back within this time, or waits are taken for pointless
RECOVERY_S = 15.0  # longest wait for a service to be well again before a confirmation run
OVERTIME_S = 30.0  # a thread that has not come back so long after its task's time-out never will
PERHAPS_ACCEPTED = ("submit_timeout", "submit_reset", "bad_response", "task_timeout")
NAMELESS_IDLE_S = 3.0  # ... has ended when the workers were idle for so long: a few of the sampler's scans
ABORT_GRACE_S = 1.0


class ClientMeter:
    """Watches this tool itself during a level: was it the limit?"""

    def __init__(self) -> None:
        self.began, self.cpu = time.monotonic(), time.process_time()
        self.ticks = self.late = 0
        self.latest_s = 0.0

    def wait_for(self, outcomes: queue.Queue[Outcome]) -> Outcome | None:
        """One tick of the wait for outcomes; how much it oversleeps shows how starved this process is."""
        begin = time.monotonic()
        try:
            return outcomes.get(timeout=TICKER_S)
        except queue.Empty:
            overslept = time.monotonic() - begin - TICKER_S
            self.ticks += 1
            self.late += overslept > TICKER_LATE_S
            self.latest_s = max(self.latest_s, overslept)
            return None

    def level_facts(self, outcomes: Sequence[Outcome]) -> LevelFacts:
        """The instrument's own figures over one level; `client_limited` says whether they spoil it."""
        offsets = [o.submit_offset for o in outcomes if o.submit_offset is not None]
        times = [o.processing_time for o in outcomes if o.processing_time is not None]
        spread = max(offsets) - min(offsets) if offsets else None
        cpu = 100 * (time.process_time() - self.cpu) / max(0.001, time.monotonic() - self.began)
        limited = (spread is not None and bool(times)
                   and spread > max(SPREAD_FLOOR_S, CLIENT_SPREAD * statistics.median(times)))
        limited = limited or (cpu > CLIENT_CPU and time.monotonic() - self.began > 1)
        limited = limited or (self.late > 1 and self.late > TICKER_LATE_SHARE * self.ticks)
        return LevelFacts(rounded(spread, 4), round(cpu, 1), round(1000 * self.latest_s, 1), limited)


@dataclass(frozen=True)
class Breach:
    """What broke a level first. Of several tasks that failed at once, one stands for all."""

    concurrency: int
    test_id: str | None
    what: str  # an error_kind, worker_died, process_died, rtf_limit or incomplete
    observed: float | None = None  # RTF; or lines, where some are missing
    limit: float | None = None
    words: str | None = None  # the service's own
    facts: Mapping[str, Any] = field(default_factory=dict)  # what this tool knows of the failed task
    death: Death | None = None
    oom_kills: int = 0  # processes the kernel killed for lack of memory meanwhile


@dataclass(frozen=True)
class LevelRun:
    """One run of one level, judged from its lines."""

    concurrency: int
    run: int
    submitted: int
    succeeded: int
    complete: bool  # as many lines as tasks
    stable: bool  # complete, all succeeded, no process that serves crashed
    client_limited: bool
    interrupted: bool  # by the user or a fault of this tool, before anything failed: it tells nothing of the service
    rtf_max: float | None
    breach: Breach | None


def was_recycled(death: Death, batch: Sequence[TaskResult], known: Collection[str] = ()) -> bool:
    """Whether a process ended between tasks and was replaced at once, as --max-jobs and --max-requests have it.

    A death is a crash where it cost something: a task of its batch failed, a child was left at work, nothing took its
    place, the kernel killed for lack of memory. Several tasks at once keep a server busy: there it is recycling only
    if the role is among the `known` ones that were recycled at one task at a time too.
    """
    cost = death.left_work or death.oom_kill or any(r.status != "success" for r in batch)
    if cost or (death.replaced is False and (death.root or death.unfinished)):
        return False
    alone = death.unfinished == 0 or batch[0].concurrency == 1
    return alone or death.role in known or (death.role == "worker" and death.left_work is False)


def crashes_and_recycled(results: Sequence[TaskResult]) -> tuple[list[Death], list[Death]]:
    """The deaths of a run (or of a part of it), told apart; in order."""
    batches = [list(batch) for _, batch in itertools.groupby(results, key=lambda r: (r.phase, r.batch))]
    deaths = [(death, batch) for batch in batches for death in next((r.deaths for r in batch if r.deaths), [])]
    known = {d.role for d, batch in deaths if batch[0].concurrency == 1 and was_recycled(d, batch)}
    crashes = [death for death, batch in deaths if not was_recycled(death, batch, known)]
    return crashes, [death for death, _ in deaths if death not in crashes]


def judge_level_run(results: Sequence[TaskResult], rtf_limit: float, recycled: Collection[str] = ()) -> LevelRun:
    """Judge the lines of one level run (one concurrency, one level_run).

    `rtf_limit` 0: none. `recycled`: roles whose processes are known to be recycled, see was_recycled().
    """
    size, number = results[0].concurrency, results[0].level_run or 0
    succeeded = [r for r in results if r.status == "success"]
    failed = [r for r in results if r.status != "success" and r.error_kind not in NOT_THE_SERVICES]
    interrupted = len(succeeded) + len(failed) < len(results)
    level = next((r.level for r in results if r.level), LevelFacts())
    deaths = [d for d in next((r.deaths for r in results if r.deaths), []) if not was_recycled(d, results, recycled)]
    complete = len(results) == size
    rtfs = [r.rtf for r in succeeded if r.rtf is not None]
    return LevelRun(size, number, len(results), len(succeeded), complete,
                    stable=complete and len(succeeded) == size and not deaths, client_limited=level.client_limited,
                    interrupted=interrupted and not failed, rtf_max=max(rtfs, default=None),
                    breach=find_breach(results, failed, deaths, level.oom_kills or 0, rtf_limit))


def find_breach(results: Sequence[TaskResult], failed: Sequence[TaskResult], deaths: Sequence[Death], oom_kills: int,
                rtf_limit: float) -> Breach | None:
    """The first of: a dead process, a failed task, a missing line, an RTF at its limit."""
    size = results[0].concurrency
    victim = next((r for r in failed if r.error_kind == "worker_died"), failed[0] if failed else None)
    of_victim: dict[str, Any] = {"test_id": victim.test_id, "words": victim.error, "facts": victim.error_facts} if (
        victim) else {"test_id": None}
    if deaths:
        horse = victim is not None and victim.error_kind == "worker_died"
        what = "worker_died" if horse or any(d.role == "worker" for d in deaths) else "process_died"
        return Breach(size, what=what, death=deaths[0], oom_kills=oom_kills, **of_victim)
    if victim:
        return Breach(size, what=victim.error_kind or victim.status, oom_kills=oom_kills, **of_victim)
    if len(results) != size:
        return Breach(size, None, "incomplete", len(results), size)
    slowest = max((r for r in results if r.rtf is not None), key=lambda r: r.rtf or 0.0, default=None)
    if slowest and rtf_limit and (slowest.rtf or 0.0) >= rtf_limit:
        return Breach(size, slowest.test_id, "rtf_limit", slowest.rtf, rtf_limit)
    return None


def ramp(test: StressTest) -> Climb:
    """Raise the number of tasks at once until something breaks or a limit is reached, then confirm the answer."""
    s = test.settings
    test.screen.event(f"concurrency phase: {test.short.path.name}, from {s.start} at once, at most {s.max_concurrency}")
    climb = Climb(test, test.at_rest())
    climb.warm_up()
    climb.workers = test.sampler.serving() if test.sampler else 0
    for size in levels(s):
        if not climb.try_level(size):
            break
    else:
        climb.stop("max_concurrency")
    if s.step == DOUBLE:
        close_in(climb)
    confirm(climb)
    return climb


def levels(s: Settings) -> list[int]:
    """The levels from the first by steps; the highest asked for is the last whatever the step."""
    if isinstance(s.step, int):
        return [*range(s.start, s.max_concurrency, s.step), s.max_concurrency]
    doubled = itertools.takewhile(lambda n: n < s.max_concurrency, (s.start << n for n in itertools.count()))
    return [*doubled, s.max_concurrency]


def close_in(climb: Climb) -> None:
    """Halve the gap between the highest level without a breach and the lowest with one until they are neighbours."""
    low = max((size for size in climb.good if size < (climb.bad or 0)), default=None)
    while low and climb.bad and climb.bad - low > 1 and climb.recovered():
        middle = (low + climb.bad) // 2
        if climb.try_level(middle):
            low = middle
        elif climb.reason == "interrupted":
            return


def confirm(climb: Climb) -> None:
    """Run the failing level once more and the last good one until it has its runs; a failure lowers it by one step."""
    failing = climb.bad if climb.reason in FAILURES else None
    if failing:
        climb.good = [size for size in climb.good if size < failing]
        if not climb.recovered():
            return
        if climb.level(failing, climb.runs[failing] + 1, 0) is None:
            climb.test.screen.event(f"{failing} at once is flaky: failed, then passed; it counts as failed")
    while climb.good and climb.recovered():
        reason = climb.level(climb.good[-1], CONFIRM_RUNS, 0)
        if reason not in FAILURES:
            climb.confirmed = reason is None
            return
        failed = climb.good.pop()
        if not failing:  # this, and not what ended the ramp, is why the answer is no higher
            climb.stop(reason)
            failing = failed


@dataclass
class Climb:
    """The ramp so far: what the next level run needs to know of the last one."""

    test: StressTest
    before: Reading
    workers: int = 0  # that took tasks when it began
    last: list[TaskResult] = field(default_factory=list)  # lines of the last level run
    stable: bool = True  # the last level run was
    runs: dict[int, int] = field(default_factory=dict)  # of each level, those not spoilt by this tool's own limit
    numbers: dict[int, int] = field(default_factory=dict)  # level_run of each level's last run
    good: list[int] = field(default_factory=list)  # stable levels, in order
    bad: int | None = None  # the lowest level with a breach, or that could not be run
    reason: str | None = None  # why
    confirmed: bool = False  # the highest stable level has all its runs

    def warm_up(self) -> None:
        """One task that is not judged, and more, one by one, while a worker has not loaded its model yet."""
        workers = self.test.sampler.serving() or 1 if self.test.sampler else 1
        self.last, self.before = warm_up(self.test, self.before, (self.test.short,), 1, workers - 1,
                                         Place("concurrency", level_run=0))
        self.stable = bool(self.last) and judge_level_run(self.last, 0).stable

    def try_level(self, size: int) -> bool:
        """Run a level of the ascent; whether the ramp may go higher. Where it may not, the reason is recorded."""
        reason = self.level(size, BASE_RUNS if size == 1 else 1, self.test.settings.rtf_limit)
        if reason in (None, "rtf_limit"):
            self.good = sorted([*self.good, size])
        if reason:
            self.bad, self.reason = size, reason
            self.stop(reason)
        return reason is None

    def level(self, size: int, wanted: int, rtf_limit: float) -> str | None:
        """Run a level until it has so many runs. Why the ramp must end with it, None where it need not."""
        spoilt = 0
        while self.runs.get(size, 0) < wanted:
            if reason := self.blocked(size):
                return reason
            judged = self._run_once(size, rtf_limit)
            if self.test.aborted.is_set():
                return "interrupted"
            if judged.client_limited:
                spoilt += 1
                if spoilt == CLIENT_TRIES or not self.test.drained:
                    return "client_limited"
                continue
            self.runs[size] = self.runs.get(size, 0) + 1
            if judged.breach:
                return STOP_REASONS.get(judged.breach.what, "failure")
        return None

    def _run_once(self, size: int, rtf_limit: float) -> LevelRun:
        test, began = self.test, time.monotonic()
        self.numbers[size] = number = self.numbers.get(size, 0) + 1
        test.screen.status(where=f"concurrency ramp, {size} at once of at most {test.settings.max_concurrency}, "
                                 f"run {number}")
        self.last, self.before = test.batch(test.short, size, self.before, Place("concurrency", level_run=number))
        _, recycled = crashes_and_recycled(test.log.results)
        judged = judge_level_run(self.last, rtf_limit, {death.role for death in recycled})
        self.stable = judged.stable
        test.screen.level(self.last, judged)
        test.screen.expect(ramp_seconds_left(time.monotonic() - began, size, judged.rtf_max, test.settings))
        return judged

    def blocked(self, size: int) -> str | None:
        """Why a level must not start: the user interrupts, this tool cannot do it, or memory would run short."""
        test = self.test
        if test.aborted.is_set():
            return "interrupted"
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files != resource.RLIM_INFINITY and size + OWN_FILES > files:
            test.screen.event(f"ramp ends: {size} connections need more open files than this shell allows ({files}); "
                             f"raise it with: ulimit -n {2 * (size + OWN_FILES)}")
            return "client_limited"
        available = self.last[0].level.host_available_min_mb if self.last and self.last[0].level else None
        if available is None:
            return None
        host = psutil.virtual_memory()
        # Free memory at rest less what the last level took at its peak, scaled to this one's tasks.
        taken = max(0.0, host.available / MIB - available)
        predicted = host.available / MIB - taken * size / self.last[0].concurrency
        reserve = test.settings.memory_reserve / 100 * host.total / MIB
        if predicted >= reserve:
            return None
        test.screen.event(f"{size} tasks at once would leave about {max(0, predicted):.0f} MB of RAM free, less than "
                         f"the reserve of {reserve:.0f} MB (--memory-reserve)")
        return "memory_reserve"

    def stop(self, reason: str) -> None:
        """Record with the last level run, whose last line is still held, that the ramp ended with it, and why."""
        if self.last and self.last[-1].level:
            self.last[-1].level.stop_reason = reason
            self.test.log.hold(self.last[-1])
        self.test.screen.event(f"ramp ends: {reason}")

    def recovered(self) -> bool:
        """Whether the service is as before the last level run; else lower levels would be blamed for its failure.

        After a failure: nothing left over, all workers back, the health page well, and a single task succeeds.
        """
        test, deadline = self.test, time.monotonic() + RECOVERY_S
        if self.stable:
            return not test.aborted.is_set()
        while not (well := self._well()) and test.drained and time.monotonic() < deadline and not test.aborted.is_set():
            test.screen.status(doing="waiting for the service to recover")
            test.aborted.wait(TICK_S)
        if test.aborted.is_set():
            return False
        if well:
            self.warm_up()
        if not self.stable:
            test.screen.event("WARNING the answer is not confirmed: the service did not recover from its failure "
                             "(unfinished tasks, missing workers, or a single task fails)")
        return self.stable

    def _well(self) -> bool:
        test = self.test
        if not test.drained or (test.sampler and test.sampler.serving() < self.workers):
            return False
        try:
            with test.client.session() as session:
                return str(test.client.health(session).get("status")) not in test.client.api.unhealthy
        except (requests.RequestException, ValueError):
            return False  # that is what we are waiting to end


# ================================================================================================ the terminal


class Screen:
    """What a person sees: one line with its time per event, and on a terminal a live line where rich is installed."""

    def __init__(self, quiet: bool, sampler: Sampler | None) -> None:
        self.quiet, self.sampler = quiet, sampler
        self.began = time.monotonic()
        self.where = self.doing = self.done = ""
        self.end: float | None = None  # expected, on the monotonic clock
        self.live = None if quiet or not sys.stdout.isatty() else live_display(self._live_line)

    def __enter__(self) -> Screen:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def event(self, text: str) -> None:
        """Something that stays on the screen or in the log of a job."""
        if self.quiet:
            return
        line = f"{datetime.now():%H:%M:%S} {text}"
        if self.live:
            style = "yellow" if text.startswith("WARNING") else None
            say(line, functools.partial(self.live.console.print, style=style, markup=False, highlight=False))
        else:
            say(line)

    def status(self, *, where: str | None = None, doing: str | None = None, done: str = "") -> None:
        """What is going on now, for the live line."""
        self.where, self.doing, self.done = where or self.where, doing or ("" if where else self.doing), done

    def expect(self, seconds: float) -> None:
        """How long the present phase is expected to take from now."""
        self.end = time.monotonic() + seconds

    def phase(self, name: str, plan: str, s: Settings) -> None:
        """A phase of cycles begins."""
        self.end = None
        self.event(f"{name} phase: {plan}, at least {s.min_cycles}, at most {s.max_cycles} cycles")

    def _live_line(self) -> str:
        left = "" if self.end is None else f", about {clock(max(0.0, self.end - time.monotonic()))} left"
        reading = self.sampler.latest() if self.sampler else None
        memory = "  ".join(f"{role} {mb:,.0f} MB" for role, mb in (reading.rss if reading else {}).items())
        parts = [self.where, self.doing, self.done, f"{clock(time.monotonic() - self.began)} elapsed{left}", memory]
        return " · ".join(part for part in parts if part)

    def cycle(self, cycle: int, results: Sequence[TaskResult], verdicts: Mapping[str, RoleVerdict]) -> None:
        """One line per leak cycle: memory at rest after it, and what the rule says so far."""
        last = results[-1].memory
        memory = ", ".join(f"{role} {m.after_mb:,.0f} MB" for role, m in last.items() if m.after_mb is not None)
        verdict = {"INCONCLUSIVE": "undecided yet"}
        says = ", ".join(f"{role} {verdict.get(v.growth.verdict, v.growth.verdict)}" for role, v in verdicts.items())
        times = ", ".join(f"{r.audio_file} " + ("failed" if r.processing_time is None else f"{r.processing_time:.1f} s")
                          for r in results)
        self.event(f"cycle {cycle}: {times}; at rest: {memory or 'not watched'}; {says or 'memory not judged'}")

    def level(self, results: Sequence[TaskResult], judged: LevelRun) -> None:
        """One line per level run."""
        times = [r.processing_time for r in results if r.status == "success" and r.processing_time is not None]
        took = f", {statistics.median(times):.1f} s (max {max(times):.1f}), RTF {judged.rtf_max}" if times else ""
        limited = ", this tool was the limit" if judged.client_limited else ""
        breach = f"; first breach: {judged.breach.what}" if judged.breach else ""
        self.event(f"{judged.concurrency} at once, run {judged.run}: {judged.succeeded} of {judged.concurrency} done"
                   f"{took}{limited}{breach}")


def live_display(line: Callable[[], str]) -> Live | None:
    """A line at the foot of the terminal that is drawn anew four times a second; None without rich."""
    try:
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        return None

    def render() -> Text:
        return Text(line(), style="cyan", overflow="ellipsis", no_wrap=True)

    return Live(get_renderable=render, refresh_per_second=4, transient=True)


def clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def ramp_seconds_left(took: float, size: int, rtf: float | None, s: Settings) -> float:
    """Expected rest of the ramp, if the service takes tasks one by one: a level's time and RTF grow with its size."""
    end = min(s.max_concurrency, math.ceil(s.rtf_limit * size / rtf)) if rtf and s.rtf_limit else s.max_concurrency
    to_come = sum(level for level in levels(s) if size < level <= end)
    return took * (to_come / size + (CONFIRM_RUNS - 1) * end / size)


# ======================================================================================================== main


def loaded_size(test: StressTest, climb: Climb) -> int | None:
    """How many tasks at once the loaded cycles take where the ramp left memory behind: a high-water mark or a leak?

    That is where any role holds more at rest than `--delta-limit-mb` above what it held after its first use.
    """
    first = [r for r in test.log.results if r.phase == "leak" and r.cycle == 0]
    if not first or not climb.confirmed:
        return None
    held = {role: m.private_after_mb if m.private_after_mb is not None else m.after_mb
            for role, m in first[-1].memory.items()}
    now = {**climb.before.rss, **climb.before.private}
    grown = {role: now[role] - mb for role, mb in held.items() if mb is not None and role in now}
    over = [role for role, mb in grown.items() if mb > test.settings.delta_limit_mb]
    for role in over:
        test.screen.event(f"after the ramp the {role} holds {grown[role]:,.0f} MB more than after its first use: a "
                          "high-water mark or a leak? Loaded cycles tell")
    return (test.settings.at_once or climb.good[-1]) if over else None


FAULT_HINT = ("This is a fault of this tool and says nothing of the service: please report the lines above. What was "
              "recorded is kept.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    settings = parse_command_line(argv)
    try:
        return self_check() if settings.self_check else run_test(settings)
    except CannotStart as error:
        print(f"Cannot start: {error}", file=sys.stderr)
        return EXIT_NO_START
    except KeyboardInterrupt:  # before or after the phases, which take it themselves
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception:  # Python's own status for it, 1, would say that the service failed a criterion
        traceback.print_exc()
        print(f"{FAULT_HINT} It is in {settings.results_dir}; analyze_stress_test.py judges it.", file=sys.stderr)
        return EXIT_INCONCLUSIVE


def run_test(s: Settings) -> int:
    """The whole test: check, watch, run the phases, report."""
    client = ApiClient(s.url, ApiDescription(), os.environ.get("ASR_API_TOKEN"))
    loads = s.phase != "monitor"
    clips = [read_clip(path) for path in (s.short_audio, s.long_audio)] if loads else []
    warnings = [check_api(client), too_few_cycles(s)] if loads else []
    table = None if s.no_watch else find_processes(s)
    jsonl, resources = new_files(s.results_dir)
    aborted = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sign) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(sign, lambda *_: aborted.set())
    sampler = Sampler(table, resources, s.interval) if table else None
    cut_short = False
    with sampler or contextlib.nullcontext(), Screen(s.quiet, sampler) as screen:
        announce(screen, sampler, [w for w in warnings if w], clips)
        if loads:
            test = StressTest(s, client, clips[0], clips[1], sampler, ResultLog(jsonl), screen, aborted, host_facts())
            try:
                run_phases(test)
            except CannotRecord as error:
                cut_short = True
                screen.event(f"WARNING {error}")
            except ToolFault as fault:
                cut_short = True
                print(f"{fault}\n{FAULT_HINT}", file=sys.stderr)
        else:
            screen.event("monitor phase: recording until Ctrl-C")
            while not aborted.wait(60):
                if sampler:
                    sampler.open_window()  # forget those that have ended
        if sampler and sampler.failure:
            screen.event(f"WARNING {sampler.failure}")
        screen.event(own_use(time.monotonic() - screen.began))
    status = report(s, jsonl if loads else None, resources if sampler else None)
    if aborted.is_set():
        return EXIT_INTERRUPTED
    return EXIT_INCONCLUSIVE if cut_short and status != EXIT_FAIL else status


def run_phases(test: StressTest) -> None:
    """The phases asked for; the last line says whether they came to their end. Raises CannotRecord and ToolFault."""
    try:
        s = test.settings
        if s.phase in ("all", "leak"):
            leak_phase(test)
        climb = ramp(test) if s.phase in ("all", "concurrency") and not test.aborted.is_set() else None
        size = s.at_once if s.phase == "loaded" else climb and loaded_size(test, climb)
        if size and not test.aborted.is_set():
            loaded_phase(test, size)
        test.log.release(end=not test.aborted.is_set())
    finally:
        test.log.release()
        test.log.close()


def own_use(seconds: float) -> str:
    """What this tool took of the machine it measures, over the seconds of the test."""
    me = psutil.Process()
    times = me.cpu_times()
    share = 100 * (times.user + times.system) / max(1.0, seconds)
    return f"this tool itself used {share:.1f} % of a core and {me.memory_info().rss / MIB:.0f} MB"


def check_api(client: ApiClient) -> str | None:
    """Read the health page's body. Raises CannotStart; returns a warning where the service is not quite well."""
    try_it = f"try: curl {without_secrets(client.url)}{client.api.health_path}"
    with client.session() as session:
        try:
            health = client.health(session)
        except requests.RequestException as error:
            raise CannotStart(f"API does not answer at {without_secrets(client.url)} ({type(error).__name__}); "
                              f"{try_it} (or name another with --url)") from None
        except ValueError as error:
            raise CannotStart(f"API at {without_secrets(client.url)} has no health page like this tool's ({error}); "
                              f"{try_it}") from None
    state = str(health.get("status"))
    if state in client.api.unhealthy:
        raise CannotStart(f"API says it is {state} ({shortened(json.dumps(health))}); is a worker running? {try_it}")
    return None if state == "ready" else f"WARNING the API's health page says: {shortened(json.dumps(health))}"


def too_few_cycles(s: Settings) -> str | None:
    """A warning where the leak phase ends before the growth rule can clear anything."""
    needed = max(s.min_cycles, WINDOW)
    if s.phase == "concurrency" or s.max_cycles >= needed:
        return None
    return f"WARNING {s.max_cycles} cycles (--max-cycles) can only show a leak: NO LEAK needs {needed} (--min-cycles)"


def find_processes(s: Settings) -> ProcessTable:
    """Find what to watch. Raises CannotStart where the worker or a process asked for is missing."""
    table = ProcessTable.for_settings(s)
    table.scan()
    needed = {"worker", *s.watch, *s.pid} if s.phase != "monitor" else {*s.watch, *s.pid}
    found = {w.role for w in table.alive.values()}
    for role in (r for r in ROLES if r in needed - found):
        raise CannotStart(f"{role.capitalize()} not found among this machine's processes; {START_HINT[role]}. "
                          "To test a service on another machine without its memory: --no-watch")
    if not found:
        raise CannotStart(f"Nothing to watch: no worker, API or backend process found; {START_HINT['worker']}")
    return table


def new_files(folder: Path) -> tuple[Path, Path]:
    """Names of this run's JSONL and CSV, in the results folder, made if need be and proven writable.

    Raises CannotStart.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CannotStart(f"Results folder {folder} is not writable ({error.strerror}); name another with "
                          f"--results-dir, or: sudo chown $USER {folder}") from None
    while True:
        stem = datetime.now().strftime("%Y%m%d_%H%M%S")
        jsonl, resources = (folder / f"{name}_{stem}" for name in ("memory_leak_stress_test", "system_resources"))
        files = jsonl.with_suffix(".jsonl"), resources.with_suffix(".csv")
        if not any(file.exists() for file in files):
            return files
        time.sleep(0.1)  # another run began in this second


def announce(screen: Screen, sampler: Sampler | None, warnings: Sequence[str], clips: Sequence[Clip]) -> None:
    """What is tested and what is watched, so that a person sees at a glance whether it is right."""
    for warning in warnings:
        screen.event(warning)
    for clip in clips:
        screen.event(f"clip {clip.path}: {clip.seconds:.1f} s, {clip.size_bytes / 1e6:.1f} MB")
    watched = sampler.watched() if sampler else []
    for w in (w for w in watched if w.root):
        program = shortened(" ".join(os.path.basename(word) for word in without_secrets(w.line).split()[:3]), 60)
        screen.event(f"watching {w.role} {w.pid} ({program}): RSS {w.rss:.0f} MB")
    if below := sum(not w.root for w in watched):
        screen.event(f"watching {below} processes below them")
    if not sampler:
        screen.event("WARNING --no-watch: load only, memory is not judged")
    elif "api" not in {w.role for w in watched}:
        screen.event(f"WARNING API process not found: its memory is not judged; {START_HINT['api']}")


def report(s: Settings, jsonl: Path | None, resources: Path | None) -> int:
    """Start the reader on the new files; its summary goes to the terminal, its exit status is ours."""
    say(f"results:   {jsonl or 'none (--phase monitor)'}")
    say(f"resources: {resources or 'not recorded (--no-watch)'}")
    reader, recorded = Path(__file__).resolve().with_name("analyze_stress_test.py"), jsonl or resources
    if not reader.exists():
        say(f"Recorded but not judged: {reader.name} is not beside this script. Judge it where it is: "
            f"python3 tests/{reader.name} {recorded}")
        return EXIT_INCONCLUSIVE
    command = [sys.executable, str(reader), str(recorded), "--lang", s.lang]
    if s.no_report:
        command += ["--no-charts", "--output", os.devnull]
    return subprocess.run(command, check=False).returncode


def say(line: str, print_line: Callable[[str], None] = print) -> None:
    """Print a line; where the terminal or the reader of a pipe has gone, the test goes on for the sake of its files."""
    try:
        print_line(line)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# The self-check's process: for every line it reads it holds so many MB more, or takes and gives back as much.
PLANTED = """
import sys
kept = []
for line in sys.stdin:
    size = int(line.split()[0]) * 1024 * 1024
    block = bytearray(size)
    block[::4096] = b"x" * len(range(0, size, 4096))
    if line.split()[1] == "keep":
        kept.append(block)
    del block
    print("done", flush=True)
"""
PLANTED_MB = 20
PLANTED_CYCLES = 12  # a slow leak is judged in two windows of six readings


def self_check() -> int:
    """Measure and judge a process that leaks and one that does not with the code of a test: can verdicts be trusted?"""
    commands = {"worker": f"{PLANTED_MB} keep", "api": f"{PLANTED_MB} free"}
    with contextlib.ExitStack() as stack:
        children = {role: stack.enter_context(subprocess.Popen([sys.executable, "-c", PLANTED], stdin=subprocess.PIPE,
                                                               stdout=subprocess.PIPE, text=True)) for role in commands}
        table = ProcessTable({}, {role: (child.pid,) for role, child in children.items()}, 0, set())
        sampler = stack.enter_context(Sampler(table, None, 1.0))
        print(f"{PLANTED_CYCLES} cycles: one process leaks {PLANTED_MB} MB in each, the other none", flush=True)
        results: list[TaskResult] = []
        before = sampler.at_rest(10, threading.Event())
        for cycle in range(1, PLANTED_CYCLES + 1):
            sampler.open_window()
            for role, child in children.items():
                print(commands[role], file=child.stdin, flush=True)
                typing.cast(TextIO, child.stdout).readline()
            after = sampler.at_rest(10, threading.Event())
            results.append(TaskResult(f"planted_c1_{cycle:04d}", "leak", datetime.now().isoformat(), "planted", None,
                                      None, 1, "success", cycle=cycle, settled=after.settled,
                                      memory=role_memory(before, after, sampler.observed())))
            before = after
        verdicts = judge_leak(results)
    leak, calm = verdicts["worker"].growth, verdicts["api"].growth
    for name, verdict in (("leaking process", leak), ("healthy process", calm)):
        rate = "" if verdict.mb_per_cycle is None else f" ({verdict.mb_per_cycle:.1f} MB per cycle)"
        print(f"{name}: {verdict.verdict}{rate}")
    found = leak.mb_per_cycle or 0.0
    if leak.verdict == "LEAK" and calm.verdict == "NO LEAK" and abs(found - PLANTED_MB) < PLANTED_MB / 10:
        print("self-check passed: a verdict of this machine can be trusted")
        return EXIT_PASS
    print(f"self-check FAILED: a planted leak of {PLANTED_MB} MB per cycle was measured as {found:.1f}; "
          "do not trust a verdict of this machine")
    return EXIT_FAIL


if __name__ == "__main__":
    sys.exit(main())
