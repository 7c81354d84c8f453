#!/usr/bin/env python3
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, urlsplit

import psutil
import requests
import urllib3
from rich.console import Console
from rich.live import Live
from rich.text import Text

VERSION = "1.0.0"
SCHEMA = 1

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_NO_START = 4
EXIT_INTERRUPTED = 130

ROLES = ("worker", "api", "backend")
MIB = 1024 * 1024

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
    min_cycles: int = 10
    max_cycles: int = 20
    tolerance_mb: float = 10.0
    delta_limit_mb: float = 200.0
    settle_timeout: float = 30.0
    start: int = 1
    step: int = 1
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
    p.set_defaults(**vars(Settings()) | {"url": os.environ.get("ASR_URL", Settings.url), "watch": [], "pid": []})
    whole, positive = number(int, 1), number(float, 0, above=True)

    p.add_argument("--url", type=base_url, help="base URL of the API (default %(default)s, or environment ASR_URL)")
    p.add_argument("--short-audio", type=Path, metavar="PATH", help="short clip, also the ramp's (default %(default)s)")
    p.add_argument("--long-audio", type=Path, metavar="PATH", help="long clip (default %(default)s)")
    p.add_argument("--phase", choices=("all", "leak", "concurrency", "monitor"),
                   help="what to run (default %(default)s); monitor only records processes until Ctrl-C")

    leak = p.add_argument_group("leak phase")
    leak.add_argument("--min-cycles", type=whole, metavar="N", help="earliest NO LEAK (default %(default)s)")
    leak.add_argument("--max-cycles", type=whole, metavar="N", help="end of the phase (default %(default)s)")
    leak.add_argument("--tolerance-mb", type=positive, metavar="X",
                      help="growth per cycle that counts as a leak (default %(default)s)")
    leak.add_argument("--delta-limit-mb", type=positive, metavar="X",
                      help="growth allowed per task (default %(default)s)")
    leak.add_argument("--settle-timeout", type=positive, metavar="S",
                      help="longest wait for memory to come to rest (default %(default)s)")

    ramp = p.add_argument_group("concurrency ramp")
    ramp.add_argument("--start", type=whole, metavar="N", help="first level (default %(default)s)")
    ramp.add_argument("--step", type=whole, metavar="N", help="tasks added per level (default %(default)s)")
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


SECRETS = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]*@", re.I), r"\1***@"),  # redis://:password@host
    (re.compile(r"((?:password|passwd|secret|token|api[-_]?key|authorization)[\"']?\s*[=:\s]\s*(?:bearer\s+)?[\"']?)"
                r"[^\s\"',&]+", re.I), r"\1***"),
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
    """A task came to an end without success: `kind` is one word, the message the service's own words."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(shortened(words))
        self.kind = kind


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
        """The body as a JSON object; ValueError says what it is instead."""
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
            raise ValueError(f"the answer is not JSON: {shortened(self.words) or 'empty body'}") from None
        if not isinstance(content, dict):
            raise ValueError(f"the answer is not a JSON object: {shortened(self.words)}")
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
        """The health page's content. Raises requests.RequestException or ValueError."""
        answer = fetch(session, self.get(self.api.health_path), POLL_TIMEOUT_S)
        if answer.code != 200:
            raise ValueError(f"HTTP {answer.code}: {shortened(answer.words)}")
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
        except ValueError as error:
            raise TaskError("bad_response", str(error)) from None
        if not isinstance(task_id, (str, int)) or task_id == "":
            raise TaskError("bad_response", f"no {self.api.id_field} in the answer: {answer.words}")
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
    and ValueError for an answer that cannot be decoded or is longer than ANSWER_LIMIT.
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
                    raise ValueError(f"the answer is longer than {ANSWER_LIMIT} bytes")
            return Answer(response.status_code, bytes(body), response.headers.get("Location"))
    except urllib3.exceptions.DecodeError as error:
        raise ValueError(str(error)) from None
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
    task_id: str | None = None
    submit_offset: float | None = None
    processing_time: float | None = None
    queue_time: float | None = None
    time_error: float | None = None
    empty_text: bool | None = None


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
                outcome.status = "timeout" if error.kind in ("task_timeout", "submit_timeout", "stalled") else "failed"
                outcome.error_kind, outcome.error = error.kind, str(error)
            except Exception as error:  # a fault of this tool must show as a result, not as a thread that vanished
                outcome.error_kind, outcome.error = "bad_response", shortened(f"{type(error).__name__}: {error}")
        self.outcomes.put(outcome)


def run_task(batch: Batch, session: requests.Session, outcome: Outcome) -> None:
    """Submit one task and poll it to its end; fills `outcome` as it goes. Raises TaskError.

    Times as in the field: turnaround from the common release (the moment the task was due, so a client that is late
    cannot flatter the service) to the poll that saw it done; time_error back to the last poll that did not.
    """
    client, release = batch.client, batch.release_at
    if batch.aborted.is_set():
        raise TaskError("interrupted", "the test was interrupted before this task was sent")
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
            raise TaskError("interrupted", "the test was interrupted before this task ended")
        asked = time.monotonic()
        if asked - release > batch.task_timeout:
            raise TaskError("task_timeout", f"not done after {batch.task_timeout:g} s; last seen {state}. {trouble}")
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
                raise TaskError("task_lost", f"accepted as {outcome.task_id}, which the service no longer knows (404)")
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
            raise TaskError(kind, seen.words or "the service gives no reason")
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
    serves: bool  # takes tasks by itself: a root, or a worker below a pool or wrapper, not a work-horse or helper
    sample: MemorySample
    tick_peak: float  # RSS peak since the sample before
    high_water: float  # VmHWM at the last sample
    peak: float  # RSS peak in this window
    resident: bool = False  # was there when the window opened
    ended: bool = False
    cpu_seconds: float = 0.0  # used at the last scan
    last_row: tuple[float, float] | None = None  # when its last CSV row was written, CPU seconds then


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
                                            sample, peak, 0.0, peak)
        for child in below:
            if child.pid not in self.own:
                self._adopt(child.pid)
        return watched

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


@dataclass(frozen=True)
class Death:
    """A process that serves a role has ended."""

    at: float
    role: str
    words: str


@dataclass
class Window:
    """What happened to the watched processes between two readings."""

    processes: list[Watched]
    peaks: dict[str, float]  # role -> highest sum of RSS over its trees
    available_min: float  # MiB of free memory on the host
    deaths: list[Death]
    oom_kills: int | None  # the kernel's count when the window opened
    longest_gap: float = 0.0  # seconds between two looks at the processes


class Sampler:
    """The one thread that looks at processes: it reads memory, writes the CSV, notices deaths. Others ask it."""

    def __init__(self, table: ProcessTable, csv_path: Path | None, interval: float) -> None:
        self.table = table
        self.interval = interval
        self.steps = math.ceil(interval / TICK_S)
        self.failure: str | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._latest: Reading | None = None
        self._last_busy = time.monotonic()
        self._csv = csv_path.open("w", newline="", encoding="utf-8") if csv_path else None
        self._rows = csv.writer(self._csv) if self._csv else None
        self._total = psutil.virtual_memory().total / MIB
        self.window = Window([], {}, math.inf, [], None)
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
        start = last = time.monotonic()
        tick = self.interval / self.steps
        per_scan, done = math.ceil(SCAN_S / tick), -1
        try:
            for number in schedule(start, tick, self._stop):
                now, stamp = time.monotonic(), datetime.now()  # together, however long the look takes
                with self._changed:
                    self.window.longest_gap, last = max(self.window.longest_gap, now - last), now
                    self._look(now, scan=number // per_scan > done // per_scan)
                    self._changed.notify_all()
                if number // self.steps > done // self.steps:  # late rather than never where its own tick was missed
                    self._write_rows(now, now - start, stamp)
                done = number
        except OSError as error:  # nothing may pass for a measurement that is none
            with self._changed:
                self.failure = f"sampling stopped ({error}): memory is not measured from here on"
                self.table.alive.clear()
                self.window.peaks.clear()

    def _look(self, now: float, scan: bool) -> None:
        self.table.scan() if scan else self.table.follow()
        self._read(now, identify=scan)
        alive = list(self.table.alive.values())
        rss, private, peaks = role_sums(alive)
        for role, peak in peaks.items():
            self.window.peaks[role] = max(peak, self.window.peaks.get(role, 0.0))
        self.window.available_min = min(self.window.available_min, psutil.virtual_memory().available / MIB)
        if scan and self._busy([w for w in alive if w.role == "worker"]):
            self._last_busy = now
        self._latest = Reading(now, rss, private, frozenset(self.table.alive))

    def _read(self, now: float, *, identify: bool = True) -> None:
        for watched in self.table.read(identify=identify):
            self.window.processes.append(watched)
            if watched.serves:
                self.window.deaths.append(Death(now, watched.role, f"{watched.role} process {watched.process.pid} "
                                                                   f"({watched.name}) ended"))

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

    def watched(self) -> list[Watched]:
        """The processes watched now, roots before their children."""
        with self._changed:
            return sorted(self.table.alive.values(), key=lambda w: (ROLES.index(w.role), not w.root, w.started))

    def latest(self) -> Reading | None:
        """The newest reading, None before the first."""
        with self._changed:
            return self._latest

    def idle_seconds(self) -> float:
        """How long no watched worker or work-horse has used CPU; 0 where nobody looks any more."""
        with self._changed:
            return time.monotonic() - self._last_busy if self._thread.is_alive() else 0.0

    def serving(self) -> int:
        """Worker processes alive that take tasks."""
        with self._changed:
            return sum(w.serves for w in self.table.alive.values() if w.role == "worker")

    def deaths(self) -> list[Death]:
        """Deaths in this window."""
        with self._changed:
            return list(self.window.deaths)

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
                    return dataclasses.replace(recent[-1], settled=True)
                if not self._thread.is_alive() or aborted.is_set() or time.monotonic() - begin > timeout:
                    return middle(since[len(since) // 2 :]) if since else Reading(begin, {}, {}, frozenset())

    def open_window(self) -> None:
        """Begin a window: peaks start again from the present memory."""
        with self._changed:
            for w in self.table.alive.values():
                w.resident = True
                reset_high_water(w.process.pid)
            self.window = Window([], {}, psutil.virtual_memory().available / MIB, [], oom_kills())
            self._read(time.monotonic())
            for w in self.table.alive.values():
                w.peak = w.tick_peak = w.sample.rss
            _, _, self.window.peaks = role_sums(self.table.alive.values())
            self._last_busy = time.monotonic()

    def close_window(self) -> Window:
        """The window so far, with the processes that are alive now after those that ended in it."""
        with self._changed:
            w = self.window
            return dataclasses.replace(w, processes=[*w.processes, *self.table.alive.values()], deaths=list(w.deaths),
                                       peaks=dict(w.peaks))


def schedule(start: float, period: float, stop: threading.Event) -> Iterator[int]:
    """Tick numbers at fixed deadlines on the monotonic clock until `stop`; a missed one is skipped, never shifted."""
    number = 0
    while not stop.wait(max(0.0, start + number * period - time.monotonic())):
        yield number
        number = max(number + 1, math.floor((time.monotonic() - start) / period))


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


def oom_kills() -> int | None:
    """Processes the kernel killed for lack of memory since boot; None where it does not say."""
    try:
        words = Path("/proc/vmstat").read_text().split()
    except OSError:
        return None
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else None


# ============================================================================================== the result log


@dataclass
class ProcessMemory:
    """One process of a role's trees while a task (in the ramp: a level) ran. MiB."""

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


@dataclass
class TaskResult:
    """One submitted task, one line of the JSONL. Times in seconds, memory in MiB; None is "not measured"."""

    test_id: str  # "<audio stem>_c<concurrency>_<running number>"
    phase: str  # leak | concurrency
    timestamp: str  # local ISO time when the result was known
    audio_file: str
    audio_size_mb: float | None  # 10^6 bytes
    audio_seconds: float | None
    concurrency: int  # tasks released together
    status: str  # success | failed | timeout
    schema: int = SCHEMA
    cycle: int | None = None  # leak phase: 0 is the warm-up round, not judged
    level_run: int | None = None  # ramp: 0 is the warm-up task, 1 a level's first run, 2… its confirmations
    task_id: str | None = None
    error_kind: str | None = None
    error: str | None = None
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
    level: dict[str, Any] | None = None  # ramp: what is true of the whole level run, see level_facts()
    settings: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, allow_nan=False)


class CannotRecord(Exception):
    """The results cannot be written any more; the message is one sentence for a person."""


class ResultLog:
    """The JSONL: every line on disk (flushed, fsynced) the moment its result exists. Methods raise CannotRecord."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: list[TaskResult] = []
        self._write(path, "x", [])

    def append(self, result: TaskResult) -> None:
        """Write a result as soon as it is known, its readings at rest still to come."""
        self.results.append(result)
        self._write(self.path, "a", [result])

    def rewrite(self) -> None:
        """Write the results again, now with the readings after. The file on disk is whole at every moment."""
        new = self.path.with_suffix(".tmp")
        try:
            self._write(new, "w", self.results)
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)

    def _write(self, path: Path, mode: str, results: Sequence[TaskResult]) -> None:
        try:
            with path.open(mode, encoding="utf-8") as file:
                file.write("".join(result.to_json() + "\n" for result in results))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CannotRecord(f"the test ends early: {path} cannot be written ({error.strerror}). What it holds is "
                               f"kept; make room (see: df -h {path.parent}) and run it again") from None


def role_memory(before: Reading, after: Reading, window: Window) -> dict[str, RoleMemory]:
    """The record's memory of every role that was watched at either reading or in between."""
    memory = {}
    for role in (r for r in ROLES if r in before.rss or r in after.rss or r in window.peaks):
        memory[role] = RoleMemory(
            rounded(before.rss.get(role)), rounded(after.rss.get(role)), rounded(before.private.get(role)),
            rounded(after.private.get(role)), rounded(window.peaks.get(role)),
            [ProcessMemory(w.process.pid, datetime.fromtimestamp(w.started).isoformat(timespec="milliseconds"), w.name,
                           rounded(w.peak), w.ended, w.resident, w.root, rounded(w.sample.private))
             for w in window.processes if w.role == role])
    return memory


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
FOLLOWS_SHARE = 0.8  # one clip with four fifths of the growth is the one to look at
HORSE_SHARE = 0.5  # a child much smaller than its worker (sh, ffmpeg) is a tool of the job, not its work-horse


@dataclass(frozen=True)
class GrowthVerdict:
    """What the growth rule says of one series of settled readings."""

    verdict: str  # "LEAK" | "NO LEAK" | "INCONCLUSIVE" | "NOT MEASURED"
    reason: str  # key of GROWTH_REASONS
    facts: dict[str, Any]  # the numbers its sentence needs
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
    """Work-horses of one clip over the leak phase: what each peaked at and still held when its job ended."""

    audio_file: str
    jobs: int
    peak_median_mb: float | None
    peak_max_mb: float | None
    held_median_mb: float | None
    held_max_mb: float | None
    growth: GrowthVerdict


@dataclass(frozen=True)
class RoleVerdict:
    """The leak verdict of one role."""

    role: str
    growth: GrowthVerdict
    first_use_growth_mb: float | None
    peak_mb: float | None
    readings: list[tuple[int, float]]  # (cycle, settled private MiB) that were judged
    breaks: list[tuple[int, str]]  # (cycle, "replaced" | "failed_task" | "missing_reading") that cut the series
    follows: str | None  # audio file the growth follows; "both"; null where there is no growth
    horses: list[HorseSeries]  # empty where jobs run in the worker itself


GROWTH_REASONS = {  # why a verdict is what it is; every figure stands in the verdict's facts
    "steady_growth": "grew by {slope:.1f} MB per cycle (at least {low:.1f}) over the last {window} of {cycles} cycles, "
    "{grown:.0f} MB in all, with no sign of an end; a cache larger than that looks the same: --min-cycles {longer} "
    "goes on",
    "fast_growth": "grew by {slope:.1f} MB per cycle (at least {low:.1f}), in every one of {window} cycles by "
    "{smallest_step:.1f} or more, {grown:.0f} MB in all, with no sign of an end; a cache larger than that, or a heap "
    "collected later, looks the same: --min-cycles {longer} goes on",
    "horses_leak": "each job on {audio_file} held {slope:.1f} MB more when it ended than the job before (at least "
    "{low:.1f}), though each had its own process: what it loads keeps growing",
    "no_growth": "no growth above {high:.1f} MB per cycle over the last {window} of {cycles} cycles: 1 GB of free "
    "memory lasts at least {cycles_per_gb} cycles; jumps rarer than one in {rarest:.1f} cycles cannot be excluded",
    "small_growth": "grows by {slope:.1f} MB per cycle, surely more than {low:.1f} and less than {high:.1f}: under the "
    "tolerance of {tolerance:g}; 1 GB of free memory lasts {cycles_per_gb} cycles",
    "fork_per_job": "each job had its own process, so memory cannot pile up between jobs; the worker around them "
    "did not grow by more than {high:.1f} MB per cycle over the last {window} of {cycles} cycles",
    "too_few": "{cycles} readings are too few: at least {more} more needed",
    "unconfirmed": "grew by {slope:.1f} MB per cycle (at least {low:.1f}) over the last {window} cycles: {needed} "
    "cycles or more tell a leak from a warm-up",
    "one_jump": "one step of {step:.1f} MB stands out in a growth of {net:.1f} MB: more cycles show whether it comes "
    "again",
    "slowing_down": "growth slows down, from {earlier:.1f} to {now:.1f} MB per cycle: it may be a warm-up or the "
    "allocator's arenas; run more cycles, or set MALLOC_ARENA_MAX=2 for the worker",
    "swings": "memory swings: a fall of {fall_back:.1f} MB within a growth of {net:.1f} MB; look for caches and "
    "garbage collection, or run more cycles",
    "rises_not_over": "at most {high:.1f} MB per cycle at the end, but memory last rose {since} cycles ago ({jumps} x, "
    "{size:.1f} MB on average): whether that is over shows after {enough} cycles in all",
    "too_noisy": "growth is between {low:.1f} and {high:.1f} MB per cycle: readings vary by {sd:.1f} MB, which needs "
    "about {enough} cycles in all",
    "replaced": "a watched process ended or was replaced in cycle {cycle}, and what it held is gone with it",
    "failed_task": "a task failed in cycle {cycle}: {cycles} readings in a row since then, {more} more needed",
    "missing_reading": "cycle {cycle} has no reading: {cycles} readings in a row since then, {more} more needed",
    "unsettled": "memory did not come to rest before {unsettled} of {cycles} readings: keep others away from the "
    "service, or raise --settle-timeout",
    "sampler_gap": "memory went unwatched for {gap_s:.1f} s: a process may have died and come back unseen",
    "horses_growing": "each job on {audio_file} held {slope:.1f} MB more when it ended than the job before, in "
    "{cycles} jobs: more cycles show whether that goes on",
    "not_measured": "the memory of this role was never read",
}


GROWTH_AFTERWARDS = {  # what later readings did to a verdict
    "kept": "; said after cycle {said_at}, and the {later} cycles since do not contradict it",
    "revoked": "; {revoked} was said after cycle {revoked_at}, and later readings contradict it",
}


def afterwards(growth: GrowthVerdict) -> list[str]:
    """Keys of GROWTH_AFTERWARDS that are true of a verdict."""
    return [key for key, fact in (("kept", "said_at"), ("revoked", "revoked")) if fact in growth.facts]


def reason_sentence(growth: GrowthVerdict) -> str:
    """The verdict's reason in English; MB are MiB."""
    sentence = GROWTH_REASONS[growth.reason] + "".join(GROWTH_AFTERWARDS[key] for key in afterwards(growth))
    rss = growth.facts.get("measure") == "rss"
    return sentence.format(**growth.facts) + (" (RSS, not private memory)" if rss else "")


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


def lives(series: Sequence[Sequence[tuple[str, float]]]) -> list[float]:
    """Growth within lives of recycled processes put end to end, MB, one reading per task, to be judged like any other.

    Each life is (clip, MB at rest after the task) in order. What a life gains at its first task and at its first task
    of each clip is first use; no step spans two lives.
    """
    grown = [0.0]
    for life in series:
        used: set[str] = set()
        for (_, before), (clip, after) in zip([("", math.nan), *life], life, strict=False):
            if clip in used:
                grown.append(grown[-1] + after - before)
            used.add(clip)
    return grown


@dataclass(frozen=True)
class LoadGrowth:
    """Runs of one ramp level, one after the other, each of which left more memory behind than the one before."""

    concurrency: int
    readings: list[float]  # MB at rest: before the first of them, and after each
    smallest_mb: float  # the least that a repeat added
    mb_per_task: float  # over the repeats


def growth_under_load(
    runs: Sequence[tuple[int, float, float]], tolerance_mb: float = TOLERANCE_MB
) -> LoadGrowth | None:
    """Growth that goes on when a level of the ramp is run again: the largest, or None where there is none.

    `runs`: (concurrency, MB at rest before, and after). A level's first run may set a high-water mark; a repeat that
    adds a tolerance per two tasks again, and another that does, are no mark. Two repeats are evidence, not a verdict.
    """
    found = []
    for concurrency, group in itertools.groupby(runs, key=lambda run: run[0]):
        same = list(group)
        added = [after - before for _, before, after in same[1:]]
        if len(added) > 1 and min(added) > tolerance_mb * concurrency / 2:
            readings = [same[0][1], *(after for _, _, after in same)]
            found.append(LoadGrowth(concurrency, readings, min(added), sum(added) / len(added) / concurrency))
    return max(found, key=lambda growth: growth.mb_per_task * growth.concurrency, default=None)


@dataclass(frozen=True)
class Rates:
    """One rate of growth, MB, in every unit that a reader may need."""

    per_cycle: float
    per_task: float
    per_hour: float | None  # of this load; null where the time of a cycle is not known
    cycles_per_gb: int | None  # null where memory does not grow
    hours_per_gb: float | None
    idle_share: float | None  # of the growth, at the rate seen while no task ran: 1 is a clock's, 0 the tasks'


def growth_rates(
    mb_per_cycle: float, tasks: int, seconds: float | None, idle: Sequence[tuple[float, float]] = ()
) -> Rates:
    """Rates from MB, tasks and seconds per cycle; `idle`: (seconds, MB gained) of stretches without any task."""
    per_hour = 3600 * mb_per_cycle / seconds if seconds else None
    rested, gained = sum(s for s, _ in idle), sum(mb for _, mb in idle)
    grows = mb_per_cycle > 0
    return Rates(mb_per_cycle, mb_per_cycle / tasks, per_hour, int(1024 / mb_per_cycle) if grows else None,
                 1024 / per_hour if grows and per_hour else None,
                 min(1.0, max(0.0, gained / rested * seconds / mb_per_cycle)) if grows and seconds and rested else None)


def judge_leak(
    results: Sequence[TaskResult],
    *,
    tolerance_mb: float = TOLERANCE_MB,
    min_cycles: int = MIN_CYCLES,
    sampler_gap_s: float | None = None,
) -> dict[str, RoleVerdict]:
    """Verdict of every watched role, and of the worker in any case, from the results of the leak phase.

    `sampler_gap_s`: the longest time between two samples, where more is known of it than the results tell. Like theirs
    it counts without the warm-up round, which is not judged.
    """
    judge = functools.partial(judge_growth, tolerance_mb=tolerance_mb, min_cycles=min_cycles)
    leak_phase = [result for result in results if result.phase == "leak"]
    watched = {"worker"}.union(*(result.memory for result in leak_phase))
    gap_s = max([sampler_gap_s or 0.0, *(result.sample_gap_s or 0.0 for result in leak_phase if result.cycle)])
    return {role: judge_role(role, leak_phase, judge, gap_s) for role in ROLES if role in watched}


def judge_role(
    role: str, results: Sequence[TaskResult], judge: Callable[[Sequence[float]], GrowthVerdict], gap_s: float
) -> RoleVerdict:
    """Judge each unbroken series of the role's readings, and its work-horses; a LEAK in any of them is a LEAK."""
    memories = [result.memory[role] for result in results if role in result.memory]
    peak = max((memory.peak_mb for memory in memories if memory.peak_mb is not None), default=None)
    private = any(memory.private_after_mb is not None for memory in memories)  # never private and RSS in one series
    around = [(result, *before_and_after(result.memory.get(role), private)) for result in results]
    if all(after is None for _, _, after in around):
        unknown = GrowthVerdict("NOT MEASURED", "not_measured", {}, None, None, 0)
        return RoleVerdict(role, unknown, None, peak, [], [], None, [])

    series, breaks = cut_into_series(role, results, [after for _, _, after in around])
    judged = [(judge([mb for _, mb in readings]), readings) for readings in series]
    growth, readings = next((each for each in judged if each[0].verdict == "LEAK"), judged[-1])
    horses = horse_series(results, judge) if role == "worker" else []
    clips = {result.audio_file for result in results if result.cycle}
    restless = {result.cycle for result in results if result.settled is False}
    unsettled = sum(cycle in restless for cycle, _ in readings)
    growth = withhold(consider_horses(growth, horses, clips), breaks, gap_s, unsettled)
    growth = dataclasses.replace(growth, facts=growth.facts | {"measure": "private" if private else "rss"})

    start = around[0][1]
    settled = [after for result, _, after in around if result.cycle == results[0].cycle][-1]
    first_use = settled - start if start is not None and settled is not None else None
    if growth.reason in ("horses_leak", "horses_growing"):
        shares = [(horse.audio_file, horse.growth.mb_per_cycle or 0.0) for horse in horses]
    else:
        grown_in = {cycle for cycle, _ in readings[1:]}
        shares = [(result.audio_file, after - before) for result, before, after in around
                  if result.cycle in grown_in and before is not None and after is not None]
    grew = growth.verdict == "LEAK" or (growth.verdict == "INCONCLUSIVE" and growth.facts.get("low", 0) > 0)
    follows = followed_clip(shares) if grew else None
    return RoleVerdict(role, growth, first_use, peak, sum(series, []), breaks, follows, horses)


def before_and_after(memory: RoleMemory | None, private: bool) -> tuple[float | None, float | None]:
    """Readings before and after a task, MB."""
    if memory is None:
        return None, None
    return (memory.private_before_mb, memory.private_after_mb) if private else (memory.before_mb, memory.after_mb)


def cut_into_series(
    role: str, results: Sequence[TaskResult], after: Sequence[float | None]
) -> tuple[list[list[tuple[int, float]]], list[tuple[int, str]]]:
    """(cycle, reading after its last task) in unbroken series, and (cycle, kind) of what broke them."""
    cycles: dict[int, list[tuple[TaskResult, float | None]]] = {}
    for result, reading in zip(results, after, strict=True):
        cycles.setdefault(result.cycle or 0, []).append((result, reading))
    complete = max((len(tasks) for cycle, tasks in cycles.items() if cycle > 0), default=0)
    replaced = cycles_of_replacement(role, results)
    series: list[list[tuple[int, float]]] = [[]]
    breaks: list[tuple[int, str]] = []
    for cycle in range(max(cycles) + 1):
        tasks = cycles.get(cycle, [])
        reading = tasks[-1][1] if len(tasks) == complete else None
        if cycle in replaced:
            breaks.append((cycle, "replaced"))
        elif cycle == 0:
            continue
        elif any(result.status != "success" for result, _ in tasks):
            breaks.append((cycle, "failed_task"))
        elif reading is None:
            breaks.append((cycle, "missing_reading"))
        else:
            series[-1].append((cycle, reading))
            continue
        series.append([])
    return series, breaks


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
    replaced = [cycle for cycle, kind in breaks if kind == "replaced"]
    if growth.verdict == "LEAK":
        return growth
    facts: dict[str, Any]
    if replaced:
        reason, facts = "replaced", {"cycle": replaced[-1]}
    elif breaks and growth.reason == "too_few":
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
        facts = horse.growth.facts | {"audio_file": horse.audio_file}
        if horse.growth.verdict == "LEAK" and growth.verdict != "LEAK":
            return dataclasses.replace(horse.growth, reason="horses_leak", facts=facts)
        if horse.growth.reason == "unconfirmed" and growth.verdict == "NO LEAK":
            return dataclasses.replace(horse.growth, reason="horses_growing", facts=facts)
    if growth.verdict == "NO LEAK" and {horse.audio_file for horse in horses} == clips:
        return dataclasses.replace(growth, reason="fork_per_job")
    return growth


def horse_series(
    results: Sequence[TaskResult], judge: Callable[[Sequence[float]], GrowthVerdict]
) -> list[HorseSeries]:
    """Work-horses of each clip in order of their jobs, the heaviest of each task, judged by what they last held."""
    horses: dict[str, list[ProcessMemory]] = {}
    for result in results:
        horse = work_horse(result)
        if result.cycle and result.status == "success" and horse:
            horses.setdefault(result.audio_file, []).append(horse)
    series = []
    for audio_file, jobs in horses.items():
        peaks = [horse.peak_mb for horse in jobs if horse.peak_mb is not None]
        held = [horse.held_mb for horse in jobs if horse.held_mb is not None]
        figures = (median(peaks), max(peaks, default=None), median(held), max(held, default=None))
        series.append(HorseSeries(audio_file, len(jobs), *figures, judge(held)))
    return series


def work_horse(result: TaskResult) -> ProcessMemory | None:
    """The process born for this task and gone after it, the heaviest one, where the worker forks for each job."""
    processes = result.memory["worker"].processes if "worker" in result.memory else []
    worker_peak = max((process.peak_mb or 0.0 for process in processes if process.resident), default=0.0)
    born = [process for process in processes if process.ended and not process.resident and not process.root]
    heaviest = max(born, key=lambda process: process.peak_mb or 0.0, default=None)
    return heaviest if heaviest and (heaviest.peak_mb or 0.0) >= HORSE_SHARE * worker_peak else None


def followed_clip(shares: Sequence[tuple[str, float]]) -> str | None:
    """The clip with most of the growth, MB by clip; "both" where no clip has; null where there is none."""
    by_clip: dict[str, float] = {}
    for clip, mb in shares:
        by_clip[clip] = by_clip.get(clip, 0.0) + mb
    total = sum(mb for mb in by_clip.values() if mb > 0)
    if total <= 0:
        return None
    clip = max(by_clip, key=lambda clip: by_clip[clip])
    return clip if by_clip[clip] >= FOLLOWS_SHARE * total else "both"


# =============================================================================================== the leak phase

GIVE_UP_CYCLES = 3  # so many cycles in a row without a success: the service is broken, more of them tell nothing new
MORE_WARM_UPS = 2  # rounds added at most where a worker still looks as if it had had no task
MOST_WARM_UP = 16  # tasks at once in the warm-up round, however many workers the service says it has


@dataclass
class Run:
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
        died = [d for d in self.sampler.deaths() if d.role == "worker"]
        still = min(time.monotonic() - last_progress, self.sampler.idle_seconds())
        if died and not self.sampler.serving() and time.monotonic() - died[-1].at > RESTART_WAIT_S:
            return TaskError("worker_died", died[-1].words + "; no worker is left")
        if still < self.settings.stall_timeout:
            return None
        if died:
            return TaskError("worker_died", f"{died[-1].words}; no progress for {still:.0f} s since")
        return TaskError("stalled", f"no progress for {still:.0f} s while every worker was idle (where one waits so "
                                    "long for another machine, raise --stall-timeout)")

    def batch(self, clip: Clip, size: int, before: Reading, *, phase: str, cycle: int | None = None,
              level_run: int | None = None) -> tuple[list[TaskResult], Reading]:
        """Run `size` tasks released together; their results, all on disk, and the reading at rest after them."""
        if clip.path not in self.uploads:
            self.uploads[clip.path] = self.client.prepare(clip)
        tasks = Batch(self.client, self.uploads[clip.path], size, self.settings.task_timeout, self.given_up,
                      self.aborted)
        if self.sampler:
            self.sampler.open_window()
        meter = ClientMeter()
        tasks.start()
        results: list[TaskResult] = []
        outcomes: list[Outcome] = []
        for outcome in self._collect(tasks, meter):
            outcomes.append(outcome)
            results.append(self._result(outcome, clip, size, before, phase, cycle, level_run))
            self.log.append(results[-1])
            self.screen.status(done=f"{len(results)} of {size} done")
            if outcome.error_kind:
                self.screen.event(f"{results[-1].test_id} {outcome.status}: {outcome.error_kind}: {outcome.error}")
        facts = meter.level_facts(outcomes)
        self._drain(outcomes)
        after = self.at_rest()
        window = self.sampler.close_window() if self.sampler else None
        self._complete(results, before, after, window, facts if phase == "concurrency" else None)
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
                status, kind, words = "timeout", "task_timeout", "the exchange with the API never ended"
                if self.aborted.is_set():
                    status, kind, words = "failed", "interrupted", "the test was interrupted before this task ended"
                yield from (Outcome(number, status, kind, words) for number in sorted(missing))
                return
            outcome = meter.wait_for(tasks.outcomes)
            if outcome:
                missing.discard(outcome.number)
                yield outcome
            elif self.sampler:
                for death in self.sampler.deaths()[announced:]:
                    self.screen.event(f"WARNING {death.words} while {len(missing)} tasks were unfinished")
                    announced += 1

    def _result(self, outcome: Outcome, clip: Clip, size: int, before: Reading, phase: str, cycle: int | None,
                level_run: int | None) -> TaskResult:
        """The line of one outcome, as far as it is known before memory has come to rest."""
        finished = outcome.processing_time
        return TaskResult(
            test_id=f"{clip.path.stem}_c{size}_{len(self.log.results) + 1:04d}", phase=phase,
            timestamp=datetime.now().isoformat(timespec="milliseconds"), audio_file=clip.path.name,
            audio_size_mb=round(clip.size_bytes / 1e6, 3), audio_seconds=round(clip.seconds, 3), concurrency=size,
            status=outcome.status, cycle=cycle, level_run=level_run, task_id=outcome.task_id,
            error_kind=outcome.error_kind, error=outcome.error, processing_time=rounded(finished),
            queue_time=rounded(outcome.queue_time), time_error=rounded(outcome.time_error),
            submit_offset=rounded(outcome.submit_offset, 4), empty_text=outcome.empty_text,
            rtf=rounded(finished / clip.seconds, 4) if finished is not None and outcome.status == "success" else None,
            worker_rss_before_mb=rounded(before.rss.get("worker")),
            memory={role: RoleMemory(rounded(mb), None, rounded(before.private.get(role)), None, None)
                    for role, mb in before.rss.items()},
            settings=self.settings.for_record(), host=self.host)

    def _complete(self, results: Sequence[TaskResult], before: Reading, after: Reading, window: Window | None,
                  facts: dict[str, Any] | None) -> None:
        """Add what is known only at rest: memory after, peaks, processes, and in the ramp the facts of the level."""
        if not window:
            for result in results:
                result.level = facts
            if facts:
                self.log.rewrite()
            return
        memory = role_memory(before, after, window)
        worker = memory.get("worker")
        if facts is not None:
            kills, kills_before = oom_kills(), window.oom_kills
            facts |= {"deaths": [d.words for d in window.deaths],
                      "host_available_min_mb": rounded(window.available_min),
                      "oom_kills": None if kills is None or kills_before is None else kills - kills_before}
        for result in results:
            result.memory, result.level = memory, facts
            result.settled, result.sample_gap_s = after.settled, rounded(window.longest_gap)
            if worker:
                result.worker_rss_before_mb, result.worker_rss_after_mb = worker.before_mb, worker.after_mb
                result.worker_rss_peak_mb = worker.peak_mb
                if worker.before_mb is not None and worker.after_mb is not None:
                    result.worker_rss_delta_mb = rounded(worker.after_mb - worker.before_mb)
        self.log.rewrite()

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


def has_ended(client: ApiClient, session: requests.Session, task_id: str) -> bool:
    try:
        seen = client.poll(session, client.question(task_id))
    except PollFailed:
        return False
    return seen is None or seen.state in ("done", "failed")


def leak_phase(run: Run) -> None:
    """Cycles of one short and one long task until the growth rule has decided for every role, or they are used up."""
    s = run.settings
    run.screen.phase("leak", f"at least {s.min_cycles}, at most {s.max_cycles} cycles of {run.short.path.name} and "
                             f"{run.long.path.name}")
    workers = count_workers(run)
    before = warm_up(run, run.at_rest(), workers)
    without_success = 0
    for cycle in range(1, s.max_cycles + 1):
        began = time.monotonic()
        results: list[TaskResult] = []
        # Workers take turns: in one order only, each of two would always get the same clip, and which of the clips
        # memory follows could not be told from which of the workers it is in.
        for clip in (run.short, run.long) if workers == 1 or cycle % 2 else (run.long, run.short):
            if run.aborted.is_set():
                return
            run.screen.status(where=f"leak phase, cycle {cycle} of at most {s.max_cycles}", doing=clip.path.name)
            one, before = run.batch(clip, 1, before, phase="leak", cycle=cycle)
            results += one
        verdicts = judge_leak(run.log.results, tolerance_mb=s.tolerance_mb, min_cycles=s.min_cycles)
        decided = all(v.growth.verdict in ("LEAK", "NO LEAK") for v in verdicts.values())
        run.screen.cycle(cycle, results, verdicts)
        run.screen.expect((time.monotonic() - began) * (max(s.min_cycles, cycle + 1) - cycle))
        without_success = 0 if any(r.status == "success" for r in results) else without_success + 1
        if without_success == GIVE_UP_CYCLES:
            run.screen.event(f"leak phase ends: no task succeeded in {GIVE_UP_CYCLES} cycles")
            return
        if decided and (verdicts or cycle >= s.min_cycles):
            return


def count_workers(run: Run) -> int:
    """How many tasks the service works on at once, as far as it says so or can be seen."""
    with run.client.session() as session:
        return max(run.client.workers(session) or 1, run.sampler.serving() if run.sampler else 1)


def warm_up(run: Run, before: Reading, workers: int) -> Reading:
    """Cycle 0: each clip as many times at once as there are workers, so that every worker has loaded its model.

    Which worker takes a task is the service's choice: the short clip goes out again while one seems to have had none.
    """
    size = min(workers, MOST_WARM_UP)
    for clip in (run.short, run.long, *[run.short] * MORE_WARM_UPS):
        done = any(r.audio_file == run.long.path.name for r in run.log.results)
        if run.aborted.is_set() or (done and not (run.sampler and unloaded(run.sampler.watched()))):
            break
        run.screen.status(where="leak phase, warm-up", doing=f"{size} x {clip.path.name}")
        _, before = run.batch(clip, size, before, phase="leak", cycle=0)
    return before


def unloaded(processes: Iterable[Watched]) -> bool:
    """Whether a worker holds less than half of what the fullest does: it has not loaded its model yet."""
    held = [w.sample.private or w.sample.rss for w in processes if w.role == "worker" and w.serves]
    return bool(held) and min(held) < max(held) / 2


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

    def level_facts(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        """The instrument's own figures over one level; `client_limited` says whether they spoil it."""
        offsets = [o.submit_offset for o in outcomes if o.submit_offset is not None]
        times = [o.processing_time for o in outcomes if o.processing_time is not None]
        spread = max(offsets) - min(offsets) if offsets else None
        cpu = 100 * (time.process_time() - self.cpu) / max(0.001, time.monotonic() - self.began)
        limited = (spread is not None and bool(times)
                   and spread > max(SPREAD_FLOOR_S, CLIENT_SPREAD * statistics.median(times)))
        limited = limited or (cpu > CLIENT_CPU and time.monotonic() - self.began > 1)
        limited = limited or (self.late > 1 and self.late > TICKER_LATE_SHARE * self.ticks)
        return {"submit_spread_s": rounded(spread, 4), "client_cpu_percent": round(cpu, 1),
                "ticker_late_ms": round(1000 * self.latest_s, 1), "client_limited": limited,
                "deaths": [], "oom_kills": None, "host_available_min_mb": None, "stop_reason": None}


@dataclass(frozen=True)
class Breach:
    """What broke first: which task, what, observed and limit (seconds, RTF or words)."""

    concurrency: int
    test_id: str | None
    what: str  # an error_kind, worker_died, rtf_limit or incomplete
    observed: float | str | None
    limit: float | str | None


@dataclass(frozen=True)
class LevelRun:
    """One run of one level, judged from its lines."""

    concurrency: int
    run: int
    submitted: int
    succeeded: int
    complete: bool  # as many lines as tasks
    stable: bool  # complete, all succeeded, no root process died or was replaced
    client_limited: bool
    interrupted: bool  # before anything failed: it tells nothing of the service, like a client-limited one
    rtf_max: float | None
    breach: Breach | None


def judge_level_run(results: Sequence[TaskResult], rtf_limit: float) -> LevelRun:
    """Judge the lines of one level run (one concurrency, one level_run). `rtf_limit` 0: none."""
    size, number = results[0].concurrency, results[0].level_run or 0
    succeeded = [r for r in results if r.status == "success"]
    failed = [r for r in results if r.status != "success" and r.error_kind != "interrupted"]
    interrupted = len(succeeded) + len(failed) < len(results)
    deaths = [words for r in results for words in (r.level or {}).get("deaths", [])]
    kills = max((r.level or {}).get("oom_kills") or 0 for r in results)
    rtfs = [r.rtf for r in succeeded if r.rtf is not None]
    complete = len(results) == size
    stable = complete and len(succeeded) == size and not deaths
    breach = find_breach(size, failed, deaths, kills, succeeded, len(results), rtf_limit)
    return LevelRun(size, number, len(results), len(succeeded), complete, stable,
                    any((r.level or {}).get("client_limited") for r in results), interrupted and not failed,
                    max(rtfs, default=None), breach)


def find_breach(size: int, failed: Sequence[TaskResult], deaths: Sequence[str], oom_kills: int,
                succeeded: Sequence[TaskResult], lines: int, rtf_limit: float) -> Breach | None:
    """The first of: a dead process, a failed task, a missing line, an RTF at its limit."""
    victim = next((r for r in failed if r.error_kind == "worker_died"), failed[0] if failed else None)
    killer = f" (the kernel ended {oom_kills} for lack of memory meanwhile)" if oom_kills else ""
    horse = victim is not None and victim.error_kind == "worker_died"
    if deaths or horse:
        words = deaths[0] if deaths else victim.error if victim else None
        what = "worker_died" if horse or any(w.startswith("worker ") for w in deaths) else "process_died"
        return Breach(size, victim.test_id if victim else None, what, f"{words}{killer}", None)
    if victim:
        return Breach(size, victim.test_id, victim.error_kind or victim.status, f"{victim.error or ''}{killer}", None)
    if lines != size:
        return Breach(size, None, "incomplete", f"{lines} lines", f"{size} lines")
    slowest = max(succeeded, key=lambda r: r.rtf or 0.0, default=None)
    if slowest and rtf_limit and (slowest.rtf or 0.0) >= rtf_limit:
        return Breach(size, slowest.test_id, "rtf_limit", slowest.rtf, rtf_limit)
    return None


def ramp(run: Run) -> None:
    """Raise the number of tasks at once until something breaks or a limit is reached, then confirm the answer."""
    s = run.settings
    run.screen.phase("concurrency", f"{run.short.path.name}, from {s.start} at once, at most {s.max_concurrency}")
    climb = Climb(run, run.at_rest())
    climb.warm_up()
    climb.workers = run.sampler.serving() if run.sampler else 0
    good: list[int] = []
    reason = None
    for size in levels(s):
        reason = climb.level(size, BASE_RUNS if size == 1 else 1, s.rtf_limit)
        if reason in (None, "rtf_limit"):
            good.append(size)
        if reason:
            break
    climb.stop(reason or "max_concurrency")
    confirm(climb, good, size if reason in FAILURES else None)


def confirm(climb: Climb, good: list[int], failing: int | None) -> None:
    """Run the failing level once more and the last good one until it has its runs; a failure lowers it by one step."""
    if failing:
        if not climb.recovered():
            return
        if climb.level(failing, climb.runs[failing] + 1, 0) is None:
            climb.run.screen.event(f"{failing} at once is flaky: failed, then passed; it counts as failed")
    while good and climb.recovered():
        reason = climb.level(good[-1], CONFIRM_RUNS, 0)
        if reason not in FAILURES:
            return
        good.pop()
        if not failing:  # this, and not what ended the ramp, is why the answer is no higher
            climb.stop(reason)
            failing = climb.last[0].concurrency


def levels(s: Settings) -> list[int]:
    """The levels from the first by steps; the highest asked for is the last whatever the step."""
    return [*range(s.start, s.max_concurrency, s.step), s.max_concurrency]


@dataclass
class Climb:
    """The ramp so far: what the next level run needs to know of the last one."""

    run: Run
    before: Reading
    workers: int = 0  # that took tasks when it began
    last: list[TaskResult] = field(default_factory=list)  # lines of the last level run
    stable: bool = True  # the last level run was
    runs: dict[int, int] = field(default_factory=dict)  # of each level, those not spoilt by this tool's own limit
    numbers: dict[int, int] = field(default_factory=dict)  # level_run of each level's last run

    def warm_up(self) -> None:
        """One task that is not judged, and more, one by one, while a worker has not loaded its model yet."""
        run = self.run
        for _ in range(run.sampler.serving() or 1 if run.sampler else 1):
            run.screen.status(where="concurrency ramp, warm-up")
            self.last, self.before = run.batch(run.short, 1, self.before, phase="concurrency", level_run=0)
            self.stable = judge_level_run(self.last, 0).stable
            if not self.stable or run.aborted.is_set() or not (run.sampler and unloaded(run.sampler.watched())):
                return

    def level(self, size: int, wanted: int, rtf_limit: float) -> str | None:
        """Run a level until it has so many runs. Why the ramp must end with it, None where it need not."""
        spoilt = 0
        while self.runs.get(size, 0) < wanted:
            if reason := self.blocked(size):
                return reason
            judged = self._run_once(size, rtf_limit)
            if self.run.aborted.is_set():
                return "interrupted"
            if judged.client_limited:
                spoilt += 1
                if spoilt == CLIENT_TRIES or not self.run.drained:
                    return "client_limited"
                continue
            self.runs[size] = self.runs.get(size, 0) + 1
            if judged.breach:
                return STOP_REASONS.get(judged.breach.what, "failure")
        return None

    def _run_once(self, size: int, rtf_limit: float) -> LevelRun:
        run, began = self.run, time.monotonic()
        self.numbers[size] = number = self.numbers.get(size, 0) + 1
        run.screen.status(where=f"concurrency ramp, {size} at once of at most {run.settings.max_concurrency}, "
                                f"run {number}")
        self.last, self.before = run.batch(run.short, size, self.before, phase="concurrency", level_run=number)
        judged = judge_level_run(self.last, rtf_limit)
        self.stable = judged.stable
        run.screen.level(self.last, judged)
        run.screen.expect(ramp_seconds_left(time.monotonic() - began, size, judged.rtf_max, run.settings))
        return judged

    def blocked(self, size: int) -> str | None:
        """Why a level must not start: the user interrupts, this tool cannot do it, or memory would run short."""
        run = self.run
        if run.aborted.is_set():
            return "interrupted"
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files != resource.RLIM_INFINITY and size + OWN_FILES > files:
            run.screen.event(f"ramp ends: {size} connections need more open files than this shell allows ({files}); "
                             f"raise it with: ulimit -n {2 * (size + OWN_FILES)}")
            return "client_limited"
        available = (self.last[0].level or {}).get("host_available_min_mb")
        if available is None:
            return None
        host = psutil.virtual_memory()
        # Free memory at rest less what the last level took at its peak, scaled to this one's tasks.
        taken = max(0.0, host.available / MIB - available)
        predicted = host.available / MIB - taken * size / self.last[0].concurrency
        reserve = run.settings.memory_reserve / 100 * host.total / MIB
        if predicted >= reserve:
            return None
        run.screen.event(f"{size} tasks at once would leave about {max(0, predicted):.0f} MB of RAM free, less than "
                         f"the reserve of {reserve:.0f} MB (--memory-reserve)")
        return "memory_reserve"

    def stop(self, reason: str) -> None:
        """Write into the lines of the last level run why the ramp ended after it."""
        for result in self.last:
            result.level = (result.level or {}) | {"stop_reason": reason}
        self.run.log.rewrite()
        self.run.screen.event(f"ramp ends: {reason}")

    def recovered(self) -> bool:
        """Whether the service is as before the last level run; else lower levels would be blamed for its failure.

        After a failure: nothing left over, all workers back, the health page well, and a single task succeeds.
        """
        run, deadline = self.run, time.monotonic() + RECOVERY_S
        if self.stable:
            return not run.aborted.is_set()
        while not (well := self._well()) and run.drained and time.monotonic() < deadline and not run.aborted.is_set():
            run.screen.status(doing="waiting for the service to recover")
            run.aborted.wait(TICK_S)
        if run.aborted.is_set():
            return False
        if well:
            self.warm_up()
        if not self.stable:
            run.screen.event("WARNING the answer is not confirmed: the service did not recover from its failure "
                             "(unfinished tasks, missing workers, or a single task fails)")
        return self.stable

    def _well(self) -> bool:
        run = self.run
        if not run.drained or (run.sampler and run.sampler.serving() < self.workers):
            return False
        try:
            with run.client.session() as session:
                return str(run.client.health(session).get("status")) not in run.client.api.unhealthy
        except (requests.RequestException, ValueError):
            return False  # that is what we are waiting to end


# ================================================================================================ the terminal


class Screen:
    """What a person sees: a live line on a terminal; elsewhere one plain line with its time per event."""

    def __init__(self, quiet: bool, sampler: Sampler | None) -> None:
        self.console = Console(stderr=False, highlight=False)
        self.quiet, self.sampler = quiet, sampler
        self.began = time.monotonic()
        self.where = self.doing = self.done = ""
        self.end: float | None = None  # expected, on the monotonic clock
        self.live = Live(get_renderable=self._live_line, console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Screen:
        if self.console.is_terminal and not self.quiet:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def event(self, text: str) -> None:
        """Something that stays on the screen or in the log of a job."""
        if self.quiet:
            return
        line = f"{datetime.now():%H:%M:%S} {text}"
        if self.console.is_terminal:
            say(Text(line, style="yellow" if text.startswith("WARNING") else ""), self.console.print)
        else:
            say(line)

    def status(self, *, where: str | None = None, doing: str | None = None, done: str = "") -> None:
        """What is going on now, for the live line."""
        self.where, self.doing, self.done = where or self.where, doing or ("" if where else self.doing), done

    def expect(self, seconds: float) -> None:
        """How long the present phase is expected to take from now."""
        self.end = time.monotonic() + seconds

    def phase(self, name: str, plan: str) -> None:
        self.end = None
        self.event(f"{name} phase: {plan}")

    def _live_line(self) -> Text:
        left = "" if self.end is None else f", about {clock(max(0.0, self.end - time.monotonic()))} left"
        reading = self.sampler.latest() if self.sampler else None
        memory = "  ".join(f"{role} {mb:,.0f} MB" for role, mb in (reading.rss if reading else {}).items())
        parts = [self.where, self.doing, self.done, f"{clock(time.monotonic() - self.began)} elapsed{left}", memory]
        return Text(" · ".join(part for part in parts if part), style="cyan", overflow="ellipsis", no_wrap=True)

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
        breach = f"; {judged.breach.what}: {shortened(str(judged.breach.observed), 100)}" if judged.breach else ""
        self.event(f"{judged.concurrency} at once, run {judged.run}: {judged.succeeded} of {judged.concurrency} done"
                   f"{took}{limited}{breach}")


def clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def ramp_seconds_left(took: float, size: int, rtf: float | None, s: Settings) -> float:
    """Expected rest of the ramp, if the service takes tasks one by one: a level's time and RTF grow with its size."""
    end = min(s.max_concurrency, math.ceil(s.rtf_limit * size / rtf)) if rtf and s.rtf_limit else s.max_concurrency
    levels = range(size + s.step, end + 1, s.step)
    return took * (sum(levels) / size + (CONFIRM_RUNS - 1) * end / size)


# ======================================================================================================== main


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
        print("This is a fault of this tool and says nothing of the service: please report the lines above. What was "
              f"recorded is kept in {settings.results_dir}; analyze_stress_test.py judges it.", file=sys.stderr)
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
            run = Run(s, client, clips[0], clips[1], sampler, ResultLog(jsonl), screen, aborted, host_facts())
            try:
                run_phases(run)
            except CannotRecord as error:
                cut_short = True
                screen.event(f"WARNING {error}")
        else:
            screen.phase("monitor", "recording until Ctrl-C")
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


def run_phases(run: Run) -> None:
    """The phases asked for. Raises CannotRecord."""
    if run.settings.phase in ("all", "leak"):
        leak_phase(run)
    if run.settings.phase in ("all", "concurrency") and not run.aborted.is_set():
        ramp(run)


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
        screen.event(f"watching {w.role} {w.process.pid} ({program}): RSS {w.sample.rss:.0f} MB")
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


def say(line: str | Text, print_line: Callable[[Any], None] = print) -> None:
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
                                      memory=role_memory(before, after, sampler.close_window())))
            before = after
        verdicts = judge_leak(results)
    leak, calm = verdicts["worker"].growth, verdicts["api"].growth
    for name, verdict in (("leaking process", leak), ("healthy process", calm)):
        print(f"{name}: {verdict.verdict}: {reason_sentence(verdict)}")
    rate = leak.mb_per_cycle or 0.0
    if leak.verdict == "LEAK" and calm.verdict == "NO LEAK" and abs(rate - PLANTED_MB) < PLANTED_MB / 10:
        print("self-check passed: a verdict of this machine can be trusted")
        return EXIT_PASS
    print(f"self-check FAILED: a planted leak of {PLANTED_MB} MB per cycle was measured as {rate:.1f}; "
          "do not trust a verdict of this machine")
    return EXIT_FAIL


if __name__ == "__main__":
    sys.exit(main())
