#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["requests>=2.31", "urllib3>=2.2", "psutil>=6.0", "rich>=13.7", "tinytag>=2.0"]
# ///
"""Stress test of a speech-recognition service: is its memory leak gone, how many concurrent requests does it handle?

Run it on the machine that runs the service. It has two phases:

  leak         one short and one long task per cycle, memory of every watched process at rest before and after each
               task, until the growth rule has decided (LEAK or NO LEAK) or the cycles are used up
  concurrency  1, 2, 3 … tasks released together, until a task fails, a worker dies or a limit is reached

Files, in --results-dir:

  memory_leak_stress_test_<time>.jsonl   one line per submitted task, on disk before the next one starts
  system_resources_<time>.csv            RSS and CPU of every watched process, one row each per second
  host_<time>.jsonl                      with --phase monitor: roles, processes, private memory, every ten seconds

Exit status: 0 every criterion passed · 1 a criterion failed · 2 wrong command line · 3 inconclusive ·
4 the test could not start · 130 interrupted (everything written so far is kept).
"""

from __future__ import annotations

import _thread
import argparse
import bisect
import contextlib
import csv
import ctypes
import dataclasses
import email.utils
import errno
import functools
import http.client
import io
import itertools
import json
import math
import mmap
import os
import platform
import queue
import re
import resource
import secrets
import shlex
import shutil
import signal
import socket
import ssl
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
from types import MappingProxyType
from typing import Any, TextIO
from urllib.parse import quote, urlsplit

import psutil
import requests
import urllib3

if typing.TYPE_CHECKING:
    from rich.live import Live

__all__ = [  # what the reader, the bench and the tests take from here
    # the record
    "TaskResult", "RoleMemory", "ProcessMemory", "Holdings", "Kinds", "GpuMemory", "MachineMemory",
    "OtherProcesses", "Container", "Busy", "Death", "LevelFacts", "LoadHost", "Settings", "SCHEMA", "CSV_COLUMNS",
    "GPU_CSV_COLUMNS", "DIAGNOSTIC_TOOLS", "ROLES", "VERSION", "DOUBLE", "NOT_THE_SERVICES", "TOOL_FAULT", "MOST_TASKS",
    "host_facts", "HostStretch",
    # the rules
    "GAP_S", "SETTLE_S", "SETTLE_MB", "TOLERANCE_MB", "GIVE_UP_CYCLES", "CONFIRM_RUNS", "WINDOW", "WORK_FACTOR",
    "IDENTICAL", "REPEAT", "poll_wait", "working_role", "GrowthVerdict", "RoleVerdict", "HorseSeries", "judge_leak",
    "judge_growth", "readings_of", "without_work", "Breach", "LevelRun", "judge_level_run", "was_recycled",
    "crashes_and_recycled",
    # terminal and files
    "usable_streams", "replace",
    # exit statuses
    "EXIT_PASS", "EXIT_FAIL", "EXIT_USAGE", "EXIT_INCONCLUSIVE", "EXIT_INTERRUPTED",
]

VERSION = "2.0.0"
SCHEMA = 2  # 1: lines were rewritten when memory was at rest, and every line of a batch carried its memory

EXIT_PASS = 0
EXIT_FAIL = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_NO_START = 4
EXIT_INTERRUPTED = 130

ROLES = ("worker", "api", "backend", "redis")
DOUBLE = "x2"  # --step: levels are doubled until one is bad, then the gap is halved
MIB = 1024 * 1024

# =================================================================================================== the record


@dataclass(frozen=True)
class Kinds:
    """What a process's memory consisted of at one moment, by its mappings. MiB, but for the number of arenas.

    A mapping counts with what it adds to private memory: its anonymous and its swapped-out pages, of shared memory all
    pages. So heap, arenas, large, stacks, shared and copied add up to private memory.
    """

    heap_mb: float  # the main heap, which grows by brk
    arenas_mb: float  # glibc's others: regions of 64 MiB, used from below
    arenas: int
    large_mb: float  # other anonymous mappings: blocks of 128 KiB and more, Python's own arenas, other allocators
    stacks_mb: float
    shared_mb: float  # shared memory: /dev/shm, memfd, System V
    copied_mb: float  # pages of mapped files that the process has written to
    lazy_mb: float  # of all these, what the kernel takes back when it needs memory (MADV_FREE)
    mapped_mb: float  # other pages of mapped files, which the kernel can take back: in RSS, not in private memory
    mapped_files: dict[str, float]  # the largest of them, by path
    allocator: str  # glibc | jemalloc | mimalloc | tcmalloc | other
    runtime: str  # python | go | native
    tuned: dict[str, str]  # variables of its environment that tune an allocator


@dataclass(frozen=True)
class Holdings:
    """What a process held at rest after a cycle beside its memory, and of what kind that was; None: not known."""

    threads: int | None
    files: int | None  # open file descriptors, with sockets; None also of another user's process
    sockets: int | None
    files_limit: int | None  # so many it may have open
    kinds: Kinds | None  # at the first cycle and the last, and between them as often as it costs little


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
    holdings: Holdings | None = None  # in the last line of a cycle, of processes that lived on
    used_cpu_s: float | None = None  # CPU seconds while the batch ran; None where it was not there all the time


@dataclass(frozen=True)
class GpuMemory:
    """What a role holds on GPUs. MiB; None where the driver does not tell."""

    before_mb: float | None
    after_mb: float | None
    peak_mb: float | None
    whole_gpu: bool  # all that its GPU holds: whose it is the driver does not say, and nobody else is seen there
    busy_percent: float | None  # of its GPUs, until the last task had ended; None also where they are not its alone
    rest_busy_percent: float | None  # from then on until the reading after


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
    gpu: GpuMemory | None = None  # None: no GPU is watched, or it holds nothing there


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
    oom_kill: bool | None = None  # the kernel killed for lack of memory in the same batch, and perhaps in its group


@dataclass(frozen=True)
class OtherProcesses:
    """All processes of one name that are not watched, at rest. MiB."""

    name: str
    program: str  # that the largest of them runs
    count: int
    pid: int  # of the largest
    private_mb: float  # anonymous and swapped out
    rest_mb: float | None  # of it, gained since the batch's last task had ended


@dataclass(frozen=True)
class Container:
    """The memory control group that leaves some roles the least room: their own, or one above it. MiB."""

    path: str
    roles: list[str]
    limit_mb: float
    working_set_mb: float  # at rest: use less inactive pages of files, which the kernel can take back
    most_mb: float  # the highest working set seen since the release of the batch
    peak_mb: float | None  # of all use, file pages included, since the group was made
    oom_kills: int | None  # processes of it that the kernel killed since the release of the batch


@dataclass(frozen=True)
class MachineMemory:
    """Where the memory of the whole machine is at rest. MiB; None where `missing` says why it could not be read.

    Processes by what only they hold (anonymous and swapped out), so that shared memory counts once, under `shared_mb`.
    """

    total_mb: float
    used_mb: float  # total less available, and what is swapped out
    watched_mb: float | None
    others_mb: float | None  # processes that are not watched, without this tool
    shared_mb: float | None  # Shmem: /dev/shm, other tmpfs, shared mappings, whether a process has them open or not
    kernel_mb: float | None  # what it cannot take back: slabs, stacks, page tables, counters
    tmpfs: dict[str, float]  # place -> used, where that is worth a line
    others: list[OtherProcesses]  # the largest of them, and those that have grown most
    containers: list[Container]
    rest_s: float  # since the batch's last task had ended
    rest_mb: dict[str, float]  # gained in that time: used, watched, others, shared, kernel
    missing: dict[str, str] = field(default_factory=dict)  # what -> the system's words


@dataclass(frozen=True)
class LoadHost:
    """One process that made load during a level run, where several did (Locust): was it the limit?"""

    name: str  # host name and number of the process
    tasks: int
    cpu_percent: float | None = None  # of one core
    ticker_late_ms: float | None = None  # longest oversleeping of its 20 ms ticker
    clock_error_ms: float | None = None  # half of the shortest message round trip: its clock is known no better
    clock_offset_ms: float | None = None  # its wall clock less that of the machine that records
    limit: str | None = None  # lost | late | overloaded: why the level run shows nothing of the service


@dataclass
class LevelFacts:
    """What is true of a whole level run of the ramp: this tool's own figures, the machine's, and why the ramp ended."""

    submit_spread_s: float | None = None  # between the first bytes of the first and the last task
    client_cpu_percent: float | None = None  # of one core, used by this tool
    ticker_late_ms: float | None = None  # longest oversleeping of this tool's 20 ms ticker
    client_limited: bool = False  # this tool, and not the service, was the limit
    oom_kills: int | None = None  # processes the kernel killed for lack of memory meanwhile
    host_available_min_mb: float | None = None  # memory free at the lowest while tasks ran, MiB; of the machine, or
    # below a container's limit where that is tighter
    reserve_mb: float | None = None  # memory that was to stay free there, MiB
    stop_reason: str | None = None  # why the ramp, or another phase before its end, ended with this batch
    load_hosts: list[LoadHost] = field(default_factory=list)

    @property
    def below_reserve(self) -> bool:
        """Whether less memory was free than was to stay so."""
        free, kept = self.host_available_min_mb, self.reserve_mb
        return free is not None and kept is not None and free < kept


@dataclass
class TaskResult:
    """One submitted task, one line of the JSONL. Times in seconds, memory in MiB; None is "not measured".

    A batch is the group of tasks released together: one task in the leak phase, a level run in the ramp. What is
    known only when memory is at rest after it (from `worker_rss_after_mb` to `machine`) is in its last line only.
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
    audio_path: str | None = None  # as given on the command line: clips of one name differ in it
    upload: str | None = None  # distinct from all uploads before | identical | repeat (on purpose, of the one before)
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
    load_host: str | None = None  # where several machines made the load
    rtf: float | None = None  # processing_time / audio_seconds
    empty_text: bool | None = None  # done, but without a word: a silent failure some services show; None: no text field
    service_seconds: float | None = None  # length of the audio, as the service says
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
    machine: MachineMemory | None = None
    end: bool = False  # the last line of a run that reached its end
    settings: dict[str, Any] = field(default_factory=dict)  # on disk in the first line, and where they change
    host: dict[str, Any] = field(default_factory=dict)

    @property
    def clip(self) -> str:
        """What distinguishes its clip from others."""
        return self.audio_path or self.audio_file

    def to_json(self) -> str:
        return one_line(self)


@dataclass
class HostStretch:
    """Ten seconds of a host as --phase monitor saw it: a line of host_<time>.jsonl. MiB; seconds elapsed as in the CSV.

    The first line of such a file holds host, limits, clock and settings instead.
    """

    timestamp: str  # local ISO time of its end
    elapsed_seconds: float
    memory: dict[str, RoleMemory]  # from the reading that ended the stretch before to the one that ends this
    at: list[float]  # elapsed seconds of the readings below, one a second
    rss_mb: dict[str, list[float | None]]  # by role; None where it had no process
    private_mb: dict[str, list[float | None]]
    sample_gap_s: float  # longest time between two looks at the processes
    available_mb: float  # of free memory on the host, at its end
    oom_kills: int | None  # processes the kernel killed for lack of memory meanwhile
    deaths: list[Death] = field(default_factory=list)


def one_line(content: Mapping[str, Any] | TaskResult | HostStretch) -> str:
    """JSON without a character that a terminal might obey, or that no file takes: JSON can spell them.

    A record in it becomes an object of its fields, in a third of the time that dataclasses.asdict() takes.
    """
    line = json.dumps(content, ensure_ascii=False, allow_nan=False, default=vars)
    return line if line.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


# ====================================================================================== descriptions of APIs

UrlPath = str  # behind the base URL
Where = str  # a place in a JSON answer: names with dots between them; behind a list, the same place of every item
Words = tuple[str | int, ...]  # that mean a state: words of an answer, "*" for all others, or HTTP codes
Table = Mapping[str, str | None]  # None: known by name, and sent only where --field gives it a value
Headers = Mapping[str, str]
Patterns = Mapping[str, tuple[str, ...]]  # by role

STATES = ("failed", "done", "processing", "queued")
ANY_OTHER = "*"


@dataclass(frozen=True)
class ApiDescription:
    """How a service is asked for a transcript, and where its answers keep what a test needs.

    All fields but `name` are those of the JSON file that --api reads. Without `id` the service is synchronous: the
    answer to a submission is the result.
    """

    name: str
    submit: UrlPath
    method: str = "POST"
    file_field: str = "file"
    fields: Table = field(default_factory=dict)  # of the form, beside the file
    query: Table = field(default_factory=dict)
    headers: Headers = field(default_factory=dict)
    token_header: str | None = None  # carries ASR_API_TOKEN as it is; None: "Authorization: Bearer TOKEN"
    id: Where | None = None
    poll: UrlPath | None = None  # with {id}
    status: Where | None = None
    queued: Words = ()
    processing: Words = ()
    done: Words = ()
    failed: Words = ()
    text: Where | None = None
    error: Where | None = None
    duration: Where | None = None  # of the audio
    duration_unit: str = "s"
    health: UrlPath | None = None  # None: there is no such page
    health_status: Where | None = None  # None: HTTP 200 is all it says
    healthy: Words = ()  # none: every word that is not among `unhealthy`
    unhealthy: Words = ()
    queue: UrlPath | None = None  # a page that reports how many workers there are
    workers: Where | None = None  # ... at this place
    watch: Patterns = field(default_factory=dict)  # as --watch

    @property
    def synchronous(self) -> bool:
        return self.id is None

    @property
    def codes(self) -> frozenset[int]:
        """HTTP codes that mean a state."""
        return frozenset(code for state in STATES for code in getattr(self, state) if isinstance(code, int))

    def state(self, code: int, content: Any) -> str | None:
        """The state that an answer reports: by its word, else by its HTTP code, else by "any other"; None: unknown."""
        said = [ANY_OTHER, code]
        if self.status:
            said.append(spoken(found(content, self.status)))
        elif self.synchronous and code not in self.codes:  # HTTP 200, with an error inside or without
            return "failed" if found(content, self.error) else "done"
        return next((state for one in reversed(said) for state in STATES if one in getattr(self, state)), None)

    def with_fields(self, values: Mapping[str, str]) -> ApiDescription:
        """The same with --field KEY=VALUE: in the query where the description has the key there, else in the form."""
        query = {key: value for key, value in values.items() if key in self.query and key not in self.fields}
        form = {key: value for key, value in values.items() if key not in query}
        return dataclasses.replace(self, fields={**self.fields, **form}, query={**self.query, **query})


APIS: Mapping[str, ApiDescription] = {api.name: api for api in (
    ApiDescription(
        "asr-queue", "/api/v1/asr/submit", file_field="audio", id="task_id", poll="/api/v1/asr/result/{id}",
        status="status", queued=("queued",), processing=("processing",), done=("done",), failed=("failed",),
        text="text", error="error", duration="duration", health="/api/v1/health", health_status="status",
        healthy=("ready",), unhealthy=("unavailable",), queue="/api/v1/asr/queue/status", workers="workers"),
    # OpenAI, speaches, vLLM, LocalAI, Groq. verbose_json would carry the length, but some models refuse it; their
    # health pages differ, and OpenAI itself has none.
    ApiDescription(
        "openai", "/v1/audio/transcriptions", fields={"model": "whisper-1", "response_format": "json"}, text="text",
        error="error", duration="duration"),
    ApiDescription(
        "whisper-asr", "/asr", file_field="audio_file", text="text",
        query={"output": "json", **dict.fromkeys(("encode", "task", "language", "initial_prompt", "vad_filter",
                                                  "word_timestamps", "diarize"))}),
    ApiDescription(
        "whisper-cpp", "/inference", fields={"response_format": "json"}, text="text", error="error",
        health="/health", health_status="status", healthy=("ok",)),
    ApiDescription(
        "funasr", "/recognition", file_field="audio", status="code", done=("0",), failed=(ANY_OTHER,), text="text",
        error="msg"),
)}


def found(content: Any, place: str | None) -> Any:
    """The value at a place of an answer; None where there is none."""
    for name in place.split(".") if place else ():
        if isinstance(content, list) and not name.isdecimal():
            content = [inner for item in content if (inner := found(item, name)) is not None] or None
        elif isinstance(content, list):
            content = content[int(name)] if int(name) < len(content) else None
        else:
            content = content.get(name) if isinstance(content, dict) else None
    return content if place else None


def spoken(value: Any) -> str:
    """A value of an answer as a word: text as it is, all else as JSON writes it (0, true, null)."""
    if isinstance(value, dict) and isinstance(value.get("message"), str):  # {"error": {"message": …, "type": …}}
        return str(value["message"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def seconds_in(value: Any, unit: str) -> float | None:
    """A length as services write it, a number or a text, in seconds; None where there is none, or 0."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number / (1000 if unit == "ms" else 1) if 0 < number < math.inf else None


class WrongDescription(ValueError):
    """A description of an API that cannot be used; the message is one sentence for a person."""


def is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"/\S*", value))


def is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", value, re.ASCII))


def is_words(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, str) or (type(one) is int and 100 <= one <= 599) for one in value)


def is_header(value: Any) -> bool:
    """One that HTTP can carry: printable, without a line break."""
    return isinstance(value, str) and value.isprintable() and value.isascii() and value == value.strip()


def is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(regex(value))
    except argparse.ArgumentTypeError:
        return False


# For each kind of field, or for one field by its name: what it must be, and how it is kept.
KINDS: Mapping[str, tuple[Callable[[Any], bool], str, Callable[[Any], Any]]] = {
    "str": (lambda v: isinstance(v, str) and bool(v), "a text", str),
    "UrlPath": (is_path, "a path that begins with /", str),
    "Where": (lambda v: isinstance(v, str) and all(v.split(".")),
              "a place in the answer, names with dots between them like result.text", str),
    "Words": (is_words, 'a list of words of the answer ("*": any other), or of HTTP codes from 100 to 599', tuple),
    "Table": (lambda v: isinstance(v, dict) and not any(isinstance(one, (list, dict)) for one in v.values()),
              "a table of names and values",
              lambda v: {key: one if one is None else spoken(one) for key, one in v.items()}),
    "Headers": (lambda v: isinstance(v, dict) and all(map(is_name, v)) and all(map(is_header, v.values())),
                "a table of HTTP headers and their text", dict),
    "Patterns": (lambda v: isinstance(v, dict) and all(role in ROLES for role in v) and all(
        p and all(map(is_pattern, p)) for p in map(as_list, v.values())),
        f"a table of roles ({', '.join(ROLES)}) and regular expressions",
        lambda v: {role: tuple(as_list(patterns)) for role, patterns in v.items()}),
    "method": (lambda v: v in ("POST", "PUT"), "POST or PUT", str),
    "duration_unit": (lambda v: v in ("s", "ms"), "s or ms", str),
    "poll": (lambda v: is_path(v) and "{id}" in v, "a path that begins with / and holds {id}", str),
    "token_header": (is_name, "the name of an HTTP header", str),
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def read_description(path: Path) -> ApiDescription:
    """A description that a user wrote. Raises WrongDescription."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongDescription(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise WrongDescription(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise WrongDescription(f"{path} is not a description of an API: it holds no JSON object")
    kinds = {f.name: str(f.type) for f in dataclasses.fields(ApiDescription) if f.name != "name"}
    for key, value in content.items():
        if key not in kinds:
            raise WrongDescription(f"{path} has an unknown field {shortened(key, 60)!r}; known are {', '.join(kinds)}")
        check, what, keep = KINDS.get(key) or KINDS[kinds[key].removesuffix(" | None")]
        if value is None and kinds[key].endswith(" | None"):
            continue
        if not check(value):
            said = shortened(json.dumps(value, ensure_ascii=False), 60)
            raise WrongDescription(f"{path}: the field {key} must be {what}, and not {said}")
        content[key] = keep(value)
    if lacks := what_lacks(content):
        raise WrongDescription(f"{path}: {lacks}")
    return ApiDescription(str(path), **content)


def what_lacks(content: Mapping[str, Any]) -> str | None:
    """Why fields that are right one by one make no description together."""
    asked, waits = content.get("id"), content.get("poll")
    words = [state for state in STATES if any(isinstance(one, str) for one in content.get(state, ()))]
    if not content.get("submit"):
        return "the field submit, the path that takes uploads, is missing"
    if asked and not waits:
        return f"with id ({asked}) the field poll, the path that reports a task, is missing"
    if waits and not asked:
        return f"with poll ({waits}) the field id, the place of the task's id in the answer to a submission, is missing"
    if (asked or content.get("status")) and not content.get("done"):
        return f"with {'id' if asked else 'status'} the field done, the words or HTTP codes of success, is missing"
    if words and not content.get("status"):
        return f"with words in {words[0]} the field status, the place of these words, is missing"
    return None


# ================================================================================= settings and command line

MOST_TASKS = 100_000  # concurrent: more than one service is asked for; in a record, more is a broken line


class CannotStart(Exception):
    """The test cannot start; the message is one sentence for a person, with the command that helps."""


@dataclass(frozen=True)
class Settings:
    """The command line. Seconds, MB (MiB for memory), counts; the names are those of the options."""

    url: str = "http://localhost:8000"
    api: ApiDescription = APIS["asr-queue"]  # with what --field sets
    ca_bundle: Path | None = None
    short_audio: Path = Path("tests/audio/short_audio.wav")
    long_audio: Path = Path("tests/audio/long_audio.wav")
    vary_length: float = 0.0
    phase: str = "all"
    duration: float | None = None
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
    list: bool = False
    interval: float = 1.0
    results_dir: Path = Path("tests/results")
    no_report: bool = False
    lang: str = "en"
    quiet: bool = False
    self_check: bool = False
    field: Mapping[str, str] = dataclasses.field(default_factory=dict)  # the last one: it hides the function's name

    def for_record(self) -> dict[str, Any]:
        """What a reader needs to judge or repeat the run, as JSON; it holds no secret."""
        left_out = {"list", "results_dir", "no_report", "lang", "quiet", "self_check"}
        record = {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items() if k not in left_out}
        patterns = {role: [without_secrets(each, command=True) for each in them] for role, them in self.watch.items()}
        pids = {role: list(them) for role, them in self.pid.items()}
        return record | {
            "url": without_secrets(self.url), "watch": patterns, "pid": pids, "api": without_secrets(self.api.name),
            "field": {k: [without_secrets(f"{k}={v}").partition("=")[2]] for k, v in self.field.items()}}


EXAMPLES = """\
examples:
  python3 tests/memory_leak_stress_test.py                         leak phase, then concurrency ramp, at localhost:8000
  python3 tests/memory_leak_stress_test.py --phase leak --max-cycles 30
  python3 tests/memory_leak_stress_test.py --url http://127.0.0.1:9000 --watch worker='celery .*worker'
  python3 tests/memory_leak_stress_test.py --api openai --field model=Systran/faster-whisper-small
  python3 tests/memory_leak_stress_test.py --phase concurrency --start 4 --max-concurrency 16 --rtf-limit 0
  python3 tests/memory_leak_stress_test.py --pid worker=4711 --pid api=4700
  python3 tests/memory_leak_stress_test.py --self-check            can this machine detect a planted leak?

A token for the API is read from the environment variable ASR_API_TOKEN only.
exit status: 0 all criteria passed, 1 one failed, 2 wrong command line, 3 inconclusive, 4 could not start,
130 interrupted
"""


class Parser(argparse.ArgumentParser):
    """Its messages quote what was typed."""

    def error(self, message: str) -> typing.NoReturn:
        super().error(printable(without_secrets(message, command=True)))


def command_line(prog: str = "memory_leak_stress_test.py") -> Parser:
    """The options and their defaults."""
    p = Parser(
        prog=prog,
        usage="%(prog)s [options]",
        description="Tests whether the memory leak of a speech-recognition service is gone and how many "
        "concurrent tasks it handles. Run it on the machine that runs the service.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.set_defaults(**vars(Settings()) | {"url": os.environ.get("ASR_URL", Settings.url), "watch": [], "pid": [],
                                         "field": [], "max_cycles": None})
    whole, positive = number(int, 1), number(float, 0, above=True)
    tasks = number(int, 1, MOST_TASKS)

    p.add_argument("--url", type=base_url, help="base URL of the API (default %(default)s, or environment ASR_URL)")
    p.add_argument("--api", type=api_description, metavar="NAME|FILE.json",
                   help=f"shape of the API: {', '.join(APIS)}, or your own description (default {Settings.api.name})")
    p.add_argument("--field", type=key_and_value, action="append", metavar="KEY=VALUE",
                   help="form field that the service asks for, like model=whisper-1; may repeat")
    p.add_argument("--ca-bundle", type=certificates, metavar="FILE",
                   help="certificates of a private authority, PEM (default: environment REQUESTS_CA_BUNDLE)")
    p.add_argument("--short-audio", type=Path, metavar="PATH",
                   help="short clip, also for the ramp, or a folder of clips used in turn (default %(default)s)")
    p.add_argument("--long-audio", type=Path, metavar="PATH", help="long clip, or a folder (default %(default)s)")
    p.add_argument("--vary-length", type=number(float, 0, MOST_VARIED), metavar="PERCENT",
                   help="lengths of uploads differ by so much, wav only (default %(default)s)")
    p.add_argument("--phase", choices=("all", "leak", "concurrency", "loaded", "monitor"),
                   help="what to run (default %(default)s): all is leak, then concurrency, then loaded if the ramp "
                   "left memory behind; monitor only records processes, until Ctrl-C or for --duration")
    p.add_argument("--duration", type=seconds, metavar="TIME", help="end of --phase monitor, like 90s, 30m or 8h")
    p.add_argument("--at-once", type=tasks, metavar="N",
                   help="concurrent tasks in the leak phase (default 1) and in the loaded phase (default: the "
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
                      help="longest wait for memory to settle (default %(default)s)")

    ramp = p.add_argument_group("concurrency ramp")
    ramp.add_argument("--start", type=tasks, metavar="N", help="first level (default %(default)s)")
    ramp.add_argument("--step", type=step, metavar="N|x2",
                      help="tasks added per level; x2 doubles, then halves the gap (default %(default)s)")
    ramp.add_argument("--max-concurrency", type=tasks, metavar="N", help="last level (default %(default)s)")
    ramp.add_argument("--rtf-limit", type=number(float, 0), metavar="X",
                      help="the ramp ends where a task's RTF reaches it (default %(default)s; 0: no limit)")
    ramp.add_argument("--task-timeout", type=positive, metavar="S",
                      help="one task, from submit to done (default %(default)s)")
    ramp.add_argument("--stall-timeout", type=positive, metavar="S",
                      help="a task without progress while every worker is idle has stalled (default %(default)s)")
    ramp.add_argument("--memory-reserve", type=number(float, 0, 100), metavar="PERCENT",
                      help="memory kept free, otherwise no more tasks are sent (default %(default)s)")

    what = p.add_argument_group("watched processes")
    what.add_argument("--watch", type=role_and(regex), action="append", metavar="ROLE=REGEX",
                      help="processes of a role (worker, api, backend, redis) by the program they run, in place of "
                      "what is found by default; may repeat")
    what.add_argument("--pid", type=role_and(number(int, 1)), action="append", metavar="ROLE=PID",
                      help="watch this process tree for that role; may repeat")
    what.add_argument("--list", action="store_true", help="only list what would be watched, and why, then end")
    what.add_argument("--no-watch", action="store_true", help="load only, no process memory (remote service)")
    what.add_argument("--interval", type=number(float, 0.2, 60), metavar="S",
                      help="seconds between CSV samples (default %(default)s)")

    out = p.add_argument_group("output")
    out.add_argument("--results-dir", type=Path, metavar="DIR", help="where files are written (default %(default)s)")
    out.add_argument("--no-report", action="store_true", help="write no markdown report")
    out.add_argument("--lang", choices=("en", "zh-CN"), help="language of the report (default %(default)s)")
    out.add_argument("--quiet", action="store_true", help="print only the summary")
    out.add_argument("--version", action="version", version=VERSION)
    out.add_argument("--self-check", action="store_true", help="only check that this machine detects a planted leak")

    return p


def parse_command_line(argv: Sequence[str] | None = None, p: Parser | None = None) -> Settings:
    """Read the command line; a wrong one ends the program with status 2 and one sentence."""
    p = p or command_line()
    args = vars(p.parse_args(argv))
    if args["max_concurrency"] < args["start"]:
        p.error(f"--max-concurrency {args['max_concurrency']} is below --start {args['start']}: change one of them")
    if args["no_watch"] and (args["watch"] or args["pid"] or args["list"] or args["phase"] == "monitor"):
        p.error("--no-watch does not go with --watch, --pid, --list or --phase monitor: leave one of them out")
    if args["duration"] and args["phase"] != "monitor":
        p.error("--duration goes with --phase monitor: the other phases end by themselves")
    if args["phase"] == "loaded" and not args["at_once"]:
        p.error("--phase loaded alone needs --at-once N: how many concurrent tasks each cycle takes")
    if args["max_cycles"] is None:
        args["max_cycles"] = max(Settings.max_cycles, args["min_cycles"])
    if args["url"].startswith("https:") and not args["ca_bundle"] and os.environ.get("REQUESTS_CA_BUNDLE"):
        try:
            args["ca_bundle"] = certificates(os.environ["REQUESTS_CA_BUNDLE"])
        except argparse.ArgumentTypeError as error:
            p.error(f"environment REQUESTS_CA_BUNDLE: {error}")
    args["watch"], args["pid"] = by_role(args["watch"]), by_role(args["pid"])
    api, args["field"] = args["api"], dict(args["field"])
    described = {role: patterns for role, patterns in api.watch.items() if not args["no_watch"]}
    args["watch"] = {role: p for role, p in described.items() if role not in args["pid"]} | args["watch"]
    return Settings(**args | {"api": api.with_fields(args["field"])})


def api_description(text: str) -> ApiDescription:
    """A built-in description by its name, else one from a file."""
    if text in APIS:
        return APIS[text]
    if "/" not in text and "." not in text and not os.path.exists(text):  # surely meant as a name
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(APIS)}, and no file with a description")
    try:
        return read_description(Path(text))
    except WrongDescription as error:
        raise argparse.ArgumentTypeError(f"not a description of an API: {error}") from None


def key_and_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def certificates(text: str) -> Path:
    """A file (or a folder made by c_rehash) with certificates of authorities."""
    try:
        where = {"capath" if os.path.isdir(text) else "cafile": text}
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(**where)
    except OSError as error:  # also what ssl raises of its own
        reason = error.strerror if not isinstance(error, ssl.SSLError) else error.reason
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read as certificates in PEM ({reason})") from None
    return Path(text)


def number(kind: type, low: float, high: float = sys.float_info.max, *, above: bool = False) -> Callable[[str], Any]:
    """An argparse type: a finite number from `low` (or above it) to `high`."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (above and value == low):
            what = f"a {'whole ' if kind is int else ''}number {'above' if above else 'of at least'} {low:g}"
            upper = f" and at most {high:g}" if high < sys.float_info.max else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}{upper}")
        return value

    return parse


def seconds(text: str) -> float:
    """A time like 90s, 30m or 8h, in seconds."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)(s|m|h|d)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 90s, 30m or 8h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def step(text: str) -> int | str:
    return DOUBLE if text == DOUBLE else int(number(int, 1)(text))


def base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        requests.Request("GET", text).prepare()
    except ValueError:  # a port of 99999, half an IPv6 address, a host of *
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL like http://localhost:8000")
    return text.rstrip("/")


def regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
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


def api_token() -> str | None:
    """The token for the API, from the environment only; a line's end that a file left behind is none of it."""
    return os.environ.get("ASR_API_TOKEN", "").strip() or None


SECRET = r"(?:pass(?:word|wd|phrase)|secret|token|(?:api|access|private)[-_ ]?key|authorization|credentials?)"
ASSIGNED = rf"(?:{SECRET}|(?<![a-z])(?:pass|pwd|cookie|session(?:[-_]?id)?))"  # words that mean none in a sentence
SCHEME = r"(?:(?:bearer|basic|token)\s+)"
VALUE = r"[^\s\"',&;]+"
# Not any word: in a sentence a name and a space or a colon are not enough ("unexpected token: end of input").
RANDOM = r"(?:(?=[^\s\"',&;]*\d)(?=[^\s\"',&;]*[a-z])[^\s\"',&;]{5,}|[\w+/=.-]{20,})"
SECRETS = tuple((re.compile(pattern, re.I), replacement) for pattern, replacement in (
    (r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/\"']*@", r"\1***@"),  # redis://:password@host, to the last @
    (rf"({ASSIGNED}[\"']\s*[=:]\s*([\"']){SCHEME}?)(?:\\.|(?!\2).)*", r"\1***"),  # "password": "…"
    (rf"({ASSIGNED}\s*=\s*{SCHEME}?([\"']))(?:\\.|(?!\2).)*", r"\1***"),  # password="…"
    (rf"({ASSIGNED}[\"']?\s*=\s*{SCHEME}?){VALUE}", r"\1***"),  # token=…
    (rf"(authorization[\"']?\s*:\s*{SCHEME}){VALUE}", r"\1***"),
    (rf"({SECRET}[\"']?(?:\s+provided)?(?::|\s)\s*[\"']?(?:{SCHEME}[\"']?)?){RANDOM}", r"\1***"),
    (rf"(\bbearer\s+){RANDOM}", r"\1***")))
ARGUMENT_SECRETS = (
    (re.compile(rf"(--?[\w-]*(?:{SECRET}|pass|pwd)\s+[\"']?){VALUE}", re.I), r"\1***"),  # --token …
    (re.compile(r"(^|[\s'\"=])-p(?=[^\s-])[^\s\"']+"), r"\1-p***"),  # as those of mysql and sshpass
    # What one letter means differs from program to program.
    (re.compile(r"(\b(?:(?:redis|valkey|keydb)-cli\b.{0,200}?\s-a|sshpass\s+-p|curl\b.{0,200}?\s(?:-u|--user))"
                rf"\s+[\"']?){VALUE}"), r"\1***"))


def without_secrets(text: str, *, command: bool = False) -> str:
    """The text with the API's token, passwords in URLs, `password=…` and the like replaced by ***.

    Of a command line also `--token …` and `-pSECRET`, which may be any word of a sentence.
    """
    if token := api_token():
        for written in (token, json.dumps(token)[1:-1], quote(token, safe="")):  # as it is, in JSON, in a URL
            text = text.replace(written, "***")
    for pattern, replacement in SECRETS + (ARGUMENT_SECRETS if command else ()):
        text = pattern.sub(replacement, text)
    return text


def printable(text: str, kept: str = "") -> str:
    """The text with a space for what a terminal might obey or cannot show: escapes, controls, marks of direction."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in kept else " " for c in text)


# =============================================================================================== audio clips

AUDIO_TYPES = {".wav": "audio/wav", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".flac": "audio/flac",
               ".ogg": "audio/ogg"}
SHIFTED = 0.1  # largest part of a clip that is left off its beginning to make another recording of it
SEED_BITS = 32
SEED_S = 0.1  # at most so much is left off by chance at either end: the next run sends others again
SEED_SHARE = 100  # ... and at most one part in so many
MOST_VARIED = 80.0  # percent, --vary-length: something must be left to recognise
GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly from the first few on
LARGEST_WAV = 0xFFFFFFFF  # bytes, by its 32-bit sizes

DISTINCT, IDENTICAL, REPEAT = "distinct", "identical", "repeat"  # TaskResult.upload

Part = bytes | memoryview


@dataclass(frozen=True)
class WavLayout:
    """Where the samples of a RIFF/WAVE file are. Bytes."""

    begin: int
    end: int
    frame: int  # what belongs together: a sample of every channel, or a block of a compressed format
    rate: int  # per second


@dataclass(frozen=True)
class Clip:
    """A recording to submit; `seconds` comes from the file's own header."""

    path: Path
    size_bytes: int
    seconds: float
    content: memoryview = field(default=memoryview(b""), repr=False, compare=False)  # the file's, mapped
    wav: WavLayout | None = None
    file: os.stat_result | None = field(default=None, repr=False, compare=False)

    def changed(self) -> bool:
        """Whether the file is written over in its place. One that is deleted or replaced stays as it was mapped."""
        try:
            now = self.path.stat()
        except OSError:
            return False
        then = self.file or now
        return now.st_ino == then.st_ino and (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns)


@dataclass(frozen=True)
class Recording:
    """What one upload carries: views of a clip, put together so that it is another recording each time."""

    clip: Clip
    parts: tuple[Part, ...]
    seconds: float  # really sent
    upload: str  # DISTINCT from all before, IDENTICAL with them, or a REPEAT on purpose
    number: int = 0  # how often its clip went out before

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.parts))


@dataclass
class Clips:
    """The clips of one option, sent in turn. Used by one thread."""

    path: Path  # as given on the command line: a clip, or a folder of them
    clips: tuple[Clip, ...]
    vary_percent: float = 0.0
    used: Counter[Path] = field(default_factory=Counter)  # how often each file went out, also as another option's
    seed: int = field(default_factory=lambda: secrets.randbits(SEED_BITS))  # a service may remember the last run's
    turn: int = 0
    last: Recording | None = None
    repeats: bool = False

    def take(self) -> Recording:
        """The next upload. Raises EndsEarly."""
        clip = self.last.clip if self.repeats and self.last else self.clips[self.turn % len(self.clips)]
        if clip.changed():  # what is mapped is another recording now, or its end is missing, which kills who reads it
            raise EndsEarly(f"the test ends early: {clip.path} was changed while the test ran. What was recorded is "
                            "kept; run it again with clips that stay as they are")
        if self.repeats and self.last:
            return dataclasses.replace(self.last, upload=REPEAT)
        self.turn += 1
        number = self.used[clip.path]
        self.last = dataclasses.replace(recording(clip, number, self.seed, self.vary_percent), number=number)
        self.used[clip.path] += 1
        return self.last

    def longest(self) -> Clips:
        """The longest of them alone."""
        return dataclasses.replace(self, clips=(max(self.clips, key=lambda clip: clip.seconds),))

    def repeat(self) -> Clips | None:
        """The last upload again and again; None where all are alike anyway."""
        known = self.last and self.last.upload == DISTINCT
        return dataclasses.replace(self, repeats=True) if known else None


def recording(clip: Clip, number: int, seed: int, vary_percent: float = 0.0) -> Recording:
    """The clip as it goes out for the `number`th time (from 0), like no time before, nor in a run of another seed.

    A wav starts one sample later each time; with `vary_percent` up to so much is left off its end. Others carry the
    number in a tag that no decoder minds, where their format has one.
    """
    if clip.wav:
        frames = (clip.wav.end - clip.wav.begin) // clip.wav.frame
        different = max(1, int(frames * SHIFTED))
        choices = 1 + min(frames // SEED_SHARE, int(SEED_S * clip.wav.rate) // clip.wav.frame)
        behind, before = divmod(seed % choices**2, choices)
        first = (before + number) % different
        shorter = behind + int(frames * vary_percent / 100 * (number * GOLDEN % 1))
        return part_of_wav(clip, clip.wav, first, max(1, frames - first - shorter),
                           DISTINCT if number < different else IDENTICAL)
    tag = TAGS.get(clip.path.suffix.lower())
    tagged = tag(clip.content, seed << SEED_BITS | number) if tag else None
    return Recording(clip, tagged or (clip.content,), clip.seconds, DISTINCT if tagged else IDENTICAL)


def excerpt(clip: Clip, seconds: float) -> Recording:
    """So much from the middle of a wav, where speech is likelier than at its ends; of others the whole."""
    if not clip.wav or clip.seconds <= seconds:
        return Recording(clip, (clip.content,), clip.seconds, IDENTICAL)
    wav = clip.wav
    frames = max(1, int(seconds * wav.rate) // wav.frame)
    return part_of_wav(clip, wav, ((wav.end - wav.begin) // wav.frame - frames) // 2, frames, DISTINCT)


def part_of_wav(clip: Clip, wav: WavLayout, first: int, frames: int, upload: str) -> Recording:
    """`frames` of a wav from the `first` on, under its own header with the right sizes; nothing is copied."""
    begin = wav.begin + first * wav.frame
    length = frames * wav.frame
    behind = clip.content[wav.end + (wav.end - wav.begin) % 2 :]  # other chunks
    padding = b"\0" * (length % 2)
    header = bytearray(clip.content[: wav.begin])
    riff = len(header) - 8 + length + len(padding) + len(behind)
    header[:4] = b"RIFF"
    if header[12:16] == b"ds64":  # the 64-bit sizes of RF64
        header[12:16] = b"JUNK"
    struct.pack_into("<I", header, 4, riff)
    struct.pack_into("<I", header, wav.begin - 4, length)
    parts: tuple[Part, ...] = (bytes(header), clip.content[begin : begin + length], padding, behind)
    return Recording(clip, tuple(part for part in parts if len(part)), length / wav.rate, upload)


def id3_tag(content: memoryview, number: int) -> tuple[Part, ...]:
    """mp3: an ID3v2 tag with the number takes the place of the one in front, if there is one."""
    old = 0
    if bytes(content[:3]) == b"ID3" and len(content) > 10:
        old = 10 + functools.reduce(lambda size, byte: size << 7 | byte & 0x7F, content[6:10], 0)
        old += 10 if content[5] & 0x10 else 0  # a footer
    words = b"\3upload\0" + str(number).encode()
    frame = b"TXXX" + synchsafe(len(words)) + b"\0\0" + words
    return b"ID3\4\0\0" + synchsafe(len(frame)) + frame, content[old if old < len(content) else 0 :]


def synchsafe(number: int) -> bytes:
    """ID3v2's way to write a size: seven bits a byte."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def flac_block(content: memoryview, number: int) -> tuple[Part, ...] | None:
    """flac: an APPLICATION block with the number behind the first block, which is always STREAMINFO (38 bytes)."""
    if bytes(content[:4]) != b"fLaC" or len(content) < 42 or content[4] & 0x7F:
        return None
    last = content[4] & 0x80
    block = struct.pack(">B3s4sQ", 2 | last, (12).to_bytes(3, "big"), b"test", number)
    return b"fLaC" + bytes([content[4] & 0x7F]) + bytes(content[5:42]), block, content[42:]


def free_atom(content: memoryview, number: int) -> tuple[Part, ...]:
    """m4a: an atom of type `free` with the number at the end."""
    return content, struct.pack(">I4sQ", 16, b"free", number)


TAGS: Mapping[str, Callable[[memoryview, int], tuple[Part, ...] | None]] = {
    ".mp3": id3_tag, ".flac": flac_block, ".m4a": free_atom}  # an ogg's pages have checksums


def read_clips(path: Path, vary_percent: float = 0.0, used: Counter[Path] | None = None) -> Clips:
    """A clip, or the clips of a folder in order of their names. Raises CannotStart."""
    files = [path]
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in AUDIO_TYPES and file.is_file())
    except OSError as error:
        raise CannotStart(f"{path} cannot be read as audio ({error}). Check it with: file {path}") from None
    if not files:
        raise CannotStart(f"Folder {path} holds no clip: none of its files ends in {' '.join(AUDIO_TYPES)}")
    return Clips(path, tuple(map(read_clip, files)), vary_percent, Counter() if used is None else used)


def read_clip(path: Path) -> Clip:
    """Look at a clip without decoding it. Raises CannotStart where it cannot be used."""
    if path.suffix.lower() not in AUDIO_TYPES:
        raise CannotStart(f"{path} must end in one of {' '.join(AUDIO_TYPES)}: the service goes by the file name.")
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            size = stat.st_size
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        content = memoryview(mapped)
        wav = wav_layout(content) if path.suffix.lower() == ".wav" else None
        seconds = (wav.end - wav.begin) / wav.rate if wav else tagged_seconds(path)
    except FileNotFoundError:
        raise CannotStart(f"Audio clip not found: {path}. Make the standard clips with: make audio "
                          "(or name your own with --short-audio and --long-audio)") from None
    except (OSError, ValueError, struct.error) as error:
        raise CannotStart(f"{path} cannot be read as audio ({error}). Check it with: file {path}") from None
    if not seconds > 0:
        raise CannotStart(f"{path} holds no sound (length 0 s). Check it with: file {path}")
    varies = wav and 0 < wav.frame <= wav.end - wav.begin and size <= LARGEST_WAV
    return Clip(path, size, seconds, content, wav if varies else None, stat)


def wav_layout(content: memoryview) -> WavLayout:
    """Where a RIFF/WAVE file has its samples, whatever their format. Raises ValueError and struct.error.

    A data size that the file does not hold (a recorder cut off writes 0 or 0xFFFFFFFF) counts up to the file's end.
    """
    if bytes(content[:4]) not in (b"RIFF", b"RF64") or bytes(content[8:12]) != b"WAVE":
        raise ValueError("not a RIFF/WAVE file")
    rate, frame, at = 0, 0, 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        at += 8
        if kind == b"fmt ":
            rate, frame = struct.unpack_from("<8xIH", content, at)
        elif kind == b"data":
            if not rate:
                raise ValueError("no format before the data")
            left = len(content) - at
            return WavLayout(at, at + (min(length, left) or left), frame, rate)
        at += length + length % 2
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
LOOK_UP_S = 0.2  # so soon an exchange notices that the user ends the test
WIRE_CHUNK = 1 << 18  # bytes given to the system at a time
OPENED_LOOK_S = 0.005
THREAD_S = 1.0  # the threads of the batch before have ended by then
OPEN_S = 2 * POLL_TIMEOUT_S  # tasks whose connection is not open by then start without it: a name may take its time
ANSWER_LIMIT = 4_000_000  # bytes read of one answer: an hour of transcript is about 60 kB
WORDS_LIMIT = 300  # characters kept of the service's own words
POLL_SHARE = 0.05  # next poll after 5 % of the time so far: the timing error stays near 5 % and falls with length
POLL_FLOOR_S = 0.1
POLL_CEILING_S = 2.0
POLLS_PER_SECOND = 400  # of all tasks together; one client tops out near 700-900
POLL_DOUBLINGS = 4  # a failed poll doubles the wait, so often at most: 16 times the floor is near the ceiling
TIMEOUTS = ("task_timeout", "submit_timeout", "stalled")  # kinds of failure whose status is "timeout"
TOOL_FAULT = "tool_fault"
LOAD_HOST_LOST = "load_host_lost"  # a machine that made load has gone, or could not send its tasks
NOT_THE_SERVICES = ("interrupted", TOOL_FAULT, LOAD_HOST_LOST)  # kinds of failure that say nothing of the service
BUSY = ("submit_http_429", "submit_http_503")  # kinds of failure that ask to come back later
TRACEBACK_LIMIT = 4000  # characters kept of its end
LOST_AFTER = 2  # answers "404 unknown" in a row before an accepted task counts as lost
MORE_THREADS = "raise the limit: ulimit -u, in a container --pids-limit, in a systemd unit TasksMax="
ENDED = ("done", "failed")  # states
GPU_OOM = re.compile(r"(?:cuda|cublas|cudnn|rocm|gpu|xpu|\b(?:hip|mps)).{0,80}?(?:out.?of.?memory|alloc_?failed|"
                     r"memory.?allocation)|out.?of.?device.?memory", re.I)
OUT_OF_MEMORY = re.compile(r"out.?of.?memory|memoryerror|bad_alloc|(?:cannot|can't|failed to|unable to) allocate|"
                           r"not enough memory|\b(?:ENOMEM|OOM)\b", re.I)
HORSE_DIED = re.compile(r"work-?horse\b.{0,20}\bterminated|AbandonedJobError", re.I)  # RQ's words for a killed child


def kind_by_words(kind: str, words: str) -> str:
    """The kind of a failure by what the service says of it: lack of memory is one of its own.

    What it refuses as the client's fault, or because it is busy, stays what it is.
    """
    if kind.startswith("submit_http_4") or kind in BUSY:
        return kind
    return "gpu_oom" if GPU_OOM.search(words) else "out_of_memory" if OUT_OF_MEMORY.search(words) else kind


class EndsEarly(Exception):
    """The test cannot go on; the message is one sentence for a person."""


class CannotSend(EndsEarly):
    """So many tasks cannot be sent, and none was; `why` says it of them, `stop_reason` is that of a ramp."""

    def __init__(self, why: str, stop_reason: str) -> None:
        super().__init__(f"the test ends early: {why}. What was recorded is kept")
        self.why, self.stop_reason = why, stop_reason


class TaskError(Exception):
    """A task came to an end without success.

    `kind` is one word, the message what the service or the system said, `facts` what this tool knows of it.
    """

    def __init__(self, kind: str, words: str = "", **facts: Any) -> None:
        super().__init__(shortened(words))
        self.kind = kind
        self.facts = {name: shortened(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}


class BadAnswer(ValueError):
    """An answer that the API's description does not fit: a problem in a few words, and the service's own words."""

    def __init__(self, problem: str, words: str = "") -> None:
        super().__init__(f"{problem}: {shortened(words)}" if words else problem)
        self.problem, self.words = problem, words


class Interrupted(requests.RequestException):
    """The user ends the test in the middle of an exchange."""


class TooLong(BadAnswer):
    """An answer of more than ANSWER_LIMIT bytes: of a service that goes wrong, and no shorter when asked for again."""

    def __init__(self) -> None:
        super().__init__(f"longer than {ANSWER_LIMIT} bytes")


class PollFailed(Exception):
    """One poll brought no usable answer; the task itself may be well."""


def whole_json(body: bytes) -> Any:
    """What a body says in JSON, without bytes that are no character and `\\ud83d`, half of one, which no file takes.

    Raises ValueError and RecursionError.
    """
    content = json.loads(body.decode(json.detect_encoding(body), "replace"))
    if b"\\ud" not in body.lower():
        return content
    return json.loads(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read whole within its time."""

    code: int
    body: bytes
    location: str | None = None
    retry_after: str | None = None

    @property
    def words(self) -> str:
        """The service's own words: the error field of a JSON answer, else its text."""
        said = self.body.decode("utf-8", "replace")
        try:
            content = whole_json(self.body)
        except (ValueError, RecursionError):
            content = None
        if isinstance(content, dict):
            said = spoken(next((content[k] for k in ("detail", "error", "message", "msg") if content.get(k)), content))
        return f"-> {self.location}" if self.location else said

    def json(self) -> Any:
        """The body as a JSON object or list, whatever type it says it is of. Raises BadAnswer."""
        try:
            content = whole_json(self.body)
        except (ValueError, RecursionError):
            raise BadAnswer("not JSON" if self.body.strip() else "empty answer", self.words) from None
        if not isinstance(content, (dict, list)):
            raise BadAnswer("not a JSON object", self.words)
        return content

    def facts(self) -> dict[str, Any]:
        """How long the service asks the client to wait, in seconds: it says so as a number or as a date."""
        said = self.retry_after or ""
        if said.isdecimal() and math.isfinite(float(said)):
            return {"retry_after_s": float(said)}
        try:
            wait = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):  # none, or nobody can read it
            return {}
        return {"retry_after_s": round(max(0.0, wait), 1)}


@dataclass(frozen=True)
class TaskState:
    """What an answer reported of a task: state is one of STATES."""

    state: str
    words: str = ""  # why it failed
    empty_text: bool | None = None  # done without a word; None where the answer holds no text field, or it is null
    seconds: float | None = None  # length of the audio, as the service says
    answer: Answer | None = None  # of a task that has ended; put into words only where it is shown


@dataclass(frozen=True)
class Health:
    """What the health page says: whether tasks can be sent, and what it says where it is not quite well."""

    serves: bool
    status: str = ""
    words: str = ""


class Body:
    """What an upload sends: its parts in order, none of them copied."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)


class Wire:
    """A connected socket whose every wait ends with the exchange's time, or with the test.

    A time-out of a socket begins anew with every byte: a header, a `100 Continue` or a trailer could come without end.
    """

    def __init__(self, sock: socket.socket, adapter: Punctual) -> None:
        self.sock, self.adapter = sock, adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def sendall(self, data: Part) -> None:
        left = memoryview(data)
        while len(left):
            left = left[self._in_time(self.sock.send, left[:WIRE_CHUNK]) :]
            time.sleep(0)  # the others' turn: under Locust all tasks of a process share one thread

    def recv_into(self, buffer: Any) -> int:
        return self._in_time(self.sock.recv_into, buffer)

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(WireReader(self))

    def _in_time(self, act: Callable[[Any], int], data: Any) -> int:
        while True:
            left = self.adapter.until - time.monotonic()
            if left <= 0 or self.adapter.aborted.is_set():
                raise TimeoutError("timed out")
            self.sock.settimeout(min(left, LOOK_UP_S))
            try:
                count = act(data)
            except TimeoutError:
                continue
            except OSError:
                self.adapter.lost(self)
                raise
            if not count:
                self.adapter.lost(self)
            return count


class WireReader(io.RawIOBase):
    """What http.client reads answers from; the socket stays open until this is closed, too."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.kept = wire, wire.sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.wire.recv_into(buffer)

    def close(self) -> None:
        self.kept.close()
        super().close()


class Punctual(requests.adapters.HTTPAdapter):
    """One connection to the service at a time; all of an exchange, headers and trailers included, ends in its time."""

    def __init__(self, aborted: threading.Event, verify: bool | str) -> None:
        self.aborted, self.verify, self.until = aborted, verify, math.inf  # monotonic
        self.wire: Wire | None = None
        self.taken: int | None = None  # by the far end, before this exchange; None: its connection is a new one
        self.never_began = False  # the far end had closed a kept connection before any byte of this exchange came
        self.reopened = 0
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more)
        kinds = {"http": (urllib3.HTTPConnectionPool, urllib3.connection.HTTPConnection),
                 "https": (urllib3.HTTPSConnectionPool, urllib3.connection.HTTPSConnection)}
        self.poolmanager.pool_classes_by_scheme = {
            scheme: functools.partial(self._pool, *kind) for scheme, kind in kinds.items()}

    def _pool(self, pool_class: Any, connection_class: Any, *args: Any, **more: Any) -> Any:
        pool = pool_class(*args, **more)
        pool.ConnectionCls = functools.partial(self._connection, connection_class)
        return pool

    def _connection(self, connection_class: Any, *args: Any, **more: Any) -> Any:
        connection = connection_class(*args, **more)
        connect = connection.connect

        def connect_with_wire() -> None:
            connect()
            self.taken, connection.sock = None, Wire(connection.sock, self)
            self.wire = connection.sock

        connection.connect = connect_with_wire
        return connection

    def begin(self, timeout: float) -> None:
        self.until, self.never_began = time.monotonic() + timeout, False
        self.taken = bytes_taken(self.wire.sock) if self.wire else None

    def lost(self, wire: Wire) -> None:
        """The connection has ended."""
        self.never_began = self.taken is not None and bytes_taken(wire.sock) == self.taken


def bytes_taken(sock: socket.socket) -> int | None:
    """How much of what was sent the far end's system has taken; None where this system does not report it."""
    try:
        return int(struct.unpack_from("Q", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128), 120)[0])
    except (OSError, AttributeError, struct.error):
        return None


class ApiClient:
    """The service's API, fed by its description. Knows HTTP and states, nothing of threads or timing."""

    def __init__(self, url: str, api: ApiDescription, token: str | None = None, ca_bundle: Path | None = None) -> None:
        self.url, self.api, self.ca_bundle = url, api, ca_bundle
        self.aborted = threading.Event()  # the user ends the test: no exchange goes on
        self.headers = {"User-Agent": f"memory-leak-stress-test/{VERSION}", **api.headers}
        if token and api.token_header:
            self.headers[api.token_header] = token
        elif token:
            self.headers["Authorization"] = f"Bearer {token}"

    def session(self) -> contextlib.closing[Punctual]:
        """A connection of its own, past any proxy of the environment (a proxy's queue is not the service's)."""
        return contextlib.closing(Punctual(self.aborted, str(self.ca_bundle) if self.ca_bundle else True))

    def get(self, path: str) -> requests.PreparedRequest:
        return requests.Request("GET", self.url + path, headers=self.headers).prepare()

    def open(self, session: Punctual) -> None:
        """Open the session's connection; what is answered does not matter. Raises as fetch() does."""
        fetch(session, self.get(self.api.health or self.api.submit), POLL_TIMEOUT_S)

    def health(self, session: Punctual) -> Health:
        """What the health page says, where there is one. Raises requests.RequestException or BadAnswer."""
        if not self.api.health:
            return Health(True)
        answer = fetch(session, self.get(self.api.health), POLL_TIMEOUT_S)
        if answer.code != 200:
            raise BadAnswer(f"HTTP {answer.code}", answer.words)
        if not self.api.health_status:
            return Health(True)
        content = answer.json()
        word = spoken(found(content, self.api.health_status))
        well = word in self.api.healthy if self.api.healthy else word not in self.api.unhealthy
        return Health(word not in self.api.unhealthy, shortened(word), "" if well else shortened(json.dumps(content)))

    def workers(self, session: Punctual) -> int | None:
        """How many workers the service says it has; None where it does not say."""
        if not self.api.queue:
            return None
        try:
            count = found(fetch(session, self.get(self.api.queue), POLL_TIMEOUT_S).json(), self.api.workers)
        except (requests.RequestException, ValueError):
            return None  # the page is a convenience: other services of this shape may lack it
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    def prepare(self, upload: Recording) -> requests.PreparedRequest:
        """The submission of a recording."""
        api, name = self.api, os.fsencode(upload.clip.path.name).decode("utf-8", "replace")  # on disk any bytes
        form = [(key, value) for key, value in api.fields.items() if value is not None]
        content_type = AUDIO_TYPES.get(upload.clip.path.suffix.lower(), "application/octet-stream")
        around, form_type = urllib3.encode_multipart_formdata(
            [*form, (api.file_field, (name, b"", content_type))])
        cut = around.rindex(b"\r\n--")  # the file comes last: what is behind it is the closing boundary
        body = Body((around[:cut], *upload.parts, around[cut:]))
        query = {key: value for key, value in api.query.items() if value is not None}
        return requests.Request(api.method, self.url + api.submit, params=query, data=body,
                                headers={**self.headers, "Content-Type": form_type}).prepare()

    def submit(self, session: Punctual, upload: requests.PreparedRequest,
               timeout: float) -> tuple[str | None, TaskState]:
        """Send a recording, whole within `timeout` seconds; the service's task id and the task's state.

        Of a synchronous service (no id) that is its end, and the time-out that of the whole task. Raises TaskError.
        """
        try:
            answer = fetch(session, upload, timeout)
            if not 200 <= answer.code < 300:
                raise TaskError(kind_by_words(f"submit_http_{answer.code}", answer.words), answer.words,
                                **answer.facts())
            if self.api.synchronous:
                return None, self.read_state(answer)
            task_id = found(answer.json(), self.api.id)
        except Interrupted:
            raise TaskError("interrupted", sent=True) from None
        except requests.RequestException as error:
            late = isinstance(error, requests.Timeout)
            if late and self.api.synchronous:
                raise TaskError("task_timeout", str(error), limit_s=timeout) from None
            refused = isinstance(cause_of(error), urllib3.exceptions.NewConnectionError)
            kind = "submit_timeout" if late else "submit_refused" if refused else "submit_reset"
            raise TaskError(kind, str(error)) from None
        except BadAnswer as error:
            raise TaskError("bad_response", error.words, problem=error.problem) from None
        if not isinstance(task_id, (str, int)) or isinstance(task_id, bool) or task_id == "":
            raise TaskError("bad_response", answer.words, problem=f"no {self.api.id}")
        return str(task_id), TaskState("queued")

    def question(self, task_id: str) -> requests.PreparedRequest:
        """The poll for a task, made once: to make it each time would double what a poll costs."""
        return self.get((self.api.poll or "").replace("{id}", quote(task_id, safe="")))

    def poll(self, session: Punctual, question: requests.PreparedRequest) -> TaskState | None:
        """The task's state, None where the service says it does not know it (404). Raises PollFailed and TaskError."""
        try:
            answer = fetch(session, question, POLL_TIMEOUT_S)
            if answer.code == 404 and 404 not in self.api.codes:
                return None
            if answer.code != 200 and answer.code not in self.api.codes:
                later = facts_shown(answer.facts())
                raise PollFailed(f"HTTP {answer.code}{', ' * bool(later)}{later}: {shortened(answer.words)}")
            return self.read_state(answer)
        except TooLong as error:
            raise TaskError("bad_response", problem=error.problem) from None
        except (requests.RequestException, ValueError) as error:
            raise PollFailed(shortened(str(error))) from None

    def read_state(self, answer: Answer) -> TaskState:
        """What an answer reports of its task. Raises BadAnswer."""
        api = self.api
        try:
            content = answer.json()
        except BadAnswer:
            if answer.code not in api.codes:
                raise
            content = None  # the code says enough
        state = api.state(answer.code, content)
        if state is None or (api.synchronous and state not in ENDED):
            raise BadAnswer(f"unknown {api.status or f'HTTP code {answer.code}'}", answer.words)
        if state not in ENDED:
            return TaskState(state)
        text, error = found(content, api.text), found(content, api.error)
        said = " ".join(map(spoken, text)) if isinstance(text, list) else spoken(text)
        return TaskState(state, "" if error is None else spoken(error),
                         not said.strip() if state == "done" and text is not None else None,
                         seconds_in(found(content, api.duration), api.duration_unit), answer)


def fetch(session: Punctual, request: requests.PreparedRequest, timeout: float) -> Answer:
    """One exchange, whole within `timeout` seconds, without following redirects.

    Where the service had closed a kept connection before any of the exchange came to it, it is opened anew, once. Past
    `Session.send`, which waits without end for a redirect's body that trickles. Raises requests.RequestException, and
    BadAnswer for what is no HTTP, cannot be decoded or is longer than ANSWER_LIMIT.
    """
    session.begin(timeout)
    try:
        return read_answer(session, request, timeout)
    except requests.ConnectionError:
        if not session.never_began:
            raise
    session.reopened += 1
    session.begin(timeout)
    return read_answer(session, request, timeout)


def read_answer(session: Punctual, request: requests.PreparedRequest, timeout: float) -> Answer:
    """Send a request and read its answer whole; raises as fetch() does."""
    body = bytearray()
    try:
        # urllib3 gives the time for connecting to the sending of the body as well: 10 s would cut off a slow upload.
        response = session.send(request, stream=True, verify=session.verify,
                                timeout=urllib3.Timeout(total=timeout))  # type: ignore[arg-type]
        with response:
            # One byte more than asked may never come, so take what is there: read1 returns after one receive.
            while chunk := response.raw.read1(65536, decode_content=True):
                body += chunk
                if len(body) > ANSWER_LIMIT:
                    if response.status_code < 300:
                        raise TooLong
                    break  # of an error the code and its first words are enough
            return Answer(response.status_code, bytes(body), response.headers.get("Location"),
                          response.headers.get("Retry-After"))
    except urllib3.exceptions.DecodeError as error:
        raise BadAnswer("cannot be decoded", str(error)) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        if session.aborted.is_set():
            raise Interrupted("interrupted") from None
        if time.monotonic() >= session.until or isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
            raise requests.Timeout(f"the answer did not end within {timeout:g} s") from None
        cause = cause_of(error)
        if isinstance(cause, (http.client.HTTPException, urllib3.exceptions.InvalidHeader)) and not isinstance(
                cause, (ConnectionError, http.client.IncompleteRead)):
            raise BadAnswer("not HTTP", f"{type(cause).__name__}: {cause}") from None
        raise error if isinstance(error, requests.RequestException) else requests.ConnectionError(str(error)) from None


def cause_of(error: BaseException) -> BaseException:
    """The exception at the bottom of those that wrap each other."""
    inside = (getattr(error, "reason", None), *reversed(error.args))
    inner = next((each for each in inside if isinstance(each, BaseException)), None)
    return cause_of(inner) if inner else error


def shortened(words: str, limit: int = WORDS_LIMIT) -> str:
    """One line of at most `limit` characters without secrets: its beginning and its end (a traceback's reason)."""
    head, tail = (words, "") if len(words) <= 20 * limit else (words[: 10 * limit], words[-10 * limit :])
    line = " ".join(printable(without_secrets(f"{head} {tail}")).split())
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
    service_seconds: float | None = None
    reopened: bool = False  # the service had closed its connection before the upload, or a poll, began
    load_host: str | None = None  # that ran it, where there are several

    def failed(self, kind: str, words: str = "", facts: Mapping[str, Any] | None = None) -> None:
        """The task ended without success."""
        self.status = "timeout" if kind in TIMEOUTS else "failed"
        self.error_kind, self.error, self.error_facts = kind, words or None, dict(facts or {})

    @property
    def words(self) -> str:
        """Why it failed, for the screen: its kind, what this tool knows, the words of the service."""
        return ": ".join(part for part in (self.error_kind, facts_shown(self.error_facts), self.error) if part)


def facts_shown(facts: Mapping[str, Any]) -> str:
    """What this tool knows of a failure, for the screen: `retry after 7 s, problem not JSON`."""
    return ", ".join(f"{name.removesuffix('_s').replace('_', ' ')} {value:g} s" if name.endswith("_s") else
                     f"{name.replace('_', ' ')} {value}" for name, value in facts.items())


@dataclass
class Batch:
    """Tasks released together: what their threads share with the one that waits for them."""

    client: ApiClient
    uploads: Mapping[int, requests.PreparedRequest]  # one per task, by its number
    task_timeout: float
    given_up: Callable[[float], TaskError | None]  # given the time of the last progress: why waiting is pointless
    aborted: threading.Event  # the user interrupts
    outcomes: queue.Queue[Outcome] = field(default_factory=queue.Queue)
    release_at: float = 0.0
    last_progress: float = 0.0  # any task of the batch changed its state
    begun: dict[int, Outcome] = field(default_factory=dict)  # by number
    opened: list[int] = field(default_factory=list)  # numbers of the tasks whose connection is open, or cannot be
    released: threading.Event = field(default_factory=threading.Event)
    called_off: bool = False

    @property
    def size(self) -> int:
        return len(self.uploads)

    def connect(self) -> None:
        """Begin to open a connection for every task. Raises CannotSend where threads are short."""
        try:
            for number in range(self.size):
                start_thread(functools.partial(self.run, number), f"task-{number}")
        except RuntimeError:
            self.called_off = True
            self.released.set()
            raise CannotSend(f"the system gives this tool too few threads for {self.size} concurrent "
                             f"task{'s' * (self.size > 1)} ({MORE_THREADS})", "client_limited") from None

    def release(self) -> None:
        """Release all tasks together when every connection is open."""
        self.wait_until_open()
        self.begin(time.monotonic())

    def wait_until_open(self) -> None:
        """Wait until every task's connection is open or cannot be, at most OPEN_S."""
        end = time.monotonic() + OPEN_S
        while len(self.opened) < len(self.uploads) and time.monotonic() < end and not self.aborted.wait(OPENED_LOOK_S):
            pass

    def begin(self, at: float) -> None:
        """Let all tasks go; their times count from `at` (monotonic), the moment they are due."""
        self.release_at = self.last_progress = at
        self.released.set()

    def ends(self, outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
        """When each task was last known to be unfinished, and seen to have ended (monotonic); without an end: never."""
        seen = [math.inf if o.processing_time is None else self.release_at + o.processing_time for o in outcomes]
        return [(end - (o.time_error or 0.0), end) for end, o in zip(seen, outcomes, strict=True)]

    def run(self, number: int) -> Outcome:
        """One task in a thread of its own: open its connection, wait for the release, follow it to its end."""
        outcome = self.begun[number] = Outcome(number, "failed")
        with self.client.session() as session:
            # Opens the connection. In trouble the submission meets it too and reports it.
            with contextlib.suppress(Exception):
                self.client.open(session)
            self.opened.append(number)
            self.released.wait()
            if self.called_off:
                return outcome
            try:
                run_task(self, session, outcome)
            except TaskError as error:
                outcome.failed(error.kind, str(error), error.facts)
            except Exception:  # a fault of this tool: a result of its own kind, not a thread that vanished
                outcome.failed(TOOL_FAULT, without_secrets(traceback.format_exc())[-TRACEBACK_LIMIT:])
            outcome.reopened = session.reopened > 0
        self.outcomes.put(outcome)
        return outcome


def start_thread(target: Callable[[], object], name: str) -> None:
    """Start it, or as soon as one of the batch before has ended. Raises RuntimeError where none is to be had."""
    until = time.monotonic() + THREAD_S
    while True:
        try:
            threading.Thread(target=target, name=name, daemon=True).start()
            return
        except RuntimeError:
            if time.monotonic() > until:
                raise
        time.sleep(OPENED_LOOK_S)


@dataclass(frozen=True)
class Observation:
    """What was seen of a task, when, and the last moment before at which it was known to be unfinished (monotonic)."""

    at: float
    unfinished_at: float
    state: TaskState | None  # None: nothing that could be used
    trouble: str = ""  # why


def run_task(batch: Batch, session: Punctual, outcome: Outcome) -> None:
    """Submit one task and follow it to its end; fills `outcome` as it goes. Raises TaskError.

    Times as in the field: turnaround from the common release (the moment the task was due, so a client that is late
    cannot flatter the service) to the sight of its end; time_error back to the last sight before.
    """
    release, accepted, state = batch.release_at, math.nan, ""
    if batch.aborted.is_set():
        raise TaskError("interrupted", sent=False)
    outcome.submit_offset = time.monotonic() - release
    for sight in exchange(batch, session, outcome):
        seen = sight.state
        if seen is None:
            continue
        if seen.state != state:
            batch.last_progress = sight.at
            accepted = accepted if state else sight.at
            if seen.state == "processing" and outcome.queue_time is None:
                outcome.queue_time = sight.at - accepted
            state = seen.state
        if state in ENDED:
            outcome.processing_time, outcome.time_error = sight.at - release, sight.at - sight.unfinished_at
            outcome.service_seconds = seen.seconds
        if state == "failed":
            raise TaskError("worker_died" if HORSE_DIED.search(seen.words) else
                            kind_by_words("task_failed", seen.words), seen.words)
        if state == "done":
            outcome.status, outcome.empty_text = "success", seen.empty_text
            return


def exchange(batch: Batch, session: Punctual, outcome: Outcome) -> Iterator[Observation]:
    """Submit a task and yield what is seen of it, until whoever asks has seen enough. Raises TaskError.

    Of a synchronous service that is its answer, which is seen when it comes: its time_error is 0, as measured. Of
    others it is the acceptance, then each poll.
    """
    patience = batch.task_timeout if batch.client.api.synchronous else min(SUBMIT_TIMEOUT_S, batch.task_timeout)
    outcome.task_id, state = batch.client.submit(session, batch.uploads[outcome.number], patience)
    answered = time.monotonic()
    yield Observation(answered, answered, state)
    if outcome.task_id is not None:
        yield from polls(batch, session, outcome.task_id, answered)


def polls(batch: Batch, session: Punctual, task_id: str, unfinished_at: float) -> Iterator[Observation]:
    """What each poll for an accepted task saw. Raises TaskError where it is no use to ask on."""
    client, release = batch.client, batch.release_at
    question = client.question(task_id)
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
            yield Observation(time.monotonic(), unfinished_at, None, trouble)
            continue
        failed_polls, trouble = 0, ""
        if seen is None:
            unknown += 1
            if unknown >= LOST_AFTER:
                raise TaskError("task_lost", task_id=task_id)
            continue
        unknown, state = 0, seen.state
        yield Observation(time.monotonic(), unfinished_at, seen)
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
# Which of the workers found are ours, who the API is and which Redis they use is found by Finder, from their sockets.
CELERY_VALUE = r"-(?:A|b|-app|-broker|-result-backend|-loader|-config|-workdir)\s"  # options followed by a word
PATTERNS: Mapping[str, tuple[str, ...]] = {
    "worker": (
        r"(?:^|/)rq\s+worker(?:-pool)?(?:\s|$)", r"(?:^|/)rqworker(?:\s|$)", r"^rq\.cli\s+worker(?:-pool)?(?:\s|$)",
        r"^rq:worker:",
        rf"(?:^|/)celery(?:\s+(?:{CELERY_VALUE}\s*\S+|(?!{CELERY_VALUE})-\S+))*\s+worker(?:\s|$)",
        r"^\[celeryd: ",
        r"(?:^|/)dramatiq(?:-gevent)?(?:\s|$)", r"(?:^|/)arq(?:\s|$)", r"(?:^|[/.])huey_consumer(?:\.py)?(?:\s|$)",
        r"(?:^|/)taskiq\s+worker(?:\s|$)",
        r"(?:^|/)(?:manage\.py|django-admin|django)\s+(?:rqworker(?:-pool)?|qcluster|run_huey|djangohuey)(?:\s|$)",
        r"^qcluster\s",
        # A script or module of the user's own: worker.py, run_worker.py, app.worker.
        r"^(?:\S*/)?(?:\w+[-_])?worker\.py(?:\s|$)", r"^(?:\w+\.)*(?:\w+_)?worker(?:\s|$)",
    ),
    "api": (),  # whoever listens on the port of --url, whatever it is called
    "backend": (r"(?:^|/)asr-backend(?:\s|$)", r"^(?:\S*/)?server(?:\s|$)"),
    "redis": (r"(?:^|/)(?:redis|valkey|keydb|redict|kvrocks)(?:-stack)?-server(?:\s|$)", r"(?:^|/)dragonfly(?:\s|$)"),
}
START_HINT = {
    "worker": "start it with: rq worker asr-queue --url redis://localhost:6379/0 (or name yours with "
              "--watch worker=REGEX or --pid worker=PID)",
    "api": "name it with --watch api=REGEX or --pid api=PID",
    "backend": "start it, or leave --watch backend and --pid backend out",
    "redis": "start it, or leave --watch redis and --pid redis out",
}
GATEWAY = re.compile(PATTERNS["backend"][0])  # of another name it has to be seen talking to the API or its broker
QUEUE_NAME = "asr-queue"
QUEUE = re.compile(rf"(?<![\w.:-]){re.escape(QUEUE_NAME)}(?![\w-]|[.:]\w)")  # not asr-queue-video, not old-asr-queue
# Parents whose direct children of the same command line take tasks of their own; other workers' are work-horses.
FORKING = re.compile(r"(?:\S*/)?(?:rq(?:\.cli)?\s+worker-pool|manage\.py\s+(?:rqworker-pool|run_huey)|celery|"
                     r"dramatiq|(?:\S*\.)?huey_consumer|taskiq)\b|\[celeryd: ")
CLUSTER = re.compile(r"(?:\S*manage\.py\s+)?qcluster\b")  # django-q: a guard between the first process and its workers
ENGINE = re.compile(r"VLLM::")  # title of vLLM's children, which hold the model
INTERPRETER = re.compile(r"^(python|pypy)[\d.]*t?d?(\.exe)?$", re.I)
MODULE_OR_CODE = re.compile(r"^-[bBdEhiIOPqRsSuvVx]*([mc])(.*)")  # also -um uvicorn, -muvicorn; not -Xfrozen_modules
SHELL = re.compile(r"^(ba|da|z|k|a)?sh$")
YOUNG_S = 5.0  # a process may still exec or set its title, or end at once: look at it again


def program_line(argv: Sequence[str]) -> str:
    """The program that runs, then its arguments: what a role's pattern is matched against.

    An interpreter is replaced by its script or module (`python -m rq.cli worker q` -> `rq.cli worker q`); a shell
    only by a script file, since `sh -c "rq worker q"` is the shell. A title set by setproctitle is kept as it is.
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


def matches_role(role_patterns: Sequence[str], argv: Sequence[str]) -> bool:
    """Whether a command line runs a program of these patterns; one may also begin at the interpreter itself."""
    lines = (program_line(argv), " ".join(argv).rstrip())
    title = not any(argv[1:])
    return any((found := re.search(p, line)) and found.start() < max(1, len(line if title else line.split(" ", 1)[0]))
               for line in lines for p in role_patterns)


@dataclass(frozen=True)
class MemorySample:
    """One process now, MiB: RSS, private memory and peak RSS; None where the system does not report it.

    Private memory is RssAnon + RssShmem + VmSwap: what the process cannot get back from a file, so what a leak is made
    of. Mapped files (a model) move RSS but not this; swapping hides memory from RSS but not from this. Shared memory
    without a file counts in each process that maps it: a leak there (tensors handed between processes) must show, and
    a buffer of fixed size counted more than once is first use, not growth.
    """

    rss: float
    private: float | None
    high_water: float | None


NAME_LIMIT = 100  # characters kept of a process's name
STATUS_KIB = re.compile(rb"^(VmRSS|VmHWM|RssAnon|RssShmem|VmSwap):\s*(\d+)", re.M)


def read_memory(process: psutil.Process) -> MemorySample | None:
    """About 30 us on Linux whatever the size, elsewhere RSS alone; None when the process has gone or is a zombie."""
    try:
        if sys.platform != "linux":
            return MemorySample(process.memory_info().rss / MIB, None, None)
        status = Path(f"/proc/{process.pid}/status").read_bytes()
    except (FileNotFoundError, ProcessLookupError, psutil.Error):
        return None
    mb = {key: int(kib) / 1024 for key, kib in STATUS_KIB.findall(status)}
    if b"VmRSS" not in mb:  # a zombie keeps its entry but holds no memory
        return None
    private = mb[b"RssAnon"] + mb.get(b"RssShmem", 0.0) + mb.get(b"VmSwap", 0.0) if b"RssAnon" in mb else None
    return MemorySample(mb[b"VmRSS"], private, mb.get(b"VmHWM"))


def name_of(process: psutil.Process) -> str:
    """Its name for the record. It may have given itself any. Raises psutil.Error."""
    return printable(process.name()[:NAME_LIMIT])


def reset_high_water(pid: int) -> None:
    """Let VmHWM start again from the present RSS, so that a peak belongs to one task."""
    # Another user's process, or not Linux: the peak then comes from sampling and from rises of VmHWM.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


Endpoint = tuple[str, int]  # address and TCP port; path and 0 of a unix socket
LISTEN, ESTABLISHED = "0A", "01"  # states in /proc/net/tcp
LOOPBACK = re.compile(r"127\.|::1$")
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a connection to "any address" ends: uvicorn shows such a URL


@dataclass(frozen=True)
class Socket:
    """A socket that a process holds: it listens at `near`, or is connected to `far`."""

    near: Endpoint
    far: Endpoint | None  # None: it listens


def endpoint(text: str) -> Endpoint:
    """`0100007F:1F90` of /proc/net/tcp -> ("127.0.0.1", 8080); an IPv4 address inside an IPv6 one counts as itself."""
    address, _, port = text.partition(":")
    raw = bytes.fromhex(address)
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)


def unix_sockets() -> dict[int, tuple[bool, str]]:
    """inode -> (whether it listens, the path that it or its far end is bound to), asked of the kernel as `ss -x` does.

    /proc/net/unix has no far ends.
    """
    dump = struct.pack("=IHHIIBBHIIIII", 40, 20, 0x301, 0, 0, socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, 1 | 4, 0xFFFFFFFF,
                       0xFFFFFFFF)  # SOCK_DIAG_BY_FAMILY, all states, with names and peers
    paths: dict[int, str] = {}
    states: dict[int, tuple[int, int]] = {}  # inode -> state, inode of its far end
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:  # NETLINK_SOCK_DIAG
        kernel.settimeout(1.0)
        kernel.send(dump)
        kind = 20
        while kind == 20:  # until "done" or an error
            answer = kernel.recv(1 << 18)
            while len(answer) >= 16:
                size, kind = struct.unpack_from("=IH", answer)
                if kind == 20:
                    state, inode = struct.unpack_from("=2xBxI", answer, 16)
                    peer, at = 0, 32
                    while at + 4 <= size:
                        length, attribute = struct.unpack_from("=HH", answer, at)
                        value = answer[at + 4 : at + length]
                        if attribute == 0 and value[:1] != b"\0":  # its name, unless an abstract one
                            paths[inode] = os.fsdecode(value.rstrip(b"\0"))
                        elif attribute == 2:
                            peer = struct.unpack("=I", value)[0]
                        at += max(4, (length + 3) & ~3)
                    states[inode] = state, peer
                answer = answer[max(16, (size + 3) & ~3) :]
    listening = {inode: (True, paths[inode]) for inode, (state, _) in states.items() if state == 10 and inode in paths}
    return listening | {inode: (False, paths[peer]) for inode, (_, peer) in states.items() if peer in paths}


class Machine:
    """One look at this machine: who is whose child, who holds which socket; read as far as it is asked for."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[int, tuple[str, str, str]]] = {}

    @functools.cached_property
    def parents(self) -> dict[int, int]:
        """pid -> its parent's pid."""
        return {pid: parent for pid in psutil.pids() if (parent := parent_of(pid)) is not None}

    @functools.cached_property
    def addresses(self) -> frozenset[str]:
        """Of this machine, but for 127.0.0.0/8."""
        return frozenset(a.address.partition("%")[0] for them in psutil.net_if_addrs().values() for a in them) | {"::1"}

    @functools.cached_property
    def _unix(self) -> dict[int, tuple[bool, str]]:
        try:
            return unix_sockets()
        except (OSError, AttributeError):  # not Linux, or a sandbox without this kind of socket: only TCP is seen then
            return {}

    def ancestors(self, pid: int) -> list[int]:
        """The process's parents up to the first, nearest first."""
        above: list[int] = []
        while (pid := self.parents.get(pid, 0)) and pid not in above:
            above.append(pid)
        return above

    @functools.cached_property
    def _children(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for pid, parent in self.parents.items():
            found.setdefault(parent, []).append(pid)
        return found

    def tree(self, root: int) -> list[int]:
        """A process and all below it."""
        found = [root]
        for pid in found:
            found += (child for child in self._children.get(pid, ()) if child not in found)
        return found

    def is_here(self, address: str) -> bool:
        """Whether an address is this machine's own."""
        return address in self.addresses or bool(LOOPBACK.match(address) and "@" not in address)

    def sockets(self, pid: int) -> list[Socket] | None:
        """Listening and connected sockets of a process; none where it has ended, None where it is another user's."""
        if sys.platform != "linux":
            return other_sockets(pid)
        try:
            inodes, space = socket_inodes(pid), os.readlink(f"/proc/{pid}/ns/net")
            own = space == os.readlink("/proc/self/ns/net")
            table = self._table("self" if own else pid, space)  # it may end before its own is read
        except (FileNotFoundError, ProcessLookupError):
            return []
        except OSError:
            return None
        held = [self._socket(table[inode], "" if own else f"@{space}") for inode in inodes & table.keys()]
        for inode in inodes & self._unix.keys():
            listens, path = self._unix[inode]
            held.append(Socket((path, 0), None) if listens else Socket(("", 0), (path, 0)))
        return held

    @functools.cached_property
    def listening(self) -> dict[int, Socket]:
        """inode -> listening TCP socket of this tool's network, whoever holds it."""
        if sys.platform != "linux":
            found = (each for pid in self.parents for each in other_sockets(pid) or () if not each.far)
            return {hash(each): each for each in found}
        table = self._table("self", os.readlink("/proc/self/ns/net"))
        return {inode: self._socket(row) for inode, row in table.items() if row[2] == LISTEN}

    def holders(self, pids: Iterable[int], inodes: Collection[int]) -> set[int]:
        """Those processes that hold one of these sockets."""
        found = set()
        for pid in pids:
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                held = socket_inodes(pid) if sys.platform == "linux" else {hash(x) for x in other_sockets(pid) or ()}
                if held & set(inodes):
                    found.add(pid)
        return found

    def _table(self, pid: int | str, space: str) -> dict[int, tuple[str, str, str]]:
        """inode -> near and far end and state, in the network namespace of a process. Raises OSError."""
        if space not in self._tables:
            rows: dict[int, tuple[str, str, str]] = {}
            for family in ("tcp", "tcp6"):
                with contextlib.suppress(FileNotFoundError):  # IPv6 switched off
                    for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                        f = line.split()
                        if f[3] in (LISTEN, ESTABLISHED):
                            rows[int(f[9])] = f[1], f[2], f[3]
            self._tables[space] = rows
        return self._tables[space]

    @staticmethod
    def _socket(row: tuple[str, str, str], space: str = "") -> Socket:
        """Loopback of another network namespace (a container) is another address than ours."""
        near, far = endpoint(row[0]), None if row[2] == LISTEN else endpoint(row[1])
        if space and far and LOOPBACK.match(far[0]):
            far = (far[0] + space, far[1])
        return Socket((near[0] + space, near[1]), far)


def parent_of(pid: int) -> int | None:
    """None where it has ended or is hidden. Half the time that psutil takes, which makes sure of the process first."""
    try:
        if sys.platform != "linux":
            return psutil.Process(pid).ppid()
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError, PermissionError, psutil.Error):  # hidden: by hidepid=1 of /proc
        return None


def socket_inodes(pid: int) -> set[int]:
    """Raises OSError where the process has ended or is another user's."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed between the list and the look
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
            if link.startswith("socket:["):
                found.add(int(link[8:-1]))
    return found


def other_sockets(pid: int) -> list[Socket] | None:
    """Sockets of a process on systems without /proc/PID/fd."""
    try:
        held = psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return []
    except psutil.Error:
        return None
    return [Socket((c.laddr.ip, c.laddr.port), (c.raddr.ip, c.raddr.port) if c.raddr else None)
            for c in held if c.status in (psutil.CONN_LISTEN, psutil.CONN_ESTABLISHED)]


BROKER_PORTS = {6379, 5672, 5671, 4222, 9092}  # Redis, AMQP, NATS, Kafka
NO_BROKER_PORTS = {53, 80, 443, 3306, 4317, 4318, 5432, 27017}  # web, databases, telemetry: other services' as well
REDIS_PATH = re.compile(r"redis|valkey|keydb", re.I)


@dataclass(frozen=True)
class Peer:
    """The far end of a connection."""

    address: str
    port: int
    server: int | None  # pid of the Redis server on this machine that listens there
    here: bool  # an address of this machine

    @property
    def is_broker(self) -> bool:
        return self.server is not None or self.port in BROKER_PORTS or not self.port

    def is_same(self, other: Peer) -> bool:
        if self.server or other.server:
            return self.server == other.server
        return (self.address, self.port) == (other.address, other.port)

    def may_be_same(self, other: Peer) -> bool:
        """One broker may have several addresses: of a cluster, of a container and of its published port."""
        return not (self.server or other.server) and (self.port == other.port or self.here != other.here)


def same_broker(api: Collection[Peer], worker: Collection[Peer] | None) -> str:
    """Whether a worker talks to the API's broker: same, other, maybe; hidden, none and unknown where it is not seen.

    hidden: the worker's sockets may not be looked at; none: it has no connection to a broker yet; unknown: the API has
    no connection.
    """
    if worker is None:
        return "hidden"
    ours, theirs = ([p for p in peers if p.is_broker] for peers in (api, worker))
    if ours and theirs:
        if any(a.is_same(b) for a in ours for b in theirs):
            return "same"
        return "maybe" if any(a.may_be_same(b) for a in ours for b in theirs) else "other"
    if any(a.is_same(b) for a in api for b in worker if a.port not in NO_BROKER_PORTS):
        return "same"
    return "unknown" if not api else "none" if ours or not worker else "maybe"


@dataclass(frozen=True)
class Candidate:
    """A tree of workers, and what shows whether it is ours."""

    pid: int
    line: str
    named: bool  # its command line or title names our queue
    broker: str  # see same_broker()
    peers: frozenset[Peer] = frozenset()


@dataclass(frozen=True)
class Choice:
    """Why a process is watched for a role, or passed over; `why` is a key of REASONS."""

    role: str
    pid: int
    line: str
    watched: bool
    why: str
    about: str = ""


def choose(candidates: Sequence[Candidate], by_queue: bool, by_broker: bool) -> tuple[list[Choice], bool, bool]:
    """Which workers are ours, and how they were recognised: the name of our queue, the API's broker.

    A worker at another broker never is. Of the others those that name our queue, if any does; of these those at the
    API's broker, if any is. What identified them must do so later: while ours restart, others are not taken for them.
    """
    left = [c for c in candidates if c.broker != "other"]
    named = [c for c in left if c.named]
    identified = any(c.broker == "same" for c in left)  # then one that has no connection yet may be another service's
    by_queue = by_queue or any(c.broker != "none" or not identified for c in named)
    ours = [c for c in left if c.named or not by_queue]
    by_broker = by_broker or any(c.broker == "same" for c in ours)
    ours = [c for c in ours if not by_broker or c.broker == "same" or (c.named and c.broker == "hidden")]
    choices = []
    for c in candidates:
        watched = c in ours
        if watched:
            why = ("both" if c.named else "broker") if c.broker == "same" else "queue" if c.named else "unidentified"
        elif c.broker == "other":
            why = "other_broker"
        elif by_queue and not c.named:
            why = "other_queue"
        else:
            why = "no_connection" if c.broker == "none" else "broker_not_seen"
        theirs = [p for p in c.peers if p.is_broker] or c.peers
        about = ", ".join(sorted({f"{p.address}:{p.port}" if p.port else p.address for p in theirs}))
        choices.append(Choice("worker", c.pid, c.line, watched, why, about))
    return choices, by_queue, by_broker


# Hold a listening socket for the service that they start, or in front of the service that they pass requests to.
HANDS_ON = {"systemd", "init", "launchd", "inetd", "xinetd", "circusd", "supervisord", "systemd-socket-activate"}
PROXIES = {"nginx", "haproxy", "caddy", "traefik", "envoy", "apache2", "httpd", "lighttpd", "varnishd", "squid", "h2o",
           "docker-proxy", "rootlesskit", "rootlessport", "slirp4netns", "pasta", "passt", "conmon", "ssh", "sshd",
           "socat", "kubectl", "systemd-socket-proxyd"}
NEW_S = 30.0  # a child of a server opens its socket within this time
AGAIN_S = 10.0  # a look at the sockets of 300 processes costs 20 ms: seldom, if nothing has changed
CONNECT_S = 10.0  # a process younger than this may only be about to connect


def look_again(since: float) -> float:
    """How long to wait from one look at the sockets to the next: they open late, so first with every scan. Seconds."""
    return min(AGAIN_S, since / 5)


@dataclass
class Finder:
    """Finds the service's processes among others: who listens on the API's port, who talks to the same broker."""

    host: str = ""
    port: int = 0
    api: dict[int, Choice] = field(default_factory=dict)  # pid -> why it is or is not the API
    workers: dict[int, Choice] = field(default_factory=dict)
    redis: dict[int, Choice] = field(default_factory=dict)
    backends: dict[int, Choice] = field(default_factory=dict)
    no_api: Choice | None = None  # why nobody is known to be the API
    waiting: bool = False  # a young worker has no connection yet
    peers: set[Peer] = field(default_factory=set)  # all that the API was seen to talk to
    by_queue: bool = False
    by_broker: bool = False
    _servers: int = 0  # processes of the API when last found
    _inodes: set[int] = field(default_factory=set)  # the sockets they were looked for by
    _searched: float = -math.inf
    _complete: float = 0.0  # when all of them were last seen alive
    _named: set[tuple[int, float]] = field(default_factory=set)  # workers that named our queue: titles come and go
    _same: dict[tuple[int, float], Candidate] = field(default_factory=dict)  # identified once, for their lifetime
    _state: object = None
    _changed: float = 0.0
    _looked: float = -math.inf

    def find_api(self, machine: Machine, programs: Mapping[int, Program], alive: Collection[int]) -> set[int]:
        """Roots of the API: who holds the socket that --url reaches. Looks for them seldom while all live."""
        roots = {pid for pid, choice in self.api.items() if choice.watched and pid in alive}
        now, lost = time.monotonic(), not roots or len(roots) < self._servers
        if not lost or not self._complete:
            self._complete = now
        if now - self._searched < look_again(now - self._complete if lost else math.inf):
            return roots
        self._searched = now
        inodes, why = self._reached(machine)
        if not lost and inodes.keys() == self._inodes:
            return roots
        self._inodes = set(inodes)
        holders = machine.holders(programs.keys(), inodes) if inodes else set()
        names = {pid: program_name(programs[pid].line) for pid in holders}
        front = {pid: Choice("api", pid, programs[pid].line, False, "hands_on" if name in HANDS_ON else "proxy", name)
                 for pid, name in names.items() if name in PROXIES | HANDS_ON or GATEWAY.search(programs[pid].line)}
        servers = holders - front.keys()
        roots = {started_by_itself(machine, programs, pid) for pid in servers
                 if not servers & set(machine.ancestors(pid))}
        self._servers = len(roots) or self._servers
        about = f"{self.host}:{self.port}"
        self.api = {pid: Choice("api", pid, programs[pid].line, True, "listens", about) for pid in roots} | front
        reasons = sorted(front.values(), key=lambda choice: choice.why != "proxy")
        reasons.append(Choice("api", 0, "", False, why or "hidden", about))
        self.no_api = None if self._servers else reasons[0]
        return roots

    def _reached(self, machine: Machine) -> tuple[dict[int, Socket], str]:
        """The listening sockets that a connection to --url comes to (as the client tries its addresses), or why none.

        A socket of that very address comes before one of all addresses, as in the kernel.
        """
        here = [address for address in self._addresses if machine.is_here(address)]
        if not here:
            return {}, "elsewhere"
        listening = {inode: s for inode, s in machine.listening.items() if s.near[1] == self.port}
        for address in here:
            for near in (address, "::" if ":" in address else "0.0.0.0", "::"):
                if found := {inode: s for inode, s in listening.items() if s.near[0] == near}:
                    return found, ""
        return {}, "nobody"

    @functools.cached_property
    def _addresses(self) -> list[str]:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return []  # it does not answer either: check_api() says so
        addresses = (str(each[4][0]).partition("%")[0] for each in found)
        return list(dict.fromkeys(ANY.get(address, address) for address in addresses))

    def due(self, programs: Mapping[int, Program], api: Collection[int], watched_redis: Collection[int]) -> bool:
        """Whether the sockets of workers are worth a look: after a change soon, later seldom, at last no more."""
        now = time.monotonic()
        found = {pid: p for pid, p in programs.items() if "worker" in p.roles}
        tops = {(pid, p.created) for pid, p in programs.items() if "backend" in p.likes or
                (pid in found and p.parent not in found)}  # work-horses come and go
        state = (tops, set(api), set(watched_redis))
        if state != self._state:
            self._state, self._changed = state, now
        elif self._all_identified(watched_redis) or now - self._looked < look_again(now - self._changed):
            return False
        self._looked = now
        return True

    def _all_identified(self, watched_redis: Collection[int]) -> bool:
        identified = {key[0] for key in self._same}
        return bool(self.peers and watched_redis) and self.workers.keys() <= identified and \
            all(choice.watched for choice in self.backends.values())

    def find_workers(self, machine: Machine, programs: Mapping[int, Program], api: Collection[int],
                     given: Collection[int] | None = None) -> None:
        """Tell our workers and the Redis in use. `api`: all processes of the API; `given`: workers the user named."""
        servers = self._redis_servers(machine, programs)
        new = {p for pid in api for p in self._peers_of(machine, pid, servers) or ()}
        if any(p.is_broker for p in new) and not self._knows_broker:
            self.by_queue = self.by_broker = False  # identified without the broker so far
        self.peers |= new
        self._find_backends(machine, programs, servers)
        if given is None:
            used = self._choose_workers(machine, programs, servers)
        else:
            trees = {pid for root in given for pid in machine.tree(root)}
            used = {p for pid in trees for p in self._peers_of(machine, pid, servers) or ()}
        # One that was seen earlier may have been restarted since, as another process.
        of_api, of_workers = ({p.server for p in peers if p.server in servers} for peers in (self.peers, used))
        redis = (of_api & of_workers) or of_api or of_workers  # where only one side is seen, that side's
        self.redis = {pid: Choice("redis", pid, programs[pid].line, pid in redis,
                                  "far_end" if pid in redis else "unused") for pid in servers}

    @property
    def _knows_broker(self) -> bool:
        return any(peer.is_broker for peer in self.peers)

    def _find_backends(self, machine: Machine, programs: Mapping[int, Program],
                       servers: Mapping[int, Sequence[Endpoint]]) -> None:
        """The gateways by their name, and programs called `server` that have talked to the API or to its broker.

        By its name only one that has run for a while: `asr-backend --version` ends at once, and serves nobody.
        """
        before, self.backends = self.backends, {}
        for pid, program in ((pid, p) for pid, p in programs.items() if "backend" in p.likes):
            named = bool(GATEWAY.search(program.line))
            young = time.time() - program.created < YOUNG_S
            peers = self._peers_of(machine, pid, servers) or set() if young or not named else set()
            talks = any(p.here and p.port == self.port for p in peers) or same_broker(self.peers, peers) == "same" or (
                pid in before and before[pid].watched)  # at rest it may have no connection
            why = "pattern" if named and not young else "talks" if talks else "young" if named else "talks_not"
            self.backends[pid] = Choice("backend", pid, program.line, why in ("pattern", "talks"), why)

    def _choose_workers(self, machine: Machine, programs: Mapping[int, Program],
                        servers: Mapping[int, Sequence[Endpoint]]) -> set[Peer]:
        """Choose the trees of our workers; returns whom they talk to."""
        roots = {pid for pid, choice in self.api.items() if choice.watched}
        found = {pid for pid, p in programs.items() if "worker" in p.roles} - roots
        trees: dict[int, list[int]] = {}
        for pid in sorted(found):
            above = [p for p in machine.ancestors(pid) if p in found]
            trees.setdefault(above[-1] if above else pid, []).append(pid)
        candidates = [self._candidate(machine, programs, root, members, servers) for root, members in trees.items()]
        choices, by_queue, by_broker = choose(candidates, self.by_queue, self.by_broker)
        if not self._knows_broker or any(c.broker == "same" for c in candidates):
            self.by_queue, self.by_broker = by_queue, by_broker
        self.workers = {choice.pid: choice for choice in choices}
        now = time.time()
        self.waiting = any(c.broker == "none" and now - programs[c.pid].created < CONNECT_S for c in candidates)
        return {p for c in candidates if self.workers[c.pid].watched for p in c.peers}

    def _candidate(self, machine: Machine, programs: Mapping[int, Program], root: int, members: Sequence[int],
                   servers: Mapping[int, Sequence[Endpoint]]) -> Candidate:
        key = (root, programs[root].created)
        if any(QUEUE.search(programs[pid].line) for pid in members):
            self._named.add(key)
        if key in self._same:
            return dataclasses.replace(self._same[key], named=key in self._named)
        seen = [self._peers_of(machine, pid, servers) for pid in machine.tree(root)]
        peers = None if None in seen and not any(seen) else frozenset(p for each in seen for p in each or ())
        candidate = Candidate(root, programs[root].line, key in self._named, same_broker(self.peers, peers),
                              peers or frozenset())
        if candidate.broker == "same":
            self._same[key] = candidate
        return candidate

    def _peers_of(self, machine: Machine, pid: int, servers: Mapping[int, Sequence[Endpoint]]) -> set[Peer] | None:
        """Whom a process has called; None where its sockets may not be looked at."""
        held = machine.sockets(pid)
        if held is None:
            return None
        accepted = {s.near[1] for s in (*machine.listening.values(), *(s for s in held if not s.far))} - {0}
        far = {s.far for s in held if s.far and s.near[1] not in accepted}
        peers = set()
        for address, port in far:
            here = not port or machine.is_here(address)
            server = next((server for server, nears in servers.items() for near in nears if near[1] == port and (
                near[0] == address or (here and port and near[0] in ("0.0.0.0", "::", "*")))), None)
            if port or server or REDIS_PATH.search(address):  # by unix sockets everybody talks to syslog and D-Bus
                peers.add(Peer(address, port, server, here))
        return peers

    def _redis_servers(self, machine: Machine, programs: Mapping[int, Program]) -> dict[int, list[Endpoint]]:
        """pid -> where it listens; of another user's its title shows the port (`redis-server 127.0.0.1:6379`)."""
        servers = {}
        for pid, program in programs.items():
            if "redis" not in program.likes:
                continue
            held = machine.sockets(pid)
            if held is not None:
                servers[pid] = [s.near for s in held if not s.far]
            elif title := re.match(r"\S+ (\S*):(\d+)(?:\s|$)", program.line):
                servers[pid] = [(title[1].strip("[]"), int(title[2]))]
        return servers


def started_by_itself(machine: Machine, programs: Mapping[int, Program], pid: int) -> int:
    """The topmost of the parents that run the same program: a supervisor may leave listening to its children."""
    for above in machine.ancestors(pid):
        name = program_name(programs[pid].line)
        if above not in programs or program_name(programs[above].line) != name or INTERPRETER.match(name):
            break
        pid = above
    return pid


def program_name(line: str) -> str:
    """The name of the program at the beginning of a line of program_line(): `nginx: master process …` -> nginx."""
    return os.path.basename(line.split(" ", 1)[0]).rstrip(":")


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
    """Whether its children are work-horses and helpers; those of a shell or a supervisor are workers."""
    try:
        return matches_role(PATTERNS["worker"], watched.process.cmdline())
    except psutil.Error:
        return True  # it has just ended, and what it has left behind serves no more


def works_for_server(watched: Watched) -> bool:
    """Whether a child of a server that does not listen was more than a helper of one request: one of a process pool."""
    return watched.role in ("api", "backend") and watched.resident and watched.sample.rss > TOLERANCE_MB


def serves_api(pid: int, argv: Sequence[str]) -> bool:
    """Whether a child of a server takes requests: it listens, with its parent or at a port of its own, or computes."""
    return bool(ENGINE.match(program_line(argv))) or any(not s.far and s.near[1] for s in Machine().sockets(pid) or ())


@dataclass(frozen=True)
class Program:
    """A process's command line when last read, and the roles whose patterns it meets."""

    created: float
    line: str  # of program_line()
    roles: frozenset[str]
    may_change: bool  # a shell may exec at any time, an RQ worker's title says what it does now
    likes: frozenset[str] = frozenset()  # the roles whose default patterns it meets
    parent: int = 0


@dataclass
class ProcessTable:
    """The watched processes: finds roots by their program, follows their descendants, forgets the dead."""

    patterns: Mapping[str, Sequence[str]]
    pids: Mapping[str, Sequence[int]]
    narrowed: set[str]  # roles found by default pattern, of which other services' processes are left out
    alive: dict[int, Watched] = field(default_factory=dict)
    seen: dict[int, Program] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)  # all pids a tick ago
    finder: Finder = field(default_factory=Finder)
    own: frozenset[int] = frozenset()
    mistaken: dict[int, tuple[str, str]] = field(default_factory=dict)  # pid -> role by --watch, role it matches
    checked: set[int] = field(default_factory=set)  # of those that --watch finds

    @classmethod
    def for_settings(cls, s: Settings) -> ProcessTable:
        """A synchronous API does the work itself: then no worker is looked for that is not asked for."""
        default = {role for role in ROLES if role not in s.watch and role not in s.pid}
        if s.api.synchronous:
            default.discard("worker")
        patterns = {role: s.watch.get(role, PATTERNS[role]) for role in ROLES if role in s.watch or role in default}
        url = urlsplit(s.url)
        finder = Finder(url.hostname or "", url.port or {"http": 80, "https": 443}[url.scheme])
        own = frozenset(p.pid for p in (psutil.Process(), *psutil.Process().parents()))
        return cls(patterns, s.pid, default, own=own, finder=finder)

    def scan(self) -> None:
        """Look for new roots on the whole machine; reads only command lines not read before, or that may change."""
        first, programs, machine = not self.seen, self._programs(), Machine()
        self.follow()
        for role, pids in self.pids.items():
            for pid in pids if first else ():  # later the number may be another process's
                self._add(role, pid, None)
        found = {role: {pid for pid, program in programs.items() if role in program.roles}
                 for role in self.patterns.keys() - self.narrowed}
        self._add_all(found, programs)
        taken = {pid for pids in found.values() for pid in pids}
        self._add_all({role: pids - taken for role, pids in self._ours(machine, programs).items()}, programs)
        self._check_watch(machine, found, programs)

    def _add_all(self, found: Mapping[str, set[int]], programs: Mapping[int, Program]) -> None:
        for role in (role for role in self.patterns if role in found):
            for pid in sorted(found[role] & programs.keys(), key=lambda p: programs[p].created):  # parents are older
                self._add(role, pid, None)

    def _ours(self, machine: Machine, programs: Mapping[int, Program]) -> dict[str, set[int]]:
        """Of the roles that are found by default: the roots that are this service's. The trees of others are let go."""
        finder, narrowed = self.finder, self.narrowed
        found: dict[str, set[int]] = {}
        if "api" in narrowed:
            found["api"] = finder.find_api(machine, programs, self.alive)
        servers = found.get("api", {w.process.pid for w in self.alive.values() if w.role == "api" and w.root})
        redis = {pid for pid, w in self.alive.items() if w.role == "redis"}
        if finder.due(programs, servers, redis):
            given = {pid for pid, w in self.alive.items() if w.role == "worker" and w.root}
            finder.find_workers(machine, programs, {pid for root in servers for pid in machine.tree(root)},
                                None if "worker" in narrowed else given)
        for role, choices in (("worker", finder.workers), ("backend", finder.backends), ("redis", finder.redis)):
            if role in narrowed:
                found[role] = {pid for pid, choice in choices.items() if choice.watched and pid in programs}
                for pid in choices.keys() - found[role]:
                    if pid in self.alive and self.alive[pid].role == role and self.alive[pid].root:
                        self._forget(pid)  # it was taken for ours before its sockets showed whose it is
        return found

    def _forget(self, root: int) -> None:
        """Watch a process and what is below it no more, without a death."""
        role, gone = self.alive[root].role, {root}
        while gone:
            for pid in gone:
                del self.alive[pid]
            gone = {pid for pid, w in self.alive.items() if w.parent in gone and w.role == role}

    def _check_watch(self, machine: Machine, found: Mapping[str, set[int]], programs: Mapping[int, Program]) -> None:
        """Note a process that --watch finds for one role and that is known to match another."""
        for role, pid in ((role, pid) for role, pids in found.items() for pid in pids - self.checked):
            self.checked.add(pid)
            above = {pid, *machine.ancestors(pid)}
            likes = programs[pid].likes
            if role != "api" and any(c.watched and c.pid in above for c in self.finder.api.values()):
                self.mistaken[pid] = role, "api"
            elif likes and role not in likes:
                self.mistaken[pid] = role, min(likes)

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
            line = program_line(argv)
            roles = frozenset(role for role, patterns in self.patterns.items() if matches_role(patterns, argv))
            name = os.path.basename(argv[0]) if argv else ""
            may_change = bool(SHELL.match(name)) or line.startswith("rq:worker:")
            likes = frozenset(role for role, patterns in PATTERNS.items() if matches_role(patterns, argv))
            current[pid] = Program(created, line, roles, may_change, likes, (parent_of(pid) or 0) if likes else 0)
        self.seen = current
        return current

    def follow(self) -> None:
        """Take in new children of watched processes: only pids not there a tick ago are asked for their parent."""
        pids = set(psutil.pids())
        new, self.known = pids - self.known - self.own, pids
        while born := [pid for pid in new if self._adopt(pid)]:
            new.difference_update(born)

    def _adopt(self, pid: int) -> Watched | None:
        parent = self.alive.get(parent_of(pid) or 0)
        # The children of a Redis server save its data: they share its memory, which counts once.
        return self._add(parent.role, pid, parent) if parent and parent.role != "redis" else None

    def _add(self, role: str, pid: int, parent: Watched | None) -> Watched | None:
        if pid in self.alive:
            taken = (role, self.alive[pid].role) != ("worker", "api") or self.alive[pid].root or "api" in self.pids
            if parent or taken or "worker" not in self.narrowed:
                return None
            self._forget(pid)  # started by the API, and known for a worker only now
        try:
            process = psutil.Process(pid)
            argv, started, name = process.cmdline(), process.create_time(), name_of(process)
        except psutil.Error:
            return None  # ended between the list and the look
        sample = read_memory(process)
        if sample is None:
            return None
        below: list[int] = []
        if parent is None:  # a match below a watched process (a work-horse, a scheduler) is part of its tree
            machine = Machine()
            below = machine.tree(pid)[1:]
            above = (self.alive.get(p) for p in machine.ancestors(pid))
            parent = next((w for w in above if w and w.role == role), None)
        serves = parent is None or self._serves(role, pid, argv, parent)
        peak = max(sample.rss, sample.high_water or 0.0)  # new since the last look, so is its peak
        self.alive[pid] = watched = Watched(process, role, name, started, program_line(argv), parent is None, serves,
                                            sample, peak, 0.0, peak, parent.process.pid if parent else None)
        for child in below:
            if child not in self.own:
                self._adopt(child)
        return watched

    def _serves(self, role: str, pid: int, argv: Sequence[str], parent: Watched) -> bool:
        """Whether a child takes tasks by itself, as its parent or for it; a work-horse or a helper does not."""
        if role == "api":
            return serves_api(pid, argv)
        above = self.alive.get(parent.parent or 0)
        forks = CLUSTER.match(parent.line) or (FORKING.match(parent.line) and not (above and FORKING.match(above.line)))
        return role == "worker" and matches_role(PATTERNS["worker"], argv) and bool(forks or not is_worker(parent))

    def serving(self) -> Counter[str]:
        """How many processes serve each role; a child of a server that listens is a server, too."""
        for pid, watched in self.alive.items():
            # A child gets its socket, or its title, a moment after its birth.
            if watched.role == "api" and not watched.serves and time.time() - watched.started < NEW_S:
                with contextlib.suppress(psutil.Error):  # it has just ended
                    watched.serves = serves_api(pid, watched.process.cmdline())
        return Counter(w.role for w in self.alive.values() if w.serves)

    def reading(self) -> Reading:
        """What each role holds as last read."""
        rss, private, _ = role_sums(self.alive.values())
        return Reading(time.monotonic(), rss, private, frozenset(self.alive))

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
            # A risen VmHWM is a peak between two samples, however short it was.
            watched.tick_peak = max(sample.rss, high if high > watched.high_water else 0.0)
            watched.peak = max(watched.peak, watched.tick_peak)
            watched.high_water, watched.sample = high, sample
        return ended


# ======================================================================================== the machine's memory

CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60  # bytes; version 1 of control groups writes about 2^63 where there is none
MOST_NAMED = 8  # names of unwatched processes recorded for their size, and as many for their growth; places of tmpfs
WORTH_NAMING_MB = 1.0
KERNEL = (b"SUnreclaim:", b"KernelStack:", b"PageTables:", b"SecPageTables:", b"Percpu:")  # of /proc/meminfo


@dataclass(frozen=True)
class GroupFiles:
    """What a version of the kernel's control groups calls its files, and entries of memory.stat."""

    use: str
    limit: str
    peak: str  # highest use
    events: str  # among them oom_kill
    inactive: str  # file pages that can be taken back first
    anonymous: str


GROUP_FILES = (
    GroupFiles("memory.current", "memory.max", "memory.peak", "memory.events", "inactive_file", "anon"),
    GroupFiles("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control",
               "total_inactive_file", "total_rss"))


@dataclass(frozen=True)
class Group:
    """A memory control group with a limit. MiB."""

    limit: float
    working_set: float
    peak: float | None

    @property
    def room(self) -> float:
        return self.limit - self.working_set


def group_folders(pid: int, root: Path = CGROUPS, proc: Path = Path("/proc")) -> tuple[Path, ...]:
    """Folders of a process's memory control group and of those above it, as far as they are there.

    In a container its own group is the root; where the path is the host's all the same, only the root is there. Raises
    OSError where the process has ended, and ValueError.
    """
    paths = {}
    for line in (proc / str(pid) / "cgroup").read_text(errors="surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        paths["memory" if "memory" in controllers.split(",") else controllers] = path
    base = root / "memory" if "memory" in paths else root
    own = base / paths.get("memory", paths.get("", "")).strip("/")
    if ".." in own.parts:  # of another container
        return ()
    return tuple(each for each in (own, *own.parents) if each.is_relative_to(base) and each.is_dir())


def files_of(folder: Path) -> GroupFiles | None:
    """None of the topmost group, which has no limit of its own (but in a container)."""
    return next((files for files in GROUP_FILES if (folder / files.limit).exists()), None)


def counts_in(path: Path) -> dict[str, int]:
    """Lines of a name and a number. Raises OSError and ValueError."""
    return {name: int(count) for name, count in map(str.split, path.read_text().splitlines())}


def read_group(folder: Path) -> Group | None:
    """None where the group has no limit, has gone, or is not written as the kernel does."""
    try:
        files = files_of(folder)
        most = (folder / files.limit).read_text().strip() if files else "max"
        if files is None or most == "max" or int(most) >= NO_LIMIT:
            return None
        stat, used, peak = counts_in(folder / "memory.stat"), int((folder / files.use).read_text()), folder / files.peak
        working_set = max(used - stat.get(files.inactive, 0), stat.get(files.anonymous, 0))
        return Group(int(most) / MIB, working_set / MIB, int(peak.read_text()) / MIB if peak.exists() else None)
    except (OSError, ValueError):
        return None


def group_kills(folder: Path) -> int | None:
    """Processes that any OOM killer ended in the group, in version 2 also in those below it; None: it does not say."""
    with contextlib.suppress(OSError, ValueError):
        if files := files_of(folder):
            return counts_in(folder / files.events).get("oom_kill")
    return None


@dataclass
class Limits:
    """Limits that the watched processes are under, read while their control groups live. Only the sampler has one."""

    roles: dict[Path, set[str]] = field(default_factory=dict)  # by the group that leaves least room
    members: dict[Path, set[Path]] = field(default_factory=dict)  # the same -> groups of the processes
    last: dict[Path, Group] = field(default_factory=dict)
    most: dict[Path, float] = field(default_factory=dict)  # highest working set in this window
    kills: dict[Path, int | None] = field(default_factory=dict)  # when it opened
    own_kills: dict[tuple[str, Path], int] = field(default_factory=dict)  # (role, group of a process) -> the same
    uncounted: set[str] = field(default_factory=set)  # roles with a process of which no group counts kills
    known: set[int] = field(default_factory=set)  # processes taken in since then

    def find(self, processes: Iterable[tuple[int, str]]) -> None:
        """Take in these processes (pid, role): once in a window, since that costs 0.2 ms for each."""
        for pid, role in ((pid, role) for pid, role in processes if pid not in self.known):
            self.known.add(pid)
            with contextlib.suppress(OSError, ValueError):  # it has just ended; not written as Linux does
                folders = group_folders(pid)
                counting = ((folder, count) for folder in folders if (count := group_kills(folder)) is not None)
                folder, count = next(counting, (None, 0))
                if folder is None:
                    self.uncounted.add(role)
                else:
                    self.own_kills.setdefault((role, folder), count)
                groups = {folder: group for folder in folders if (group := read_group(folder))}
                if groups:
                    tightest = min(groups, key=lambda folder: groups[folder].room)
                    self.roles.setdefault(tightest, set()).add(role)
                    self.members.setdefault(tightest, set()).add(folders[0])
                    self.kills.setdefault(tightest, self._killed(tightest))

    def read(self) -> None:
        for folder in self.roles:
            if group := read_group(folder):
                self.last[folder] = group
                self.most[folder] = max(group.working_set, self.most.get(folder, 0.0))

    def open_window(self) -> None:
        """Forget what has gone; a limit may have been changed."""
        self.roles = {folder: roles for folder, roles in self.roles.items() if folder.is_dir()}
        self.last, self.most, self.known = {}, {}, set()
        self.kills = {folder: self._killed(folder) for folder in self.roles}
        self.own_kills = {(role, folder): count for role, folder in self.own_kills
                          if (count := group_kills(folder)) is not None}
        self.uncounted.clear()
        self.read()

    def spared(self) -> frozenset[str]:
        """Roles of whose groups the kernel has killed no process since the window opened: others' kills are not theirs.
        """
        killed = {role for (role, folder), before in self.own_kills.items() if group_kills(folder) != before}
        return frozenset({role for role, _ in self.own_kills} - killed - self.uncounted)

    def containers(self) -> list[Container]:
        """What was seen of each since the window opened; of one that has gone, as it was last.

        A count that has fallen is that of a new group of the same name: a container that was started again.
        """
        found = []
        for folder, group in self.last.items():
            now, before = self._killed(folder), self.kills.get(folder)
            found.append(Container(
                shortened(str("/" / folder.relative_to(CGROUPS))), sorted(self.roles[folder]), round(group.limit, 3),
                round(group.working_set, 3), round(self.most[folder], 3), rounded(group.peak),
                None if now is None or before is None or now < before else now - before))
        return found

    def _killed(self, folder: Path) -> int | None:
        """In version 1 each group counts its own alone."""
        counts = map(group_kills, self.members[folder])
        kills = group_kills(folder)
        return None if kills is None else max(kills, *(count or 0 for count in counts))


@dataclass(frozen=True)
class MachineLook:
    """The whole machine at one moment. MiB."""

    at: float  # monotonic
    total: float
    sums: Mapping[str, float]  # used, watched, others, shared, kernel; without what cannot be read
    names: Mapping[bytes, tuple[float, int, float, int]]  # of unwatched processes: sum, number, largest, its pid
    tmpfs: Mapping[str, float]
    missing: Mapping[str, str]


def look_at_machine(watched: Collection[int], own: Collection[int], proc: str = "/proc") -> MachineLook:
    """Look at every process, so only where no task is running; those of `own` are left out."""
    at, host, swapped = time.monotonic(), psutil.virtual_memory(), psutil.swap_memory().used
    sums = {"used": (host.total - host.available + swapped) / MIB}
    names: dict[bytes, tuple[float, int, float, int]] = {}
    missing: dict[str, str] = {}
    try:
        meminfo = Path(proc, "meminfo").read_bytes()
        sums |= {"watched": 0.0, "others": 0.0}
        for what, lines in (("shared", (b"Shmem:",)), ("kernel", KERNEL)):
            if any(b"\n" + name in meminfo for name in lines):
                sums[what] = sum(kib_in(meminfo, name) for name in lines) / 1024
            else:
                missing[what] = "not in /proc/meminfo"
        for pid, name, held in held_by_each(proc, missing):
            if pid in watched:
                sums["watched"] += held
            elif pid not in own:
                sums["others"] += held
                total, count, most, of = names.get(name, (0.0, 0, 0.0, 0))
                names[name] = (total + held, count + 1, *max((most, of), (held, pid)))
    except OSError as error:  # not Linux
        missing["processes"] = str(error.strerror)
    return MachineLook(at, host.total / MIB, sums, names, used_tmpfs(watched), missing)


def held_by_each(proc: str, missing: dict[str, str]) -> Iterator[tuple[int, bytes, float]]:
    """(pid, name, MiB anonymous and swapped out) of each process that holds any; about 20 us each. Raises OSError."""
    for pid in filter(str.isdecimal, os.listdir(proc)):
        try:
            with open(f"{proc}/{pid}/status", "rb", buffering=0) as file:
                status = file.read(1 << 16)  # thousands of groups that a user is in come before its memory
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        except OSError as error:
            missing["others"] = str(error.strerror)
            continue
        if held := kib_in(status, b"RssAnon:") + kib_in(status, b"VmSwap:"):  # none: a kernel thread, a zombie
            yield int(pid), status[: status.find(b"\n")].removeprefix(b"Name:\t"), held / 1024


def kib_in(table: bytes, name: bytes) -> int:
    """The number behind a name in a table of /proc; 0 where it is not there. Faster than a regular expression."""
    at = table.find(b"\n" + name)
    return int(table[at + 1 + len(name) : table.find(b"kB", at)]) if at >= 0 else 0


def used_tmpfs(watched: Collection[int]) -> dict[str, float]:
    """MiB in each tmpfs by the place where it is mounted, here or for a watched process in a container."""
    places: list[str] = []
    with contextlib.suppress(OSError):  # a sandbox that does not say what is mounted
        places = [disk.mountpoint for disk in psutil.disk_partitions(all=True) if disk.fstype == "tmpfs"]
    used: dict[str, float] = {}
    seen = set()
    for place, path in [(p, p) for p in places] + [("/dev/shm", f"/proc/{pid}/root/dev/shm") for pid in watched]:
        with contextlib.suppress(OSError):  # unmounted since, or another user's
            number, mb = os.stat(path).st_dev, psutil.disk_usage(path).used / MIB
            if number not in seen:
                seen.add(number)
                used[place] = used.get(place, 0.0) + mb
    return used


@dataclass
class Ledger:
    """What the machine holds from one rest to the next, for the record. Used where no task is running."""

    first: dict[bytes, float] = field(default_factory=dict)  # name of unwatched processes -> MB when first seen

    def record(self, ended: MachineLook, rest: MachineLook, containers: list[Container]) -> MachineMemory:
        """`ended`, `rest`: looks at the end of a batch's last task and when memory had come to rest after it."""
        sizes = {name: total for name, (total, *_) in rest.names.items()}
        self.first = {name: self.first.get(name, mb) for name, mb in sizes.items()}
        chosen = {*largest(sizes), *largest({name: mb - self.first[name] for name, mb in sizes.items()})}
        others = [OtherProcesses(shortened(name.decode("utf-8", "replace")), program_of(pid), count, pid,
                                 round(mb, 3), round(mb - ended.names[name][0], 3) if name in ended.names else None)
                  for name, (mb, count, _, pid) in rest.names.items() if name in chosen]
        watched, unwatched, shared, kernel = (rounded(rest.sums.get(name))
                                              for name in ("watched", "others", "shared", "kernel"))
        gained = {name: round(mb - ended.sums[name], 3) for name, mb in rest.sums.items() if name in ended.sums}
        tmpfs = {shortened(place): round(rest.tmpfs[place], 3) for place in largest(rest.tmpfs)}
        return MachineMemory(
            round(rest.total, 3), round(rest.sums["used"], 3), watched, unwatched, shared, kernel, tmpfs, others,
            containers, round(rest.at - ended.at, 3), gained, dict(rest.missing))


def program_of(pid: int) -> str:
    """What a process runs, without paths and secrets; empty where that is not known any more."""
    try:
        return program_shown(program_line(psutil.Process(pid).cmdline()))
    except psutil.Error:
        return ""


def largest(sizes: Mapping[Any, float]) -> list[Any]:
    """The names of the few largest that are worth a line."""
    ordered = sorted(sizes, key=lambda name: -sizes[name])
    return [name for name in ordered[:MOST_NAMED] if sizes[name] >= WORTH_NAMING_MB]


# ================================================================================================ the sampler

TICK_S = 0.2  # trees and memory are looked at this often: a work-horse of 0.4 s is seen, at well under 1 % of a core
SCAN_S = 1.0  # the whole machine is searched for new roots this often
SETTLE_S = 2.0  # memory has come to rest when it kept within SETTLE_MB for this long
SETTLE_MB = 5.0
IDLE_CPU = 0.03  # share of a core below which a worker or work-horse is idle (RQ's heartbeat uses 0.001)
STRETCH_S = 10.0  # seconds in one line of the monitor
JOIN_S = 2.0  # a look takes 0.1 s; one that hangs in the system is not waited for
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
    gpu: Mapping[str, float | None] = field(default_factory=dict)  # role -> MiB on GPUs; None: not known


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
class ProcessView:
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
    oom_kills: int | None  # processes the kernel killed for lack of memory
    longest_gap: float  # seconds between two looks at the processes
    containers: tuple[Container, ...]
    spared: frozenset[str] = frozenset()  # roles whose processes are surely not among those killed

    def deaths(self, ends: Sequence[tuple[float, float]] = ()) -> list[Death]:
        """The endings for the record. `ends`: of each task, see Batch.ends().

        A worker may end with its task, before the next poll sees that. Of the others, which answer the polls or stand
        behind them, nothing is seen between the two moments just because they are down.
        """
        def tasks_at(e: Ending) -> int:
            return sum((unfinished if e.role == "worker" else ended) > e.at for unfinished, ended in ends)

        killed = None if self.oom_kills is None else self.oom_kills > 0
        return [e.as_death(tasks_at(e), e.role not in self.not_replaced, killed and e.role not in self.spared)
                for e in self.endings]


@dataclass(frozen=True)
class CpuUsage:
    """CPU seconds used so far, at one moment: who works while tasks run?"""

    at: float  # monotonic
    roles: Mapping[str, float]  # role -> its processes and those of their children that ended and were waited for
    watched: Mapping[int, float]  # pid -> the same, of each of these processes
    others: Mapping[int, float]  # pid -> CPU seconds, of every process that is not watched


@dataclass
class Window:
    """What the sampler gathers between two readings; nothing but the sampler ever holds one."""

    ended: list[Watched] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)
    reported: int = 0  # of them, the first so many
    serving: Counter[str] = field(default_factory=Counter)  # processes that served each role when it opened
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
        """Seconds between ticks, TICK_S at most: rows are written at whole ticks."""
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

    def __init__(self, table: ProcessTable, csv_path: Path | None, interval: float, works: str = "worker",
                 folder: int | None = None) -> None:
        self.table = table
        self.works = works  # the role that does the tasks
        self.interval = interval
        self.failure: str | None = None  # why memory or the CSV is recorded no more
        self.began = time.monotonic()  # elapsed seconds of the CSV count from here
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._latest: Reading | None = None
        self._last_busy = time.monotonic()
        self._csv = os.fdopen(create(csv_path, folder), "w", newline="", encoding="utf-8") if csv_path else None
        self._rows = csv.writer(self._csv) if self._csv else None
        self._total = psutil.virtual_memory().total / MIB
        self._window, self._limits = Window(), Limits()
        table.scan()
        self._limits.find((w.process.pid, w.role) for w in table.alive.values() if w.root)
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        if self._rows:
            self._rows.writerow(CSV_COLUMNS)
        self.began = time.monotonic()
        try:
            self._thread.start()
        except RuntimeError:
            raise CannotStart(f"The system gives this tool no thread to watch processes with; {MORE_THREADS}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(JOIN_S)
        if self._csv:
            with contextlib.suppress(OSError):  # every sample was flushed: a full disk was reported
                self._csv.close()

    def _run(self) -> None:
        plan = TickPlan(self.began, self.interval)
        try:
            for tick in schedule(plan, self._stop):
                stamp = datetime.now()  # of the tick, however long the look takes
                with self._changed:
                    self._window.longest_gap = max(self._window.longest_gap, tick.gap)
                    self._look(tick.at, tick.scan)
                    self._changed.notify_all()
                if tick.rows:
                    self._write_rows(tick.at, tick.at - plan.start, stamp)
        except Exception as error:  # nothing may pass for a measurement that is none
            known = isinstance(error, OSError)
            said = str(error) if known else f"a fault of this tool: {type(error).__name__}: {shortened(str(error))}"
            with self._changed:
                self.failure = f"sampling stopped ({said}): memory is not measured from here on"
                self.table.alive.clear()
                self._window.peaks.clear()
                self._latest = Reading(time.monotonic(), {}, {}, frozenset())

    def _look(self, now: float, scan: bool) -> None:
        self.table.scan() if scan else self.table.follow()
        self._read(now, identify=scan)
        alive = list(self.table.alive.values())
        rss, private, peaks = role_sums(alive)
        for role, peak in peaks.items():
            self._window.peaks[role] = max(peak, self._window.peaks.get(role, 0.0))
        if scan:
            self._limits.find((w.process.pid, w.role) for w in alive if w.root)
        self._limits.read()
        if scan and self._busy([w for w in alive if w.role == self.works]):
            self._last_busy = now
        self._latest = Reading(now, rss, private, frozenset(self.table.alive))

    def _read(self, now: float, *, identify: bool = True) -> None:
        for watched in self.table.read(identify=identify):
            self._window.ended.append(watched)
            if watched.serves or works_for_server(watched):
                pid = watched.process.pid
                left_work = any(w.parent == pid and not w.resident for w in self.table.alive.values())
                self._window.endings.append(Ending(now, watched.role, pid, watched.name, watched.root, left_work))

    def _busy(self, workers: Sequence[Watched]) -> bool:
        """Whether any worker or work-horse used CPU since the last scan: a horse that sleeps has hung like a worker."""
        busy = False
        for w in workers:
            with contextlib.suppress(psutil.Error):  # it has just ended; the next look says so
                before, w.cpu_seconds = w.cpu_seconds, sum(w.process.cpu_times()[:2])
                busy = busy or w.cpu_seconds - before > IDLE_CPU * SCAN_S
        return busy

    def _write_rows(self, now: float, elapsed: float, stamp: datetime) -> None:
        if not self._csv or not self._rows or self.failure:
            return
        iso = stamp.isoformat(timespec="milliseconds")
        try:
            for w in list(self.table.alive.values()):
                with contextlib.suppress(psutil.Error):  # died between the look and the row: drop it, keep the others
                    cpu = cpu_percent(w, now)
                    self._rows.writerow((iso, round(elapsed, 3), cell(w.name), w.process.pid, round(cpu, 1),
                                         round(w.sample.rss, 2), round(100 * w.sample.rss / self._total, 2)))
            self._csv.flush()
            if not os.fstat(self._csv.fileno()).st_nlink:
                raise FileNotFoundError("it has been deleted")
        except OSError as error:  # a full disk must not pass for a quiet machine; memory is measured all the same
            self.failure = f"the CSV ends early: {error}"

    def watched(self) -> list[ProcessView]:
        """The processes watched now, roots before their children."""
        with self._changed:
            ordered = sorted(self.table.alive.values(), key=lambda w: (ROLES.index(w.role), not w.root, w.started))
            return [ProcessView(w.role, w.process.pid, w.name, w.line, w.root, w.serves, w.sample.rss, w.sample.private)
                    for w in ordered]

    def warnings(self) -> list[str]:
        """What a person should know of how the processes were chosen."""
        with self._changed:
            return warnings_of(self.table)

    def latest(self) -> Reading | None:
        """The newest reading, None before the first."""
        with self._changed:
            return self._latest

    def idle_seconds(self) -> float:
        """How long no watched worker or work-horse has used CPU; 0 where nobody looks any more."""
        with self._changed:
            return time.monotonic() - self._last_busy if self._thread.is_alive() else 0.0

    def serving(self, role: str | None = None) -> int:
        """Processes alive that serve a role; those that take tasks where none is named."""
        with self._changed:
            return self.table.serving()[role or self.works]

    def endings(self) -> tuple[Ending, ...]:
        """Processes that served a role and ended in this window."""
        with self._changed:
            return tuple(self._window.endings)

    def cpu_usage(self) -> CpuUsage:
        """Look at every process of the machine: about 20 us each, so only where no task is running."""
        roles: dict[str, float] = {}
        watched, others = dict[int, float](), dict[int, float]()
        with self._changed:  # the scan walks through psutil's table of processes, too
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):  # it has just ended, or may not be looked at
                    used, ours = sum(process.cpu_times()[:4]), self.table.alive.get(process.pid)
                    if ours:
                        roles[ours.role] = roles.get(ours.role, 0.0) + used
                        watched[process.pid] = used
                    elif process.pid not in self.table.own:
                        others[process.pid] = used
        return CpuUsage(time.monotonic(), roles, watched, others)

    def limits(self) -> dict[Path, frozenset[str]]:
        """Roles by the control group whose limit leaves them least room."""
        with self._changed:
            return {folder: frozenset(roles) for folder, roles in self._limits.roles.items()}

    def machine(self) -> MachineLook | None:
        """Look at what every process of the machine holds: only where no task is running.

        None where nobody looks any more at which of them are watched: all would count as others.
        """
        with self._changed:
            watched = set(self.table.alive)
        return look_at_machine(watched, self.table.own) if self._thread.is_alive() else None

    def at_rest(self, timeout: float, aborted: threading.Event) -> Reading:
        """Wait until private memory of every role kept within SETTLE_MB for SETTLE_S and no process came or went.

        After `timeout` seconds (or an interruption) the median of the second half of the wait is returned with
        settled False: memory that never settles is not judged by the moment at which the wait ended.
        """
        begin = time.monotonic()
        since: list[Reading] = []
        with self._changed:
            while True:
                self._changed.wait(TICK_S * 2)
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
            self._window = Window(endings=unreported, oom_kills=oom_kills())
            self._limits.open_window()
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
            return Observed(processes, dict(window.peaks), tuple(window.endings), fewer,
                            None if kills is None or window.oom_kills is None else kills - window.oom_kills,
                            window.longest_gap, tuple(self._limits.containers()), self._limits.spared())


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


def cell(name: str) -> str:
    """A process's name as a spreadsheet shows it, and does not reckon with it."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def cpu_percent(watched: Watched, now: float) -> float:
    """CPU since the last call, percent of one core; of a process asked for the first time, over its whole age."""
    used = sum(watched.process.cpu_times()[:2])
    since, before = watched.last_row or (now - max(0.01, time.time() - watched.started), 0.0)
    watched.last_row = (now, used)
    return 100 * (used - before) / max(0.001, now - since)


def busiest_other(before: CpuUsage, after: CpuUsage) -> Busy | None:
    """The unwatched process that used most CPU in between; None where none used any."""
    used = {pid: cpu - before.others.get(pid, 0.0) for pid, cpu in after.others.items()}
    for pid in sorted(used, key=lambda p: -used[p]):
        if used[pid] <= 0:
            return None
        with contextlib.suppress(psutil.Error):  # it has just ended: the next one will do
            return Busy(pid, name_of(psutil.Process(pid)), round(used[pid], 2))
    return None


def oom_kills() -> int | None:
    """Processes the kernel killed for lack of memory since boot; None where it does not say."""
    try:
        words = Path("/proc/vmstat").read_text().split()
    except OSError:
        return None
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else None


# ============================================================================================== kinds of memory

KINDS_OF_MEMORY = ("heap", "arenas", "large", "stacks", "shared", "copied", "lazy", "mapped")
KINDS_SHARE = 0.01  # reading the mappings takes at most this share of the time since it was done last
ARENA = 64 * MIB  # glibc reserves as much for each arena but the first, at a multiple of it
GO_HEAP = 0xC0  # the upper half of the addresses of Go's heap, which has aligned regions of the same size
GUARD = 64 * 1024  # below a thread's stack lies a page, or a few, that may not be touched
MOST_MAPPED = 5  # mapped files that are recorded by name
DIAGNOSTIC_TOOLS = ("memray", "py-spy", "heaptrack", "jeprof", "gdb", "lldb", "go")  # the report says which are here
MOST_SHOWN = 160  # characters of a file's path, or of a variable
MAPPING = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)\n((?:[A-Z].*\n?)+)", re.M)
PAGES_KIB = re.compile(rb"^(Rss|Anonymous|Swap|LazyFree): *([1-9]\d*)", re.M)
SHARED = re.compile(r"/dev/shm/|/memfd:|/dev/zero|/SYSV|\[anon_shmem")
ALLOCATORS = {"jemalloc": re.compile(r"/libjemalloc"), "mimalloc": re.compile(r"/libmimalloc"),
              "tcmalloc": re.compile(r"/libtcmalloc"), "glibc": re.compile(r"/libc(?:-[\d.]+)?\.so")}
PYTHON = re.compile(r"/(?:lib)?python\d[\d.]*(?:\.so[\d.]*)?$")
TUNES = re.compile(r"(?:MALLOC_\w+|_RJEM_MALLOC_CONF|MIMALLOC_\w+|TCMALLOC_\w+|GLIBC_TUNABLES|PYTHONMALLOC|LD_PRELOAD|"
                   r"PYTORCH_(?:CUDA_)?ALLOC_CONF)=")


@dataclass(frozen=True)
class Area:
    """A mapping of a process's memory: addresses, access as rwxp, file or label, pages in KiB by the kernel's names."""

    begin: int
    end: int
    access: bytes
    name: str
    pages: Mapping[bytes, int]

    @property
    def private(self) -> int:
        return self.pages.get(b"Anonymous", 0) + self.pages.get(b"Swap", 0)

    def arenas(self, behind: Area | None) -> tuple[int, int]:
        """How many of glibc's arenas these are: with what is reserved behind them they end at a multiple of 64 MiB.

        And the KiB in use there. The kernel joins neighbours: below an arena may lie other blocks of the same mapping.
        Then only the last arena is known to be one, and it counts as in use up to its end.
        """
        whole = -(-self.end // ARENA) * ARENA
        reserved = behind and behind.access == b"---p" and behind.begin == self.end and behind.end >= whole
        first = max(self.begin, whole - ARENA) if self.begin % ARENA else self.begin
        fits = reserved if self.end < whole else first == self.begin
        if self.access != b"rw-p" or first % ARENA or self.begin >> 32 == GO_HEAP or not fits:
            return 0, 0
        return (whole - first) // ARENA, min(self.private, (self.end - first) // 1024)

    def is_stack(self, before: Area | None) -> bool:
        """Whether a guard lies directly below it."""
        return self.name.startswith("[stack") or (before is not None and before.access == b"---p" and
                                                  before.end == self.begin and before.end - before.begin <= GUARD)


def parse_kinds(smaps: bytes, environ: bytes = b"") -> Kinds:
    """Kinds of memory from the text of /proc/PID/smaps and /proc/PID/environ.

    Thread stacks whose guard is no mapping of its own (glibc 2.42 and later) count as large.
    """
    areas = [Area(int(begin, 16), int(end, 16), access, os.fsdecode(name),
                  {key: int(kib) for key, kib in PAGES_KIB.findall(body)})
             for begin, end, access, name, body in MAPPING.findall(smaps)]
    names = {area.name for area in areas if area.name.startswith("/")}
    allocator = next((one for one, library in ALLOCATORS.items() if any(map(library.search, names))), "other")
    kib, files, arenas = dict.fromkeys(KINDS_OF_MEMORY, 0), Counter[str](), 0
    for before, area, behind in zip([None, *areas], areas, [*areas[1:], None], strict=False):
        kib["lazy"] += area.pages.get(b"LazyFree", 0)
        if SHARED.match(area.name):
            kib["shared"] += area.pages.get(b"Rss", 0) + area.pages.get(b"Swap", 0)
        elif area.name.startswith("/"):
            kib["copied"] += area.private
            files[area.name] += area.pages.get(b"Rss", 0) - area.pages.get(b"Anonymous", 0)
        elif area.name == "[heap]":
            kib["heap"] += area.private
        else:
            count, used = area.arenas(behind) if allocator == "glibc" else (0, 0)
            arenas += count
            kib["arenas"] += used
            kib["stacks" if area.is_stack(before) else "large"] += area.private - used
    kib["mapped"] = files.total()
    go = any(area.begin >> 32 == GO_HEAP or area.name.startswith("[anon: Go") for area in areas)
    tuned = (os.fsdecode(one).partition("=") for one in environ.split(b"\0") if TUNES.match(os.fsdecode(one)))
    return Kinds(
        **{f"{kind}_mb": round(size / 1024, 3) for kind, size in kib.items()}, arenas=arenas, allocator=allocator,
        mapped_files={shortened(name, MOST_SHOWN): round(size / 1024, 3)
                      for name, size in files.most_common(MOST_MAPPED) if size},
        runtime="python" if any(map(PYTHON.search, names)) else "go" if go else "native",
        tuned={name: shortened(value, MOST_SHOWN) for name, _, value in tuned})


def read_kinds(pid: int) -> Kinds | None:
    """None where it has ended, is another user's, or the kernel does not tell. 70 ms at 2 GB in 3,000 mappings.

    It keeps the process from mapping memory meanwhile: only at rest.
    """
    try:
        smaps, environ = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("smaps", "environ"))
    except OSError:
        return None
    return parse_kinds(smaps, environ) if smaps else None


def read_holdings(pid: int, with_kinds: bool) -> Holdings:
    """Threads and files: about 1 us for each file. Mappings only where asked for."""
    try:
        threads = int(re.findall(rb"^Threads:\s*(\d+)", Path(f"/proc/{pid}/status").read_bytes(), re.M)[0])
    except (OSError, IndexError):
        threads = None
    try:
        files, sockets = len(os.listdir(f"/proc/{pid}/fd")), len(socket_inodes(pid))
        limit = re.findall(rb"^Max open files\s+(\d+)", Path(f"/proc/{pid}/limits").read_bytes(), re.M)
    except OSError:  # it has just ended, is another user's, or this is not Linux
        return Holdings(threads, None, None, None, None)
    return Holdings(threads, files, sockets, int(limit[0]) if limit else None, read_kinds(pid) if with_kinds else None)


# ======================================================================================================== GPUs

GPU_CSV_COLUMNS = ("timestamp", "elapsed_seconds", "gpu", "gpu_name", "pid", "process_name", "memory_mb",
                   "memory_total_mb", "utilization_percent")
GPU_LOOK_S = 1.0  # from one look at the GPUs to the next
GPU_WAIT_S = 5.0  # for a look, which takes milliseconds unless the driver hangs


@dataclass(frozen=True)
class GpuLook:
    """A GPU, or an instance of one, at one moment. MiB; None where the driver does not tell."""

    gpu: str
    name: str
    total: float | None
    used: float | None
    busy: float | None  # percent of the last moments in which it computed anything
    processes: Mapping[int, float | None] | None  # by pid, as the driver counts them: those of the host as a rule


class Nvml:
    """NVIDIA's management library, by the package nvidia-ml-py: all that this tool asks of it."""

    def __init__(self, module: Any) -> None:
        self._nvml = module

    def looks(self) -> list[GpuLook]:
        return [self._look(gpu, handle) for gpu, handle in self._devices()]

    def _devices(self) -> Iterator[tuple[str, Any]]:
        for number in range(self._ask("DeviceGetCount") or 0):
            handle = self._ask("DeviceGetHandleByIndex", number)
            if not (self._ask("DeviceGetMigMode", handle) or (0,))[0]:
                yield str(number), handle
                continue
            for place in range(self._ask("DeviceGetMaxMigDeviceCount", handle) or 0):
                if instance := self._ask("DeviceGetMigDeviceHandleByIndex", handle, place):
                    yield f"{number}:{place}", instance

    def _look(self, gpu: str, handle: Any) -> GpuLook:
        name, memory, busy = (self._ask(f"DeviceGet{what}", handle)
                              for what in ("Name", "MemoryInfo", "UtilizationRates"))
        computing, drawing = (self._ask(f"DeviceGet{what}RunningProcesses", handle) for what in ("Compute", "Graphics"))
        held = None if computing is None else {
            p.pid: None if p.usedGpuMemory is None else p.usedGpuMemory / MIB for p in [*(drawing or ()), *computing]}
        return GpuLook(gpu, shortened(str(name or "")), memory and memory.total / MIB, memory and memory.used / MIB,
                       busy and float(busy.gpu), held)

    def _ask(self, question: str, *about: Any) -> Any:
        """None where the driver does not tell: it does not know, we may not, the GPU or the driver itself is gone."""
        try:
            return getattr(self._nvml, f"nvml{question}")(*about)
        except self._nvml.NVMLError:
            return None


def gpu_driver() -> tuple[Nvml | None, str]:
    """The driver of this machine's GPUs; else why there are some and they are not watched."""
    why = "pip install nvidia-ml-py"
    with contextlib.suppress(ImportError):
        import pynvml
        try:
            pynvml.nvmlInit()
            return Nvml(pynvml), ""
        except pynvml.NVMLError as error:
            why = f"its driver says {error}"
    here = any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg")))
    return None, f"GPU memory is not watched: {why}" if here else ""


@dataclass(frozen=True)
class GpuReading:
    """All GPUs at one moment, and what each role holds there."""

    at: float  # monotonic; when it was begun
    looks: Sequence[GpuLook]
    held: Mapping[str, float | None]
    whole: frozenset[str]  # roles for which all that a GPU holds stands in
    busy: Mapping[str, float]  # role -> percent, of GPUs on which nobody else is


def attribute(at: float, looks: Sequence[GpuLook], roles: Mapping[int, str], works: str,
              exists: Callable[[int], bool] = psutil.pid_exists) -> GpuReading:
    """Whose memory that of the GPUs is: of `roles` by pid, else of the role that works, if nobody else is there.

    The driver knows no pid namespaces as a rule: in a container it numbers processes as the host does. Then none of
    its numbers is a process here, and all that the GPU holds is the best that can be known. It counts the driver's own
    few hundred MB, but these do not grow.
    """
    held: dict[str, float | None] = {works: 0.0 if looks else None}
    whole, busy = set(), dict[str, float]()
    numbered = any(pid in roles for look in looks for pid in look.processes or ())  # as processes are here
    for look in looks:
        there = look.processes
        ours = {pid: mb for pid, mb in (there or {}).items() if pid in roles}
        if there is not None and not ours and (not there or numbered or any(map(exists, there))):
            continue  # nobody uses it, or others do
        alone = there is not None and (len(ours) == len(there) if ours else len(there) <= len(roles))
        reported = bool(ours) and None not in ours.values()
        users = {roles[pid] for pid in ours} or {works}
        stands_in = alone and not reported and len(users) == 1
        for role in users:
            mb = look.used if stands_in else sum(
                mb or 0.0 for pid, mb in ours.items() if roles[pid] == role) if reported else None
            before = held.get(role, 0.0)
            held[role] = None if before is None or mb is None else before + mb
        whole |= users if stands_in else set()
        busy |= {role: max(look.busy, busy.get(role, 0.0)) for role in users if alone and look.busy is not None}
    return GpuReading(at, looks, held, frozenset(whole), busy)


class GpuMeter:
    """The one thread that asks the driver of the GPUs: it may hang, and must not keep the sampler from looking."""

    def __init__(self, driver: Nvml, sampler: Sampler, path: Path, folder: int | None = None) -> None:
        self._driver, self._sampler = driver, sampler
        self.failure: str | None = None  # why GPU memory is recorded no more
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._window: list[GpuReading] = []  # since the window opened
        self._latest: GpuReading | None = None
        self._csv = os.fdopen(create(path, folder), "w", newline="", encoding="utf-8")
        self._thread = threading.Thread(target=self._run, name="gpus", daemon=True)

    def __enter__(self) -> GpuMeter:
        csv.writer(self._csv).writerow(GPU_CSV_COLUMNS)
        try:
            self._thread.start()
        except RuntimeError:
            raise CannotStart(f"The system gives this tool no thread to watch GPUs with; {MORE_THREADS}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(SCAN_S)  # a driver that hangs is not waited for
        with contextlib.suppress(OSError):
            self._csv.close()

    def _run(self) -> None:
        plan = TickPlan(time.monotonic(), GPU_LOOK_S)
        try:
            for tick in schedule(plan, self._stop):
                if tick.rows:
                    self._look(tick.at - plan.start)
        except Exception as error:  # nothing may pass for a measurement that is none
            with self._changed:
                self.failure = f"GPU memory is not measured from here on ({type(error).__name__}: {error})"
                self._latest = None
                self._changed.notify_all()

    def _look(self, elapsed: float) -> None:
        began, stamp = time.monotonic(), datetime.now().isoformat(timespec="milliseconds")
        watched = {view.pid: view for view in self._sampler.watched()}
        looks = self._driver.looks()
        reading = attribute(began, looks, {pid: view.role for pid, view in watched.items()}, self._sampler.works)
        with self._changed:
            self._latest = reading
            self._window.append(reading)
            self._changed.notify_all()
        rows = csv.writer(self._csv)
        for look in looks:
            about = (stamp, round(elapsed, 3), look.gpu, cell(look.name))
            rows.writerow((*about, "", "", rounded(look.used, 1), rounded(look.total, 1), look.busy))
            rows.writerows((*about, pid, cell(watched[pid].name), rounded(mb, 1), "", "")
                           for pid, mb in (look.processes or {}).items() if pid in watched)
        self._csv.flush()

    def open_window(self) -> None:
        with self._changed:
            self._window = self._window[-1:]

    def at_rest(self, aborted: threading.Event) -> GpuReading | None:
        """A look begun from now on; None where the driver hangs or is asked no more, or the user ends the test."""
        now = time.monotonic()
        with self._changed:
            while not (self.failure or (self._latest and self._latest.at >= now)):
                if aborted.is_set() or time.monotonic() - now > GPU_WAIT_S:
                    return None
                self._changed.wait(SCAN_S / 2)
            return self._latest

    def observed(self, before: Reading, after: Reading, released: float, ended: float) -> dict[str, GpuMemory]:
        """What each role that ever held memory on a GPU did since the window opened, between these moments.

        And the role that works where the driver reported nothing at rest: that it holds none was true before.
        """
        with self._changed:
            window, roles = list(self._window), {}
        works = set() if after.gpu else {self._sampler.works}
        for role in works | {role for reading in window for role, mb in reading.held.items() if mb != 0.0}:
            known = [mb for reading in window if (mb := reading.held.get(role)) is not None]
            shares = ([r.busy[role] for r in window if role in r.busy and begin <= r.at <= end]
                      for begin, end in ((released, ended), (ended, math.inf)))
            busy, idle = (statistics.mean(each) if each else None for each in shares)
            roles[role] = GpuMemory(
                rounded(before.gpu.get(role)), rounded(after.gpu.get(role)), rounded(max(known, default=None)),
                any(role in reading.whole for reading in window), rounded(busy, 1), rounded(idle, 1))
        return roles


# ============================================================================================== the result log


class CannotRecord(EndsEarly):
    """The results cannot be written any more."""


def create(path: Path, folder: int | None = None) -> int:
    """Open a new file: never one that exists, nor where a link in its place leads. Raises OSError.

    `folder`: its folder, opened before; whatever has taken its name since does not count.
    """
    return os.open(path if folder is None else path.name,
                   os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)


def replace(path: Path, content: bytes, folder: int | None = None) -> None:
    """Put a whole new file in the place of what bears the name; a link there is not followed. Raises OSError."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    fd = create(new, folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        names = (new, path) if folder is None else (new.name, path.name)
        os.replace(*names, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):  # the folder has gone, too
            os.unlink(new if folder is None else new.name, dir_fd=folder)
        raise


def place_now(folder: int, path: Path) -> Path | None:
    """Where a file in an open folder is now; None where the folder has been deleted."""
    if os.fstat(folder).st_nlink == 0:
        return None
    try:
        return Path(os.readlink(f"/proc/self/fd/{folder}"), path.name)
    except OSError:  # not Linux
        return path


def cannot_record(path: Path, error: OSError) -> CannotRecord:
    if isinstance(error, FileNotFoundError):
        return CannotRecord(f"the test ends early: {path} has been deleted, with what was recorded in it")
    return CannotRecord(f"the test ends early: {path} cannot be written ({error.strerror}). What it holds is kept; "
                        f"make room (see: df -h {path.parent}) and run it again")


class LineFile:
    """A new file that is only appended to, a whole line at a time, each flushed and fsynced.

    append() raises CannotRecord, the constructor OSError.
    """

    def __init__(self, path: Path, folder: int | None = None) -> None:
        self.path, self._fd = path, create(path, folder)
        self._whole = 0  # bytes of whole lines on disk

    def append(self, text: str) -> None:
        """Write a line; where that fails the file is cut back to the lines before."""
        line = (text + "\n").encode()
        try:
            written = 0
            while written < len(line):
                written += os.write(self._fd, line[written:])
            os.fsync(self._fd)
            if not os.fstat(self._fd).st_nlink:
                raise FileNotFoundError
        except OSError as error:
            with contextlib.suppress(OSError):  # a torn line is skipped when read
                os.ftruncate(self._fd, self._whole)
            raise cannot_record(self.path, error) from None
        self._whole += len(line)

    def close(self) -> None:
        os.close(self._fd)


class ResultLog:
    """The JSONL: opened once, only appended to; a line is flushed and fsynced once and never touched again.

    The last result of a batch becomes a line when it is complete, that is when memory is at rest and it is known
    whether the run goes on after it. Until then it is safe in `<same name>.pending.json`. Methods raise CannotRecord,
    the constructor OSError.
    """

    def __init__(self, path: Path, folder: int | None = None) -> None:
        self.path, self.pending, self._folder = path, path.with_suffix(".pending.json"), folder
        self._reserved = False  # the pending file is ours
        self.results: list[TaskResult] = []  # in memory every result of a batch has what its last line has on disk
        self._held: TaskResult | None = None
        self._said: tuple[dict[str, Any], dict[str, Any]] | None = None  # settings and host on the last line
        self._file = LineFile(path, folder)

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
        try:
            if not self._reserved:
                os.close(create(self.pending, self._folder))
                self._reserved = True
            replace(self.pending, (self._line(result) + "\n").encode(), self._folder)
        except OSError as error:
            raise cannot_record(self.path, error) from None

    def release(self, *, end: bool = False) -> None:
        """Write the line of the result that is held, if any; `end` says that the run ends with it as it should."""
        if self._held:
            held, self._held = self._held, None
            held.end = end
            self._write(held)
            if self._reserved:
                self._reserved = False
                with contextlib.suppress(OSError):  # both whole: the line counts
                    os.unlink(self.pending if self._folder is None else self.pending.name, dir_fd=self._folder)

    def close(self) -> None:
        self._file.close()

    def _line(self, result: TaskResult) -> str:
        """Settings and host are written where they are new."""
        said = (result.settings, result.host)
        return (dataclasses.replace(result, settings={}, host={}) if said == self._said else result).to_json()

    def _write(self, result: TaskResult) -> None:
        self._file.append(self._line(result))
        self._said = (result.settings, result.host)


def role_memory(before: Reading, after: Reading, seen: Observed, cpu: Sequence[CpuUsage] = (),
                gpu: Mapping[str, GpuMemory] = MappingProxyType({})) -> dict[str, RoleMemory]:
    """The record's memory of every role that was watched at either reading or in between.

    `cpu`: looks at the release of the batch, at the end of its last task, and at the reading after.
    """
    return {role: RoleMemory(
        rounded(before.rss.get(role)), rounded(after.rss.get(role)), rounded(before.private.get(role)),
        rounded(after.private.get(role)), rounded(seen.peaks.get(role)),
        [dataclasses.replace(p, used_cpu_s=used_cpu(p.pid, cpu)) for p in seen.processes.get(role, ())],
        *cpu_use(role, cpu), rounded(after.drift.get(role)), gpu.get(role))
        for role in ROLES if role in before.rss or role in after.rss or role in seen.peaks}


def used_cpu(pid: int, looks: Sequence[CpuUsage]) -> float | None:
    """CPU seconds of a process while the batch ran; None where it was not there all the time."""
    used = [look.watched[pid] for look in looks[:2] if pid in look.watched]
    return round(used[1] - used[0], 2) if len(used) == 2 and used[1] >= used[0] else None


def cpu_use(role: str, looks: Sequence[CpuUsage]) -> tuple[float | None, float | None]:
    """CPU seconds of a role while the batch ran, and percent of a core at rest; None where a death hides them."""
    used = [look.roles[role] for look in looks if role in look.roles]
    if len(used) < 3:
        return None, None
    release, ended, rest = used
    at_rest = 100 * (rest - ended) / max(0.1, looks[2].at - looks[1].at)
    # A process that died meanwhile took its count along: what is left may be less than before.
    return (round(ended - release, 2) if ended >= release else None, round(at_rest, 1) if rest >= ended else None)


def rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def host_facts() -> dict[str, Any]:
    programs = os.pathsep.join((os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable)))
    return {"name": socket.gethostname(), "cpus": os.cpu_count(), "tool_version": VERSION,
            "memory_mb": round(psutil.virtual_memory().total / MIB), "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()}", "clock": clock_facts(),
            "tools": [tool for tool in DIAGNOSTIC_TOOLS if shutil.which(tool, path=programs)]}


def clock_facts() -> dict[str, Any]:
    """What makes local times comparable with another machine's: the time zone, and whether NTP keeps the clock.

    `synchronised` and the largest possible error in seconds are the kernel's, as adjtimex(2) says; None where it does
    not.
    """
    zone = datetime.now().astimezone().utcoffset()
    state, timex = -1, ctypes.create_string_buffer(256)  # all zero: only asked, nothing is set
    with contextlib.suppress(AttributeError):  # not Linux
        state = ctypes.CDLL(None).adjtimex(timex)
    kept = None if state < 0 else state != 5  # TIME_ERROR: not synchronised
    largest_us = struct.unpack_from("@I3l", timex)[3]
    return {"utc_offset_s": zone.total_seconds() if zone else 0.0, "synchronised": kept,
            "max_error_s": largest_us / 1e6 if kept else None}


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
MOST_READINGS = 10_000  # no more are ever said to be enough
NORMAL_99, NORMAL_90 = 2.326348, 1.28  # one-sided quantiles: sure to 99 %, and seen in 90 % of runs
HORSE_SHARE = 0.5  # a child much smaller than its worker (sh, ffmpeg) is a tool of the job, not its work-horse
HORSE_MB = 8.0  # nor is what a shell forks while it waits (sleep: 1-5 MB)
WORK_FACTOR = 3  # a role that works uses so many times what it uses at rest (an idle worker: 0.1-0.2 % of a core)
ROLE_CPU_S = 0.05  # ... and at least this over all tasks: an API takes 2-40 ms for each
TELLING_CPU_S = 0.05  # five of the kernel's clock ticks: a clip that takes less of them cannot show it task by task
IDLE_SHARE = 0.2  # of the CPU that a batch of the clip takes: of those that take turns, what used less did none of it
WORK_SHARE = 0.9  # of the others: where a second worker is not watched, half of them do not show it
GPU_WORK = 0.01  # of the time of all tasks: the driver tells whole percents


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
    """Memory stepped up, and not back: the place of the first reading above the others, and by how much, MB."""

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


def judge_tasks(readings: Sequence[float], *, workers: int, tolerance_mb: float = TOLERANCE_MB,
                min_cycles: int = MIN_CYCLES) -> GrowthVerdict:
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


def judge_history(readings: Sequence[float], *, tolerance_mb: float = TOLERANCE_MB, min_cycles: int = MIN_CYCLES,
                  turn: int = 1) -> GrowthVerdict:
    """The verdict on a series that was looked at after every reading: a verdict once reached stays.

    More readings are taken only because another role waits, or to be surer; noise in them does not undo a verdict.
    What does is evidence: the other verdict; for NO LEAK a rise that came later; for LEAK a fall of half the range.
    """
    judge = functools.partial(judge_growth, tolerance_mb=tolerance_mb, min_cycles=min_cycles, turn=turn)
    now, earlier, revoked = judge([]), None, None
    for points in looks(len(readings)):
        now = judge(readings[:points])
        if now.verdict != "INCONCLUSIVE":
            revoked = earlier if earlier and earlier.verdict != now.verdict else revoked
            earlier = now
        elif earlier and contradicted(earlier, now, readings[:points], tolerance_mb, turn):
            earlier, revoked = None, earlier
    found = earlier or now
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


def contradicted(earlier: GrowthVerdict, now: GrowthVerdict, readings: Sequence[float], tolerance_mb: float,
                 turn: int) -> bool:
    """Whether readings after a verdict speak against it, and do not only leave it open."""
    if earlier.verdict == "LEAK":
        return now.reason == "swings"
    rises = find_rises(readings, earlier.facts["slope"], tolerance_mb, turn)
    later = [rise for rise in rises if rise.place > earlier.cycles - turn]
    return bool(later) and cycles_by_size(rises, tolerance_mb) > now.cycles


def judge_growth(readings: Sequence[float], *, tolerance_mb: float = TOLERANCE_MB, min_cycles: int = MIN_CYCLES,
                 turn: int = 1) -> GrowthVerdict:
    """Judge settled readings y1 … yn, MB, one per cycle: LEAK, NO LEAK, or INCONCLUSIVE (run one more cycle).

    It must accuse: growth of a tolerance per cycle or more that goes on, clean or noisy, also on top of a warm-up
    that ends; jumps that keep coming; growth in one of several workers, now in this one, now in that.
    It must not accuse: a flat series, however noisy; a single jump, early or late; a warm-up that saturates; a
    saw-tooth and heaps that were collected while it looked; a random walk; memory that falls.
    It must not clear: any of the leaks; jumps that may only pause; fewer than `min_cycles` readings.
    It cannot distinguish a leak from a cache that is not yet full or a heap collected later than it looked, and
    says so; it clears growth below the tolerance, and says how much that is.

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


def seek_leak(readings: Sequence[float], tolerance_mb: float, min_cycles: int,
              turn: int) -> tuple[str, str, dict[str, Any]]:
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

    surely = late["slope"] > t_quantile(2 * window - 2) * (whole["sd"] * slope_factor(window, turn))
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


def seek_calm(readings: Sequence[float], tolerance_mb: float, min_cycles: int,
              turn: int) -> tuple[str, str, dict[str, Any]] | None:
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
    turn apart, divided by the turn, and show the noise of one.
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
    margin = t_quantile(df) * (sd * slope_factor(m, turn))
    return {"slope": slope, "low": slope - margin, "high": slope + margin, "sd": sd, "window": m + turn - 1}


@functools.cache
def slope_factor(readings: int, turn: int) -> float:
    """Standard error of a slope over so many means, each over a turn of cycles whose readings have an sd of 1.

    The weights that the slope gives to each cycle's own reading, summed as squares.
    """
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
    def shows(m: int) -> bool:
        return (t_quantile(m - 2) + NORMAL_90) * (sd * slope_factor(m, turn)) <= tolerance_mb

    m = bisect.bisect_left(range(MOST_READINGS), True, fewest_readings(turn), key=shows)
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


def judge_leak(results: Sequence[TaskResult], *, phase: str = "leak", tolerance_mb: float = TOLERANCE_MB,
               min_cycles: int = MIN_CYCLES, sampler_gap_s: float | None = None) -> dict[str, RoleVerdict]:
    """Verdict of every watched role, and of the one that works in any case, from the results of a phase of cycles.

    What a role holds on GPUs is a series of its own, as "worker GPU".

    `sampler_gap_s`: the longest time between two samples, where more is known of it than is in the results. Like theirs
    it counts without the warm-up round, which is not judged.
    """
    of_phase = [result for result in results if result.phase == phase]
    judge = Judge(tolerance_mb, min_cycles, workers_in_turn(of_phase))
    watched = {working_role(of_phase)}.union(*(result.memory for result in of_phase))
    gap_s = max([sampler_gap_s or 0.0, *(result.sample_gap_s or 0.0 for result in of_phase if result.cycle)])
    on_gpu = {role for result in of_phase for role, memory in result.memory.items()
              if memory.gpu and memory.gpu.peak_mb is not None}  # else nothing of it was ever known
    judged = [role for role in ROLES if role in watched] + [f"{role} GPU" for role in ROLES if role in on_gpu]
    return {role: judge_role(role, of_phase, judge, gap_s) for role in judged}


def working_role(results: Sequence[TaskResult]) -> str:
    """The role that does the tasks: the API where it alone is watched and every answer was the result itself."""
    watched = {role for result in results for role in result.memory}
    synchronous = all(result.task_id is None for result in results if result.status == "success")
    return "api" if synchronous and "api" in watched and "worker" not in watched else "worker"


def workers_in_turn(results: Sequence[TaskResult]) -> int:
    """How many workers take turns: as many as got a task in the warm-up round, where later tasks come one by one."""
    one_by_one = all(result.concurrency == 1 for result in results if result.cycle)
    return max((result.concurrency for result in results if result.cycle == 0), default=1) if one_by_one else 1


def judge_role(role: str, results: Sequence[TaskResult], judge: Judge, gap_s: float) -> RoleVerdict:
    """Judge the role's readings at rest, and its work-horses; a LEAK in any of them is a LEAK."""
    (measure, around), process_role = readings_of(role, results), role.removesuffix(" GPU")
    after = [reading for _, reading in around]
    if all(reading is None for reading in after):
        return RoleVerdict(role, GrowthVerdict("NOT MEASURED", "not_measured", {}, None, None, 0), [], [], [])
    # A Redis server is known by its sockets, and keeps a result with less CPU than can be distinguished from idling.
    if process_role != "redis" and (idle := without_work(process_role, results)):
        return RoleVerdict(role, GrowthVerdict("NOT MEASURED", "no_work", idle, None, None, 0), [], [], [])
    series, breaks = cut_into_series(process_role, results, after)
    growth, judged = decide(role, results, series, breaks, judge)
    lost = [cycle for cycle, kind in breaks if kind == "missing_reading"]
    if growth.verdict == "NO LEAK" and lost and all(kind != "replaced" for _, kind in breaks):
        doubt = judge.cycles(without_gaps(results, after))
        if doubt.verdict == "LEAK":  # by readings that are not there
            facts = doubt.facts | {"cycle": lost[-1]}
            doubt = dataclasses.replace(doubt, verdict="INCONCLUSIVE", reason="missing_growth", facts=facts)
        growth = doubt if doubt.verdict == "INCONCLUSIVE" else growth
    horses = horse_series(results, judge) if role == "worker" else []
    growth = consider_horses(growth, horses, {result.clip for result in results if result.cycle})
    growth = withhold(growth, breaks, gap_s, results, judged)
    growth = dataclasses.replace(growth, facts=growth.facts | {"measure": measure})
    return RoleVerdict(role, growth, [(each.cycle, each.readings[-1]) for each in judged], breaks, horses)


def decide(role: str, results: Sequence[TaskResult], series: Sequence[list[CycleReadings]],
           breaks: Sequence[tuple[int, str]], judge: Judge) -> tuple[GrowthVerdict, list[CycleReadings]]:
    """The verdict on the role's series, and the cycles that it rests on.

    A leak in any unbroken series is a leak, whether its tasks succeeded or not, unless what grew were new processes
    that loaded their models one after another. Else it is judged by the growth within the lives of its processes, where
    they were replaced; else since the last task that failed: what fails proves nothing of what succeeds.
    """
    judged = [(judge.cycles(cycles), cycles) for cycles in series]
    leaking = next((each for each in judged if each[0].verdict == "LEAK"), None)
    growth, cycles = judged[-1]
    if role in ROLES and any(kind == "replaced" for _, kind in breaks):  # on GPUs it took its memory along
        within = judge_lives(role, results, breaks, judge)
        if leaking and within.verdict == "NO LEAK" and leaking[1] is not series[0]:
            return dataclasses.replace(within, verdict="INCONCLUSIVE", reason="replaced"), cycles
        return leaking or (within, cycles)
    if leaking:
        return leaking
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
    """The growth rule on the growth within the lives of recycled processes, put end to end, task by task.

    What they leak is contained by their end: how often that comes, and how much it keeps within bounds, is said.
    """
    lives, batches = lives_of(role, results), batches_per_cycle(results)
    size = max((result.concurrency for result in results if result.cycle), default=1)  # tasks of a batch
    growth = judge_steps(lives, batches, judge)
    replaced = [cycle for cycle, kind in breaks if kind == "replaced"]
    lives = [life for life in lives if life.recycled]
    whole = [life for life in lives if life.ended and 0 not in life.held] or lives  # the others are longer than is seen
    alive = Counter(place for life in lives for place in life.held)  # they share the tasks of a batch
    tasks = [sum(size / alive[place] for place in life.held) for life in whole]
    facts = growth.facts | {
        "cycle": replaced[-1], "times": len(replaced), "per_task": (growth.mb_per_cycle or 0.0) / batches / size,
        "tasks": round(statistics.median(tasks)) if tasks else 0,
        "contained": max((max(life.held.values()) - life.first_used for life in lives), default=0.0)}
    reason = {"LEAK": "recycled_leak", "NO LEAK": "recycled_calm"}.get(growth.verdict, "replaced")
    return dataclasses.replace(growth, reason=reason, facts=facts)


def judge_steps(lives: Sequence[Life], batches: int, judge: Judge) -> GrowthVerdict:
    """The verdict on the steps within lives, of which each life has fewer than it had batches.

    Where too few are left for so many cycles, growth that goes on in each batch accuses, too. And a life's first use
    of a further clip, where it did not give back memory, is as good as any other step to show that nothing grows. That
    takes steps of short and of long clips: of lives of four tasks, all that are left may be of one kind.
    """
    own = growth_shown(lives, [life.steps for life in lives])
    growth = judge.series(added_up(own)[::batches])
    if growth.verdict == "LEAK" or (growth.verdict == "NO LEAK" and of_every_kind(own, batches)):
        return growth
    by_batch = dataclasses.replace(judge, tolerance_mb=judge.tolerance_mb / batches).series(added_up(own))
    if by_batch.verdict == "LEAK":
        per_cycle = {name: by_batch.facts[name] * batches for name in ("slope", "low", "high")}
        return dataclasses.replace(by_batch, facts=by_batch.facts | per_cycle, mb_per_cycle=per_cycle["slope"],
                                   upper_bound_mb_per_cycle=per_cycle["high"])
    more = growth_shown(lives, [life.steps | {place: max(0.0, mb) for place, mb in life.first_uses.items()}
                                for life in lives])
    calm = judge.series(added_up(more)[::batches])
    undecided = dataclasses.replace(growth, verdict="INCONCLUSIVE")
    return calm if calm.verdict == "NO LEAK" and of_every_kind(more, batches) else undecided


def added_up(growth: Mapping[int, float]) -> list[float]:
    return [0.0, *itertools.accumulate(growth.values())]


def of_every_kind(places: Collection[int], batches: int) -> bool:
    """Whether these places of batches are of short and of long clips, which take turns."""
    return len({place % batches for place in places}) == batches



def without_work(role: str, results: Sequence[TaskResult]) -> dict[str, Any] | None:
    """Facts of a role whose processes did not do the work: its memory says nothing of the one that did; else None.

    Over all tasks its processes must have used clearly more CPU than at rest, or have forked work-horses; a worker so
    for each task long enough to show it. Judged where the record holds it, from as many batches as a slope needs.
    """
    batches = [list(b) for _, b in itertools.groupby((r for r in results if r.status == "success"), lambda r: r.batch)]
    uses = [CpuUse(b[-1], m.cpu_s, m.rest_cpu_percent / 100, max(r.processing_time or 0.0 for r in b)) for b in batches
            if (m := b[-1].memory.get(role)) and m.cpu_s is not None and m.rest_cpu_percent is not None]
    if len(uses) < WINDOW:
        return None
    at_rest = statistics.mean(use.at_rest for use in uses)
    most = {use.last.clip: max(u.cpu_s for u in uses if u.last.clip == use.last.clip) for use in uses}
    telling = [use for use in uses if role == "worker" and most[use.last.clip] >= TELLING_CPU_S]
    worked = sum(use.cpu_s > WORK_FACTOR * at_rest * use.seconds or has_forked(use.last) for use in telling)
    cpu_s, seconds = sum(use.cpu_s for use in uses), sum(use.seconds for use in uses)
    in_all = (cpu_s >= ROLE_CPU_S and cpu_s > WORK_FACTOR * at_rest * seconds) or any(has_forked(u.last) for u in uses)
    if (in_all and worked >= WORK_SHARE * len(telling)) or used_gpu(role, [use.last for use in uses]):
        return None
    others = Counter[tuple[int, str]]()
    for other in (use.last.busiest_other for use in uses):
        if other:
            others[other.pid, other.name] += round(1000 * other.cpu_s)
    pid, name = others.most_common(1)[0][0] if others else (None, None)
    return {"tasks": len(telling) or len(uses), "worked": worked, "pid": pid, "name": name}


def used_gpu(role: str, batches: Sequence[TaskResult]) -> bool:
    """Whether GPUs on which nobody else is were much busier while tasks ran than at rest: that is work, too.

    An engine may use as much CPU while it waits for tasks as while it works on them.
    """
    uses = [(gpu.busy_percent / 100, gpu.rest_busy_percent / 100, r.processing_time or 0.0) for r in batches
            if (gpu := r.memory[role].gpu) and gpu.busy_percent is not None and gpu.rest_busy_percent is not None]
    busy, at_rest = (sum(use[place] * use[2] for use in uses) for place in (0, 1))
    return len(uses) >= WINDOW and busy >= GPU_WORK * sum(use[2] for use in uses) and busy > WORK_FACTOR * at_rest


@dataclass(frozen=True)
class CpuUse:
    """CPU that a role used for a batch."""

    last: TaskResult
    cpu_s: float
    at_rest: float  # share of a core, afterwards
    seconds: float  # until its last task was done


def has_forked(result: TaskResult) -> bool:
    horse = work_horse(result)
    return horse is not None and (horse.peak_mb or 0.0) >= HORSE_MB


def readings_of(role: str,
                results: Sequence[TaskResult]) -> tuple[str, list[tuple[float | None, float | None]]]:
    """A role's readings before and after each task, MB: private memory where any is known ("private"), else RSS.

    Of "worker GPU" memory on GPUs ("gpu"), or all that a GPU holds where it stands in ("whole_gpu"); a role of which
    nothing is recorded there held nothing.
    """
    memories = [result.memory.get(role.removesuffix(" GPU")) for result in results]
    if role.endswith(" GPU"):
        on_gpus = [memory.gpu if memory else None for memory in memories]
        measure = "whole_gpu" if any(gpu and gpu.whole_gpu for gpu in on_gpus) else "gpu"
        return measure, [(gpu.before_mb, gpu.after_mb) if gpu else (0.0, 0.0) if memory else (None, None)
                         for gpu, memory in zip(on_gpus, memories, strict=True)]
    if any(memory and memory.private_after_mb is not None for memory in memories):  # never both in one series
        return "private", [(m.private_before_mb, m.private_after_mb) if m else (None, None) for m in memories]
    return "rss", [(m.before_mb, m.after_mb) if m else (None, None) for m in memories]


def cut_into_series(role: str, results: Sequence[TaskResult],
                    after: Sequence[float | None]) -> tuple[list[list[CycleReadings]], list[tuple[int, str]]]:
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


def batches_per_cycle(results: Sequence[TaskResult]) -> int:
    """Batches in a judged cycle."""
    batches, cycles = ({getattr(r, name) for r in results if r.cycle} for name in ("batch", "cycle"))
    return max(1, round(len(batches) / max(1, len(cycles))))


ProcessKey = tuple[int, str]  # pid, when it was started


@dataclass
class Life:
    """A process of a role at rest after each batch, MB: place of the batch -> what it held."""

    held: dict[int, float] = field(default_factory=dict)
    met: Counter[str] = field(default_factory=Counter)  # clip -> batches in which it may have worked on it
    idle: set[int] = field(default_factory=set)  # places of batches in which it surely did not work
    steps: dict[int, float] = field(default_factory=dict)  # growth after its first use of each clip
    first_uses: dict[int, float] = field(default_factory=dict)  # growth at its first use of each clip
    ended: int | None = None  # place of the batch in which it ended
    recycled: bool = False  # was not there all the time, and large enough to count

    def worked(self, place: int) -> bool:
        """Whether it is one of the recycled processes that may have worked in a batch."""
        return self.recycled and place not in self.idle and (place in self.held or place == self.ended)

    @property
    def loaded(self) -> int:
        """Place of the last batch in which its memory doubled or more: as a rule that in which it loaded its model."""
        steps = self.first_uses | self.steps
        return max((place for place, mb in steps.items() if mb > self.held[place] / 2), default=-1)

    @property
    def first_used(self) -> float:
        """What it held when it had met each clip."""
        before = min(self.steps, default=None)
        return max(self.held.values()) if before is None else self.held[before] - self.steps[before]


def lives_of(role: str, results: Sequence[TaskResult]) -> list[Life]:
    """The lives of a role's long-lived processes at rest over the batches of a phase.

    The batch in which a process ended is no part of its life: its last sample may be of a process half gone. Which of
    several worked on a clip their CPU shows. Where it does not, they are taken to take turns: each has met a clip when
    that came up as often as there are of them.
    """
    lives: dict[ProcessKey, Life] = {}
    last = list({result.batch: result for result in results if role in result.memory}.values())
    held_at = [{(p.pid, p.started): p for p in result.memory[role].processes if not p.ended and p.held_mb is not None}
               for result in last]
    warm = max((place for place, result in enumerate(last) if not result.cycle), default=0)
    lasting = held_at[warm].keys() & held_at[-1].keys() if last else set()
    turns = turns_of([result.clip for result in last], held_at, lasting)
    for place, (result, held, (idle, needed)) in enumerate(zip(last, held_at, turns, strict=True)):
        for key, process in held.items():
            life = lives.setdefault(key, Life())
            life.recycled |= key not in lasting and counts(process)
            life.held[place] = process.held_mb or 0.0
            if place - 1 in life.held and result.cycle:
                steps = life.steps if key in idle or life.met[result.clip] >= needed else life.first_uses
                steps[place] = life.held[place] - life.held[place - 1]
            if key in idle:
                life.idle.add(place)
            else:
                life.met[result.clip] += place - 1 in life.held or process.resident
        for key in lives.keys() & {(p.pid, p.started) for p in result.memory[role].processes if p.ended}:
            lives[key].ended = place
    return [life for life in lives.values() if len(life.held) > 1]


def counts(process: ProcessMemory) -> bool:
    """Whether the end of a process matters to its role: it is a root, or large."""
    return process.root or (process.held_mb or 0.0) > TOLERANCE_MB


def turns_of(clips: Sequence[str], held_at: Sequence[Mapping[ProcessKey, ProcessMemory]],
             lasting: Collection[ProcessKey]) -> list[tuple[set[ProcessKey], int]]:
    """For each batch, which processes did none of its tasks, and in how many with a clip each other one has met it.

    Of those that take turns: the recycled ones and those like them, not their parent.
    """
    kinds = [{p.root for key, p in held.items() if key not in lasting and counts(p)} for held in held_at]
    peers_at = [{key: p for key, p in held.items() if counts(p) and p.root in kind}
                for held, kind in zip(held_at, kinds, strict=True)]
    busiest: dict[str, list[float]] = {}  # clip -> CPU seconds
    for clip, peers in zip(clips, peers_at, strict=True):
        busiest.setdefault(clip, []).append(max((p.used_cpu_s or 0.0 for p in peers.values()), default=0.0))
    work = {clip: statistics.median(used) for clip, used in busiest.items()}
    turns = []
    for clip, peers in zip(clips, peers_at, strict=True):
        used = {key: p.used_cpu_s for key, p in peers.items() if p.used_cpu_s is not None}
        shows = work[clip] >= TELLING_CPU_S
        idle = {key for key, cpu_s in used.items() if shows and cpu_s < IDLE_SHARE * work[clip]}
        turns.append((idle, 1 if shows else max(1, len(peers))))
    return turns


def growth_shown(lives: Sequence[Life], steps: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Growth of all lives by these steps of each, MB, over the batches that show it: place of the batch -> MB.

    A step counts once a process has loaded its model, which at least doubles what it held. A parent that lives on takes
    a step in every batch, which says nothing of its recycled children: a batch shows their growth where at least half
    of those that worked have a step, and that of the others is taken to be like theirs.
    """
    known = [{place: mb for place, mb in own.items() if place > life.loaded}
             for life, own in zip(lives, steps, strict=True)]
    growth = dict[int, float]()
    for place in sorted(set().union(*known)):
        there = [own.get(place) for life, own in zip(lives, known, strict=True) if life.worked(place)]
        seen = [mb for mb in there if mb is not None]
        if 2 * len(seen) >= len(there):
            others = sum(own.get(place, 0.0) for life, own in zip(lives, known, strict=True) if not life.worked(place))
            growth[place] = others + sum(seen) * len(there) / max(1, len(seen))
    return growth


def cycles_of_replacement(role: str, results: Sequence[TaskResult]) -> set[int]:
    """Cycles in which a root process (or another long-lived one with memory worth counting) ended or was replaced."""
    cycles: set[int] = set()
    known: set[ProcessKey] = set()
    for result in results:
        processes = result.memory[role].processes if role in result.memory else []
        roots = {(process.pid, process.started) for process in processes if process.root and process.resident}
        ended = [process for process in processes if process.ended]
        lost = any(each.root or (each.resident and counts(each)) for each in ended)
        if lost or (known and roots and roots != known):
            cycles.add(result.cycle or 0)
        known = set() if lost else roots or known
    return cycles


def withhold(growth: GrowthVerdict, breaks: Sequence[tuple[int, str]], gap_s: float, results: Sequence[TaskResult],
             judged: Sequence[CycleReadings]) -> GrowthVerdict:
    """Never NO LEAK where memory may have gone unseen; where too little is left to judge, say what broke the series."""
    facts: dict[str, Any]
    restless = {result.cycle for result in results if result.settled is False}
    unsettled = sum(each.cycle in restless for each in judged)
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
    """Work-horses of each clip in order of their jobs, the heaviest of each batch: all its results hold the same."""
    horses: dict[str, list[ProcessMemory]] = {}
    for result in {r.batch: r for r in results if r.cycle and r.status == "success"}.values():
        if horse := work_horse(result):
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


# ==================================================================================== what all phases work with

UNSEEN_REST_S = SETTLE_S + 1.5 * SCAN_S  # with --no-watch: monitors on the service's hosts read once a second
OWN_FILES = 64  # open files of this tool beside one connection per task
RESTART_WAIT_S = 2.0  # a supervisor brings a dead worker back within this time, or waits are taken for pointless
OVERTIME_S = 30.0  # a thread that has not come back so long after its task's time-out never will
PERHAPS_ACCEPTED = ("submit_timeout", "submit_reset", "bad_response", "task_timeout")
NAMELESS_IDLE_S = 3.0  # ... has ended when the workers were idle for so long: a few of the sampler's scans
ABORT_GRACE_S = 1.0
CLIENT_SPREAD = 0.10  # submit offsets beyond this share of the median turnaround: the tasks were not together
SPREAD_FLOOR_S = 0.05  # ... unless below what a busy host's scheduler makes of any two threads
CLIENT_CPU = 80.0  # percent of a core: this tool itself is near its limit
TICKER_S = 0.02
TICKER_LATE_S = 0.1
TICKER_LATE_SHARE = 0.01  # of the ticks: a single hiccup of a virtual machine does not make a level the client's


def memory_available() -> tuple[float, float]:
    """Memory that can be given out now, and all there is, MiB."""
    host = psutil.virtual_memory()
    return host.available / MIB, host.total / MIB


@dataclass
class Reserve:
    """The memory that is to stay free, and what the last batch took of it. MiB."""

    keep: float
    size: int = 1  # tasks of the last batch
    before: float = 0.0  # free before it; 0 where it may have loaded models, which the next one finds loaded, or the
    # container was not there
    lowest: float = math.inf  # free while it ran
    group: Path | None = None  # a container's limit counts, and not the machine's memory
    where: str = ""
    containers: dict[Path, Reserve] = field(default_factory=dict)

    @classmethod
    def for_settings(cls, s: Settings) -> Reserve:
        """Raises CannotStart where less than the reserve is free before anything is sent."""
        free, total = memory_available()
        keep = s.memory_reserve / 100 * total
        if free < keep:
            raise CannotStart(f"Only {free:,.0f} MB of memory are free, less than the reserve of {keep:,.0f} MB; free "
                              f"some, or lower --memory-reserve (now {s.memory_reserve:g} % of all)")
        return cls(keep)

    def count_limits(self, roles: Mapping[Path, Collection[str]], percent: float) -> None:
        """Keep as much free below the limits of these containers (by folder of the control group) as of the machine."""
        for folder in roles.keys() - self.containers.keys():
            if group := read_group(folder):
                where = f" below the limit of {group.limit:,.0f} MB of the {' and '.join(sorted(roles[folder]))}"
                self.containers[folder] = Reserve(percent / 100 * group.limit, group=folder, where=where)

    @property
    def tightest(self) -> Reserve:
        """This one, or that of the container in which the last batch left least more than is to stay free."""
        return min((self, *self.containers.values()), key=lambda each: each.lowest - each.keep)

    def free(self) -> float:
        if self.group is None:
            return memory_available()[0]
        group = read_group(self.group)
        return group.room if group else math.inf  # the container has gone

    def why_not(self, size: int) -> str | None:
        """Why so many tasks must not be sent: as the last batch shows they would take the reserve, or did."""
        now = self.free()
        if math.isinf(now):
            return None
        # What a batch has kept, the next one of its size uses again; a larger one keeps more in proportion.
        rest = max(now, self.before) if size > self.size else now
        left = now - max(0.0, rest - self.lowest) * size / self.size
        if left >= self.keep:
            return next(filter(None, (each.why_not(size) for each in self.containers.values())), None)
        return (f"{size} concurrent task{'s' * (size > 1)} would leave about {max(0.0, left):,.0f} MB of memory free"
                f"{self.where}, less than the reserve of {self.keep:,.0f} MB (--memory-reserve)")

    def begin(self, size: int, *, loads_models: bool) -> None:
        """A batch begins."""
        self.size, self.lowest = size, self.free()
        self.before = 0.0 if loads_models or math.isinf(self.lowest) else self.lowest
        for each in self.containers.values():
            each.begin(size, loads_models=loads_models)

    def look(self) -> str | None:
        """Look while a batch runs; the first time in it that the reserve is broken, the sentence that says so."""
        was, now = self.lowest, self.free()
        self.lowest = min(was, now)
        inside = next(filter(None, [each.look() for each in self.containers.values()]), None)
        if now >= self.keep or was < self.keep:
            return inside
        return (f"only {now:,.0f} MB of memory are free{self.where}, less than the reserve of {self.keep:,.0f} MB "
                "(--memory-reserve): as many tasks are not sent again")


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


class ToolFault(Exception):
    """A task thread of this tool broke: what was recorded is kept, and the run ends."""


@dataclass(frozen=True)
class Place:
    """Which part of the test a batch belongs to."""

    phase: str  # leak | concurrency
    cycle: int | None = None  # leak phase: 0 is the warm-up round
    level_run: int | None = None  # ramp: 0 is a warm-up task


@dataclass
class StressTest:
    """What both phases work with."""

    settings: Settings
    client: ApiClient
    short: Clips
    long: Clips
    sampler: Sampler | None  # None with --no-watch
    log: ResultLog
    screen: Screen
    aborted: threading.Event
    host: dict[str, Any]
    reserve: Reserve
    unused: Reading | None = None  # before the first task of all, which may load the model
    ledger: Ledger = field(default_factory=Ledger)
    drained: bool = True  # nothing of the last batch is unfinished
    batches: int = 0
    gpus: GpuMeter | None = None  # None: there is none, or it is not watched
    kinds_read: tuple[float, float] = (-math.inf, 0.0)  # when mappings were read last (monotonic), seconds it took

    def at_rest(self) -> Reading:
        """A settled reading of all watched processes (empty with --no-watch)."""
        if not self.sampler:
            return Reading(time.monotonic(), {}, {}, frozenset())
        self.screen.status(doing="waiting for memory to settle")
        reading = self.sampler.at_rest(self.settings.settle_timeout, self.aborted)
        gpu = self.gpus.at_rest(self.aborted) if self.gpus else None
        self.screen.trouble()
        return dataclasses.replace(reading, gpu=gpu.held) if gpu else reading

    def given_up(self, last_progress: float) -> TaskError | None:
        """Why waiting for a task is pointless: no worker is left, or all have been idle for the stall time-out."""
        if not self.sampler:
            return None
        died = [ending for ending in self.sampler.endings() if ending.role == self.sampler.works]
        still = min(time.monotonic() - last_progress, self.sampler.idle_seconds())
        if died and not self.sampler.serving() and time.monotonic() - died[-1].at > RESTART_WAIT_S:
            return TaskError("worker_died", pid=died[-1].pid, name=died[-1].name, workers_left=0)
        if still < self.settings.stall_timeout:
            return None
        if died:
            return TaskError("worker_died", pid=died[-1].pid, name=died[-1].name, idle_s=round(still))
        return TaskError("stalled", idle_s=round(still))

    def batch(self, clips: Clips, size: int, before: Reading, place: Place) -> tuple[list[TaskResult], Reading]:
        """Run `size` tasks released together; their results and the reading at rest after them.

        All results are on disk; the last one is held by the log until the next batch begins or the run ends. Raises
        EndsEarly (CannotSend where nothing is sent) and ToolFault.
        """
        if self.sampler:
            self.reserve.count_limits(self.sampler.limits(), self.settings.memory_reserve)
        if why := self.reserve.why_not(size):
            raise CannotSend(why, "memory_reserve")
        if size > (most := self.connections()):
            raise CannotSend(f"{size} connections need more open files than this shell allows (enough for {most:.0f}); "
                             f"raise it with: ulimit -n {2 * (size + OWN_FILES)}", "client_limited")
        recordings = [clips.take() for _ in range(size)]
        tasks = self.tasks(recordings)
        tasks.connect()
        self.log.release()
        self.batches += 1
        if self.sampler:
            self.sampler.open_window()
        if self.gpus:
            self.gpus.open_window()
        cpu = [self.sampler.cpu_usage()] if self.sampler else []
        meter = ClientMeter()
        self.reserve.begin(size, loads_models=0 in (place.cycle, place.level_run))
        tasks.release()
        results: list[TaskResult] = []
        outcomes: list[Outcome] = []
        for outcome in self._collect(tasks, meter):
            outcomes.append(outcome)
            results.append(self._result(outcome, recordings[outcome.number], size, before, place))
            (self.log.hold if len(results) == size else self.log.append)(results[-1])
            self.screen.status(done=f"{len(results)} of {size} done")
            if outcome.error_kind:
                self.screen.event(f"{results[-1].test_id} {outcome.status}: {outcome.words}")
        level = self._level_facts(tasks, meter, outcomes) if place.phase == "concurrency" else None
        if again := sum(outcome.reopened for outcome in outcomes):
            self.screen.event(f"the service closed {again} of {size} kept connections before anything was sent: opened "
                              "anew")
        if self.sampler:
            cpu.append(self.sampler.cpu_usage())
        self._drain(outcomes)
        ended = self.sampler.machine() if self.sampler else None
        after = self.at_rest()
        if not self.sampler:
            self.aborted.wait(min(UNSEEN_REST_S, self.settings.settle_timeout))
        self._complete(results, before, after, level, cpu, tasks.ends(outcomes), ended)
        if fault := next((outcome for outcome in outcomes if outcome.error_kind == TOOL_FAULT), None):
            raise ToolFault(fault.error)
        return results, after

    def tasks(self, recordings: Sequence[Recording]) -> Batch:
        """The tasks that submit these recordings, not started yet."""
        uploads = {number: self.client.prepare(one) for number, one in enumerate(recordings)}
        return Batch(self.client, uploads, self.settings.task_timeout, self.given_up, self.aborted)

    def connections(self) -> float:
        """How many this tool can hold at a time."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return math.inf if files == resource.RLIM_INFINITY else files - OWN_FILES

    def _level_facts(self, tasks: Batch, meter: ClientMeter, outcomes: Sequence[Outcome]) -> LevelFacts:
        reserve = self.reserve.tightest
        return dataclasses.replace(
            meter.level_facts(outcomes), host_available_min_mb=rounded(reserve.lowest),
            reserve_mb=rounded(reserve.keep))

    def stop(self, reason: str) -> None:
        """Record with the last result, whose line is still held, why its phase ended with it."""
        if self.log.results:
            last = self.log.results[-1]
            last.level = dataclasses.replace(last.level or LevelFacts(), stop_reason=reason)
            self.log.hold(last)

    def look_at_memory(self) -> None:
        """Say when less memory is free than is to stay so."""
        if broken := self.reserve.look():
            self.screen.event(f"WARNING {broken}")

    def _collect(self, tasks: Batch, meter: ClientMeter) -> Iterator[Outcome]:
        """Outcomes as they come. Those that do not come in time, or within a moment of an interruption, are made up."""
        missing = set(range(tasks.size))
        overdue = tasks.release_at + tasks.task_timeout + OVERTIME_S
        announced = 0
        while missing:
            if self.aborted.is_set():
                overdue = min(overdue, time.monotonic() + ABORT_GRACE_S)
            reason = None
            if time.monotonic() > overdue:
                reason = TaskError("interrupted", sent=True) if self.aborted.is_set() else (
                    TaskError("task_timeout", limit_s=tasks.task_timeout, exchange_ended=False))
            elif tasks.client.api.synchronous:  # who waits for such an answer looks at nothing else meanwhile
                reason = self.given_up(tasks.last_progress)
            if reason:
                for number in sorted(missing):
                    outcome = Outcome(number, "failed")
                    outcome.failed(reason.kind, str(reason), reason.facts)
                    yield outcome
                return
            outcome_or_none = meter.wait_for(tasks.outcomes)
            self.look_at_memory()
            if outcome_or_none:
                missing.discard(outcome_or_none.number)
                yield outcome_or_none
            elif self.sampler:
                for ending in self.sampler.endings()[announced:]:
                    self.screen.event(f"{ending.role} process {ending.pid} ({ending.name}) ended while "
                                      f"{len(missing)} task{'s were' if len(missing) > 1 else ' was'} unfinished")
                    announced += 1

    def _result(self, outcome: Outcome, sent: Recording, size: int, before: Reading, place: Place) -> TaskResult:
        """The line of one outcome, as far as it is known before memory has come to rest."""
        finished, clip = outcome.processing_time, sent.clip
        return TaskResult(
            test_id=f"{clip.path.stem}_c{size}_{len(self.log.results) + 1:04d}", phase=place.phase, batch=self.batches,
            timestamp=datetime.now().isoformat(timespec="milliseconds"), audio_file=clip.path.name,
            audio_path=str(clip.path), audio_size_mb=round(sent.size_bytes / 1e6, 3),
            audio_seconds=round(sent.seconds, 3), upload=sent.upload, concurrency=size, status=outcome.status,
            cycle=place.cycle, level_run=place.level_run,
            task_id=outcome.task_id and shortened(outcome.task_id), error_kind=outcome.error_kind, error=outcome.error,
            error_facts=outcome.error_facts, processing_time=rounded(finished), queue_time=rounded(outcome.queue_time),
            time_error=rounded(outcome.time_error), submit_offset=rounded(outcome.submit_offset, 4),
            load_host=outcome.load_host, empty_text=outcome.empty_text,
            service_seconds=rounded(outcome.service_seconds),
            rtf=rounded(finished / sent.seconds, 6) if finished is not None and outcome.status == "success" else None,
            worker_rss_before_mb=rounded(before.rss.get("worker")), settings=self.settings.for_record(),
            host=self.host)

    def _complete(self, results: Sequence[TaskResult], before: Reading, after: Reading, level: LevelFacts | None,
                  cpu: Sequence[CpuUsage], ends: Sequence[tuple[float, float]], ended: MachineLook | None) -> None:
        """Add what is known only at rest to the results in memory, and to the one that is held.

        `ends`: of each task, see Batch.ends(); `ended`: a look after them.
        """
        for result in results:
            result.level = level
        if self.sampler:
            seen, cpu = self.sampler.observed(), [*cpu, self.sampler.cpu_usage()]
            on_gpus = self.gpus.observed(before, after, cpu[0].at, cpu[1].at) if self.gpus else {}
            memory = role_memory(before, after, seen, cpu, on_gpus)
            if level:
                level.oom_kills = seen.oom_kills
            rest = self.sampler.machine()
            machine = self.ledger.record(ended, rest, list(seen.containers)) if ended and rest else None
            deaths = seen.deaths(ends)
            for result in results:
                result.settled, result.sample_gap_s = after.settled, rounded(seen.longest_gap)
                result.memory, result.deaths, result.machine = memory, deaths, machine
                result.busiest_other = busiest_other(cpu[0], cpu[1])
                add_worker_rss(result, memory.get("worker"))
        self.log.hold(results[-1])

    def add_holdings(self, last: TaskResult, needed: bool) -> None:
        """Add to the last line of a cycle what processes hold at rest; of their mappings where needed or cheap."""
        began, (then, took) = time.monotonic(), self.kinds_read
        needed = needed or took < KINDS_SHARE * (began - then)
        for memory in last.memory.values():
            memory.processes = [p if p.ended else dataclasses.replace(p, holdings=read_holdings(p.pid, needed))
                                for p in memory.processes]
        if needed:
            self.kinds_read = began, time.monotonic() - began
        self.log.hold(last)

    def _drain(self, outcomes: Sequence[Outcome]) -> None:
        """Wait for accepted tasks that were given up: what still runs would count against the next measurement."""
        left = {o.task_id for o in outcomes if o.task_id and o.processing_time is None and o.error_kind != "task_lost"}
        # Perhaps accepted, under a name that never came: only idle workers show that it has ended.
        nameless = any(not o.task_id and o.error_kind in PERHAPS_ACCEPTED for o in outcomes)
        begin, limit = time.monotonic(), self.settings.stall_timeout
        with self.client.session() as session:
            while not self.aborted.is_set():
                left = {task_id for task_id in left if not has_ended(self.client, session, task_id)}
                idle = self.sampler.idle_seconds() if self.sampler else 0.0
                nobody = self.sampler is not None and not self.sampler.serving()
                self.drained = not left
                waited = time.monotonic() - begin >= (min(limit, RECOVERY_S) if nobody else limit)
                # A dead worker's task may stay "processing" though nothing works on it any more.
                if waited or idle >= limit or not (left or (nameless and self.sampler and idle < NAMELESS_IDLE_S)):
                    return
                self.screen.status(doing="waiting for abandoned tasks")
                self.look_at_memory()
                self.aborted.wait(POLL_CEILING_S / 2)


def add_worker_rss(result: TaskResult, worker: RoleMemory | None) -> None:
    """The worker's RSS in fields of its own, which are easy to plot."""
    if worker:
        result.worker_rss_after_mb, result.worker_rss_peak_mb = worker.after_mb, worker.peak_mb
        if worker.before_mb is not None and worker.after_mb is not None:
            result.worker_rss_delta_mb = rounded(worker.after_mb - worker.before_mb)


def has_ended(client: ApiClient, session: Punctual, task_id: str) -> bool:
    try:
        seen = client.poll(session, client.question(task_id))
    except PollFailed:
        return False
    except TaskError:  # an answer without end: of a transcript or an error, and not of a task that waits
        return True
    return seen is None or seen.state in ENDED


# =============================================================================================== the leak phase

GIVE_UP_CYCLES = 3  # so many cycles in a row without a success: the service is broken, more of them show nothing new
MORE_WARM_UPS = 2  # rounds added at most where a worker still looks as if it had had no task
MOST_WARM_UP = 16  # concurrent tasks in the warm-up round, however many workers the service says it has


def warm_up(test: StressTest, before: Reading, clips: Sequence[Clips], size: int, more: int,
            place: Place) -> tuple[list[TaskResult], Reading]:
    """Tasks that are not judged, so that every worker has loaded its model: `size` concurrent ones of each clip.

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
    return works and test.sampler is not None and unloaded(test.sampler.watched(), test.sampler.works)


def unloaded(processes: Iterable[ProcessView], role: str) -> bool:
    """Whether one that takes tasks holds less than half of what the fullest does: it has not loaded its model yet."""
    held = [look.private or look.rss for look in processes if look.role == role and look.serves]
    return bool(held) and min(held) < max(held) / 2


def leak_phase(test: StressTest) -> None:
    """Cycles of one short and one long clip until the growth rule has decided for every role, or they are used up."""
    short, long, size = test.short, test.long, test.settings.at_once or 1
    with test.client.session() as session:  # on how many tasks it works concurrently, as far as it says or shows
        workers = max(test.client.workers(session) or 1, test.sampler.serving() if test.sampler else 1)
    test.screen.phase("leak", f"{size} x {short.path.name} and {long.path.name} per cycle", test.settings)
    before = test.at_rest()
    # What a GPU's allocator keeps is the mark of the longest clip, by as many tasks as will be released together.
    first = [clips.longest() if test.gpus else clips for clips in (short, long)]
    results, before = warm_up(test, test.unused or before, first, min(max(size, workers), MOST_WARM_UP),
                              MORE_WARM_UPS, Place("leak", cycle=0))
    again = first[0].repeat()
    if again and any(result.status == "success" for result in results) and not test.aborted.is_set():
        # Much faster than the distinct ones of the cycles: the service caches by content.
        _, before = test.batch(again, 1, before, Place("leak", cycle=0))

    def clips(cycle: int) -> tuple[Clips, ...]:
        # Workers take turns: in one order only, each of an even number would always get the same clip, and which of
        # the clips memory follows could not be distinguished from which worker it is in. So each turn has another one.
        return (short, long) if workers % 2 or (cycle - 1) // (workers // 2) % 2 == 0 else (long, short)

    run_cycles(test, "leak", before, clips, size)


def loaded_phase(test: StressTest, size: int) -> None:
    """The same level again and again, at rest in between: a high-water mark stays, a leak under load goes on."""
    test.screen.phase("loaded", f"{size} x {test.short.path.name} per cycle", test.settings)
    first = test.short.longest() if test.gpus else test.short
    _, before = warm_up(test, test.at_rest(), (first,), size, 0, Place("loaded", cycle=0))
    run_cycles(test, "loaded", before, lambda cycle: (test.short,), size)


def run_cycles(test: StressTest, phase: str, before: Reading, clips: Callable[[int], Sequence[Clips]],
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
        given_up, decided = without_success == GIVE_UP_CYCLES, decided and cycle >= s.min_cycles
        test.add_holdings(results[-1], needed=cycle == 1 or cycle == s.max_cycles or given_up or decided)
        if given_up:
            test.screen.event(f"{phase} phase ends: no task succeeded in {GIVE_UP_CYCLES} cycles")
        if given_up or decided:
            return


# ========================================================================================= the concurrency ramp

BASE_RUNS = 3  # level 1 is the base of every ratio
CONFIRM_RUNS = 3  # n tasks without failure prove a failure rate below 1 - 0.05^(1/n): 8 tasks < 31 %, 24 < 12 %
STOP_REASONS = {"worker_died": "worker_died", "process_died": "worker_died", "rtf_limit": "rtf_limit",
                "memory_reserve": "memory_reserve"}  # by breach
FAILURES = ("failure", "worker_died")
CLIENT_TRIES = 2  # runs in which this tool was the limit before its limit, and not a passing hiccup, ends the ramp
RECOVERY_S = 15.0  # longest wait for a service to be well again before a confirmation run


@dataclass(frozen=True)
class Breach:
    """What failed first at a level. Of several tasks that failed together, one is named."""

    concurrency: int
    test_id: str | None
    what: str  # an error_kind, worker_died, process_died, memory_reserve, rtf_limit or incomplete
    observed: float | None = None  # RTF; MiB of memory that were free; or lines, where some are missing
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
    interrupted: bool  # by the user or a fault of this tool, before anything failed: it shows nothing of the service
    rtf_max: float | None
    breach: Breach | None
    below_reserve: bool = False  # less memory was free than was to stay so


def was_recycled(death: Death, batch: Sequence[TaskResult], known: Collection[str] = ()) -> bool:
    """Whether a process ended between tasks and was replaced immediately, as with --max-jobs and --max-requests.

    A death is a crash where it cost something: a task of its batch failed, a child was left at work, nothing took its
    place, the kernel killed for lack of memory. Several concurrent tasks keep a server busy: there it is recycling only
    if the role is among the `known` ones that were recycled at one task at a time too.
    """
    cost = death.left_work or death.oom_kill or any(r.status != "success" for r in batch)
    if cost or (death.replaced is False and (death.root or death.unfinished)):
        return False
    alone = death.unfinished == 0 or batch[0].concurrency == 1
    return alone or death.role in known or (death.role == "worker" and death.left_work is False)


def crashes_and_recycled(results: Sequence[TaskResult]) -> tuple[list[Death], list[Death]]:
    """The deaths of a run (or of a part of it), crashes and recycling separately; in order."""
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
                    breach=find_breach(results, failed, deaths, level, rtf_limit),
                    below_reserve=level.below_reserve)


def find_breach(results: Sequence[TaskResult], failed: Sequence[TaskResult], deaths: Sequence[Death],
                level: LevelFacts, rtf_limit: float) -> Breach | None:
    """The first of: a dead process, a failed task, a missing line, memory below the reserve, an RTF at its limit."""
    size, oom_kills = results[0].concurrency, level.oom_kills or 0
    victim = next((r for r in failed if r.error_kind == "worker_died"), failed[0] if failed else None)
    what = (victim.error_kind or victim.status) if victim else None
    if deaths and what != "worker_died":
        what = "worker_died" if any(d.role == "worker" for d in deaths) else "process_died"
    if what:
        test_id, words, facts = (victim.test_id, victim.error, victim.error_facts) if victim else (None, None, {})
        return Breach(size, test_id, what, words=words, facts=facts, death=deaths[0] if deaths else None,
                      oom_kills=oom_kills)
    if len(results) != size:
        return Breach(size, None, "incomplete", len(results), size)
    if level.below_reserve:
        return Breach(size, None, "memory_reserve", level.host_available_min_mb, level.reserve_mb)
    slowest = max((r for r in results if r.rtf is not None), key=lambda r: r.rtf or 0.0, default=None)
    if slowest and rtf_limit and (slowest.rtf or 0.0) >= rtf_limit:
        return Breach(size, slowest.test_id, "rtf_limit", slowest.rtf, rtf_limit)
    return None


def ramp(test: StressTest) -> RampProgress:
    """Raise the number of concurrent tasks until something fails or a limit is reached, then confirm the answer."""
    s = test.settings
    test.screen.end = None  # the leak phase's
    test.screen.event(f"concurrency phase: {test.short.path.name}, level {s.start} to at most {s.max_concurrency}")
    progress = RampProgress(test, test.at_rest())
    progress.warm_up()
    progress.workers = test.sampler.serving() if test.sampler else 0
    for size in levels(s):
        if not progress.try_level(size):
            break
    else:
        progress.stop("max_concurrency")
    if s.step == DOUBLE:
        close_in(progress)
    confirm(progress)
    return progress


def levels(s: Settings) -> list[int]:
    """The levels from the first by steps; the highest asked for is the last whatever the step."""
    if isinstance(s.step, int):
        return [*range(s.start, s.max_concurrency, s.step), s.max_concurrency]
    doubled = itertools.takewhile(lambda n: n < s.max_concurrency, (s.start << n for n in itertools.count()))
    return [*doubled, s.max_concurrency]


def close_in(progress: RampProgress) -> None:
    """Halve the gap between the highest level without a breach and the lowest with one until they are neighbours."""
    low = max((size for size in progress.good if size < (progress.bad or 0)), default=None)
    while low and progress.bad and progress.bad - low > 1 and progress.recovered():
        middle = (low + progress.bad) // 2
        if progress.try_level(middle):
            low = middle
        elif progress.reason == "interrupted":
            return


def confirm(progress: RampProgress) -> None:
    """Run the failing level once more and the last good one until it has its runs; a failure lowers it by one step."""
    failing = progress.bad if progress.reason in FAILURES else None
    if failing:
        progress.good = [size for size in progress.good if size < failing]
        if not progress.recovered():
            return
        if progress.level(failing, progress.runs[failing] + 1, 0) is None:
            progress.test.screen.event(f"level {failing} is flaky: it failed, then passed; it counts as failed")
    while progress.good and progress.recovered():
        reason = progress.level(progress.good[-1], CONFIRM_RUNS, 0)
        if reason not in FAILURES:
            progress.confirmed = reason is None
            return
        failed = progress.good.pop()
        if not failing:  # this, and not what ended the ramp, is why the answer is no higher
            progress.stop(reason)
            failing = failed


@dataclass
class RampProgress:
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
        limited_runs = 0
        while self.runs.get(size, 0) < wanted:
            if self.test.aborted.is_set():
                return "interrupted"
            try:
                judged = self._run_once(size, rtf_limit)
            except CannotSend as limit:
                self.test.screen.event(limit.why)
                return limit.stop_reason
            if self.test.aborted.is_set():
                return "interrupted"
            if judged.client_limited:
                limited_runs += 1
                if limited_runs == CLIENT_TRIES or not self.test.drained:
                    return "client_limited"
                continue
            self.runs[size] = self.runs.get(size, 0) + 1
            if judged.breach:
                return STOP_REASONS.get(judged.breach.what, "failure")
        return None

    def _run_once(self, size: int, rtf_limit: float) -> LevelRun:
        test, began = self.test, time.monotonic()
        self.numbers[size] = number = self.numbers.get(size, 0) + 1
        test.screen.status(where=f"concurrency ramp, level {size} of at most {test.settings.max_concurrency}, "
                                 f"run {number}")
        self.last, self.before = test.batch(test.short, size, self.before, Place("concurrency", level_run=number))
        _, recycled = crashes_and_recycled(test.log.results)
        judged = judge_level_run(self.last, rtf_limit, {death.role for death in recycled})
        self.stable = judged.stable
        test.screen.level(self.last, judged)
        test.screen.expect(ramp_seconds_left(time.monotonic() - began, size, judged.rtf_max, test.settings))
        return judged

    def stop(self, reason: str) -> None:
        """The ramp ends with the last level run."""
        self.test.stop(reason)
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
            try:
                self.warm_up()
            except CannotSend as limit:
                test.screen.event(limit.why)
        if not self.stable:
            test.screen.event("WARNING the answer is not confirmed: the service did not recover from its failure "
                             "(unfinished tasks, missing workers, too little memory, or a single task fails)")
        return self.stable

    def _well(self) -> bool:
        test = self.test
        if not test.drained or (test.sampler and test.sampler.serving() < self.workers):
            return False
        try:
            with test.client.session() as session:
                return test.client.health(session).serves
        except (requests.RequestException, ValueError):
            return False  # that is what we are waiting to end


def loaded_size(test: StressTest, progress: RampProgress) -> int | None:
    """How many concurrent tasks the loaded cycles take if the ramp left memory behind: high-water mark or leak?

    That is where any role holds more at rest than `--delta-limit-mb` above what it held after its first use.
    """
    first = [r for r in test.log.results if r.phase == "leak" and r.cycle == 0]
    if not first or not progress.confirmed:
        return None
    held = {role: m.private_after_mb if m.private_after_mb is not None else m.after_mb
            for role, m in first[-1].memory.items()}
    now = {**progress.before.rss, **progress.before.private}
    grown = {role: now[role] - mb for role, mb in held.items() if mb is not None and role in now}
    over = [role for role, mb in grown.items() if mb > test.settings.delta_limit_mb]
    for role in over:
        test.screen.event(f"after the ramp the {role} holds {grown[role]:,.0f} MB more than after its first use: a "
                          "high-water mark or a leak? Loaded cycles will show")
    return (test.settings.at_once or progress.good[-1]) if over else None


# ================================================================================================ the terminal


class Screen:
    """What a person sees: one line with its time per event, and on a terminal a live line where rich is installed."""

    def __init__(self, quiet: bool, sampler: Sampler | None, gpus: GpuMeter | None = None) -> None:
        self.quiet, self.sampler, self.gpus = quiet, sampler, gpus
        self.began = time.monotonic()
        self.where = self.doing = self.done = ""
        self.said: set[str] = set()  # by once()
        self.end: float | None = None  # expected, on the monotonic clock
        self.live = None if quiet or not sys.stdout.isatty() else live_display(self._live_line)

    def __enter__(self) -> Screen:
        if self.live:
            try:
                self.live.start()
            except RuntimeError:  # no thread is left to draw with: events are printed all the same
                live, self.live = self.live, None
                with contextlib.suppress(RuntimeError):
                    live.stop()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            with contextlib.suppress(OSError):  # the terminal has gone
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

    def once(self, text: str) -> None:
        """An event that is asked for again and again, shown the first time."""
        if text not in self.said:
            self.said.add(text)
            self.event(text)

    def trouble(self) -> None:
        """Say once, and when it happens, that memory or the CSV is recorded no more."""
        for source in (self.sampler, self.gpus):
            if source and source.failure:
                self.once(f"WARNING {source.failure}")

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
        return printable(without_secrets(" · ".join(part for part in parts if part)))

    def cycle(self, cycle: int, results: Sequence[TaskResult], verdicts: Mapping[str, RoleVerdict]) -> None:
        """One line per leak cycle: memory at rest after it, and what the rule says so far."""
        last = results[-1].memory
        memory = ", ".join(f"{role} {m.after_mb:,.0f} MB" for role, m in last.items() if m.after_mb is not None)
        verdict = {"INCONCLUSIVE": "undecided yet"}
        says = ", ".join(f"{role} {verdict.get(v.growth.verdict, v.growth.verdict)}" for role, v in verdicts.items())
        times = ", ".join(took(list(batch)) for _, batch in itertools.groupby(results, key=lambda r: r.batch))
        self.event(f"cycle {cycle}: {times}; settled: {memory or 'not watched'}; {says or 'memory not judged'}")

    def level(self, results: Sequence[TaskResult], judged: LevelRun) -> None:
        """One line per level run."""
        times = [r.processing_time for r in results if r.status == "success" and r.processing_time is not None]
        took = f", {statistics.median(times):.1f} s (max {max(times):.1f})" if times else ""
        took += "" if judged.rtf_max is None else f", RTF {judged.rtf_max:.3f}"
        limited = ", this tool was the limit" if judged.client_limited else ""
        breach = f"; failed first: {judged.breach.what}" if judged.breach else ""
        self.event(f"level {judged.concurrency}, run {judged.run}: {judged.succeeded} of {judged.concurrency} done"
                   f"{took}{limited}{breach}")


def took(batch: Sequence[TaskResult]) -> str:
    """How long the tasks of a batch took, the slowest of several, and how many failed."""
    taken = [r.processing_time for r in batch if r.status == "success" and r.processing_time is not None]
    size = f"{len(batch)} x " if len(batch) > 1 else ""
    failed = len(batch) - len(taken)
    words = [f"{max(taken):.1f} s"] if taken else []
    words += [f"{failed} failed" if size else "failed"] if failed else []
    return f"{size}{batch[0].audio_file} {', '.join(words)}"


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


FAULT_HINT = ("This is a fault of this tool and says nothing about the service: please report the lines above. What "
              "was recorded is kept.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    usable_streams()
    try:
        settings = parse_command_line(argv)
    except Exception:  # Python's own status for it, 1, would say that the service failed a criterion
        say_error(f"{traceback.format_exc()}{FAULT_HINT}")
        return EXIT_INCONCLUSIVE
    if settings.list:
        return exit_status(settings, list_processes)
    return exit_status(settings, (lambda _: self_check()) if settings.self_check else run_test)


def exit_status(settings: Settings, run: Callable[[Settings], int]) -> int:
    """The exit status of a run; of what keeps it from its end one sentence, and the status that means it."""
    try:
        return run(settings)
    except CannotStart as error:
        say_error(f"Cannot start: {error}")
        return EXIT_NO_START
    except KeyboardInterrupt:  # before or after the phases, which take it themselves
        say_error("interrupted")
        return EXIT_INTERRUPTED
    except Exception:
        say_error(f"{traceback.format_exc()}{FAULT_HINT} It is in {settings.results_dir}; analyze_stress_test.py "
                  "judges it.")
        return EXIT_INCONCLUSIVE


def run_test(s: Settings, test_of: Callable[..., StressTest] = StressTest) -> int:
    """The whole test: check, watch, run the phases, report. `test_of`: makes the test from what it works with."""
    client = ApiClient(s.url, s.api, checked_token(), s.ca_bundle)
    loads = s.phase != "monitor"
    used = Counter[Path]()
    clips = [read_clips(path, s.vary_length, used) for path in (s.short_audio, s.long_audio)] if loads else []
    reserve = Reserve.for_settings(s) if loads else Reserve(0.0)
    warnings = [check_api(client), too_few_cycles(s), not_varied(s, clips)] if loads else []
    table = None if s.no_watch else find_processes(s)
    unused = table.reading() if table else None
    driver = None
    if table and unused:
        driver, held, seen = look_at_gpus(table, s)
        unused, warnings = dataclasses.replace(unused, gpu=held), [*warnings, *seen]
    os.close(open_folder(s.results_dir))  # a first task may take minutes, and the folder may go meanwhile
    if loads:
        if not s.quiet:
            say(f"{datetime.now():%H:%M:%S} a first task through the API {s.api.name}")
        warnings += probe(client, clips[0].clips[0], s.task_timeout)
    folder = open_folder(s.results_dir)
    jsonl, resources = new_files(s.results_dir)
    aborted = client.aborted
    if threading.current_thread() is threading.main_thread():  # else the program around it takes the signals
        end_with_signals(aborted)
    with writable(s.results_dir):
        sampler = Sampler(table, resources, s.interval, role_that_works(s.api, table), folder) if table else None
        gpus = GpuMeter(driver, sampler, gpu_file(resources), folder) if driver and sampler else None
    cut_short = False
    nothing = contextlib.nullcontext()
    with sampler or nothing, gpus or nothing, Screen(s.quiet, sampler, gpus) as screen:
        announce(screen, sampler, [w for w in warnings if w], clips)
        try:
            if loads:
                with writable(s.results_dir):
                    log = ResultLog(jsonl, folder)
                run_phases(test_of(s, client, clips[0], clips[1], sampler, log, screen, aborted, host_facts(), reserve,
                                   unused, gpus=gpus))
            elif sampler:
                with writable(s.results_dir):
                    lines = LineFile(host_file(resources), folder)
                cut_short = not monitor(s, sampler, screen, lines, aborted, gpus)
        except EndsEarly as error:
            cut_short = True
            screen.event(f"WARNING {error}")
        except ToolFault as fault:
            cut_short = True
            say_error(f"{fault}\n{FAULT_HINT}")
        for late in sampler.warnings() if sampler else ():
            screen.once(late)
        screen.trouble()
        screen.event(own_use(time.monotonic() - screen.began))
    status = report(s, folder, jsonl if loads else resources, resources if sampler else None, aborted)
    if aborted.is_set():
        return EXIT_INTERRUPTED
    return EXIT_INCONCLUSIVE if cut_short and status != EXIT_FAIL else status


def monitor(s: Settings, sampler: Sampler, screen: Screen, log: LineFile, aborted: threading.Event,
            gpus: GpuMeter | None = None) -> bool:
    """Record the host until Ctrl-C or for the duration; False where sampling failed before. Raises CannotRecord."""
    sampler.open_window()
    log.append(one_line({"schema": SCHEMA, "timestamp": datetime.now().isoformat(timespec="milliseconds"),
                         "elapsed_seconds": round(time.monotonic() - sampler.began, 3), "host": host_facts(),
                         "limits": {"memory_mb": rounded(psutil.virtual_memory().total / MIB),
                                    "swap_mb": rounded(psutil.swap_memory().total / MIB),
                                    "containers": [dataclasses.asdict(c) for c in sampler.observed().containers]},
                         "settings": s.for_record()}))
    screen.event(f"monitor phase: recording {f'for {clock(s.duration)}' if s.duration else 'until Ctrl-C'}")
    readings: list[Reading] = []
    ended = False
    for tick in schedule(TickPlan(sampler.began, SCAN_S), aborted):
        ended = s.duration is not None and tick.at - sampler.began >= s.duration
        if tick.rows and (reading := sampler.latest()):
            readings.append(reading)
            screen.trouble()
        if ended or sampler.failure:
            break
        if len(readings) > STRETCH_S / SCAN_S:
            log.append(one_line(host_stretch(sampler, readings)))
            del readings[:-1]
            sampler.open_window()  # forget those that have ended
            if gpus:
                gpus.open_window()
    if len(readings) > 1:
        log.append(one_line(host_stretch(sampler, readings)))
    log.close()
    return ended or aborted.is_set()


def host_stretch(sampler: Sampler, readings: Sequence[Reading]) -> HostStretch:
    """What was seen since the window was opened; the first reading ended the stretch before."""
    seen, (_, *new) = sampler.observed(), readings
    roles = [role for role in ROLES if any(role in each.rss for each in new)]
    return HostStretch(
        datetime.now().isoformat(timespec="milliseconds"), round(new[-1].at - sampler.began, 3),
        role_memory(readings[0], new[-1], seen), [round(each.at - sampler.began, 3) for each in new],
        {role: [rounded(each.rss.get(role)) for each in new] for role in roles},
        {role: [rounded(each.private.get(role)) for each in new] for role in roles},
        round(seen.longest_gap, 3), round(psutil.virtual_memory().available / MIB, 1), seen.oom_kills, seen.deaths())


def look_at_gpus(table: ProcessTable, s: Settings) -> tuple[Nvml | None, Mapping[str, float | None], Iterable[str]]:
    """The driver of this machine's GPUs, what each role holds there, and what a person should know of it.

    A driver may hang from the first question on: a thread of its own asks.
    """
    answers: queue.Queue[tuple[Nvml | None, str, list[GpuLook]]] = queue.Queue()

    def ask() -> None:
        try:
            driver, why = gpu_driver()
            answers.put((driver, why, driver.looks() if driver else []))
        except Exception as error:  # else it would pass for a driver that hangs
            answers.put((None, f"GPU memory is not watched ({type(error).__name__}: {error})", []))

    began = time.monotonic()
    try:
        threading.Thread(target=ask, name="first look at GPUs", daemon=True).start()
        driver, why, looks = answers.get(timeout=GPU_WAIT_S)
    except (queue.Empty, RuntimeError) as error:  # it hangs; or there is no thread to be had
        driver, why = None, f"GPU memory is not watched: {str(error) or 'its driver does not answer'}"
    if driver is None:
        return None, {}, [f"WARNING {why}"] if why else []
    roles = {pid: watched.role for pid, watched in table.alive.items()}
    seen = attribute(began, looks, roles, role_that_works(s.api, table))
    return driver, seen.held, gpus_shown(seen)


def gpu_file(resources: Path) -> Path:
    return resources.with_name(resources.name.replace("system_resources", "gpu", 1))


def gpus_shown(reading: GpuReading) -> Iterator[str]:
    """What is seen of each GPU, so that a person can tell whether it is right."""
    for look in reading.looks:
        memory = "memory not reported" if look.used is None else f"{look.used:,.0f} of {look.total or 0:,.0f} MB used"
        there = "processes not reported" if look.processes is None else ", ".join(
            f"process {pid} {'memory not reported' if mb is None else f'{mb:,.0f} MB'}"
            for pid, mb in look.processes.items()) or "no process"
        yield f"GPU {look.gpu} ({look.name or 'name not reported'}): {memory}; {there}"
    for role, mb in reading.held.items():
        if mb != 0.0:
            yield f"the {role} on GPUs: " + ("not known" if mb is None else f"{mb:,.0f} MB" + (
                ", all that the GPU holds: the driver does not tell whose it is" if role in reading.whole else ""))


def end_with_signals(aborted: threading.Event) -> None:
    """The first signal ends the test in order, a second one without delay, with files as they are: each line whole."""
    asked = False

    def end(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        try:  # in a thread: this one may be inside aborted.wait(), with the lock that set() would wait for
            _thread.start_new_thread(aborted.set, ())
        except RuntimeError:  # no thread to be had
            raise KeyboardInterrupt from None

    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sign) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(sign, end)


def run_phases(test: StressTest) -> None:
    """The phases asked for; the last line says whether they came to their end. Raises EndsEarly and ToolFault."""
    try:
        s = test.settings
        if s.phase in ("all", "leak"):
            leak_phase(test)
        progress = ramp(test) if s.phase in ("all", "concurrency") and not test.aborted.is_set() else None
        size = s.at_once if s.phase == "loaded" else progress and loaded_size(test, progress)
        if size and not test.aborted.is_set():
            loaded_phase(test, size)
        test.log.release(end=not test.aborted.is_set())
    except CannotSend as limit:
        test.stop(limit.stop_reason)
        raise
    finally:
        test.log.release()
        test.log.close()


def own_use(seconds: float) -> str:
    """What this tool took of the machine it measures, over the seconds of the test."""
    share, rss = 100 * time.process_time() / max(1.0, seconds), psutil.Process().memory_info().rss / MIB
    return f"this tool itself used {share:.1f} % of a core and {rss:.0f} MB"


def checked_token() -> str | None:
    """The API's token. Raises CannotStart where no HTTP header can carry it."""
    token = api_token()
    if token and not is_header(token):
        raise CannotStart("ASR_API_TOKEN holds characters that no HTTP header can carry; see: "
                          "printenv ASR_API_TOKEN | od -c")
    return token


def check_api(client: ApiClient) -> str | None:
    """Ask the health page, if any. Raises CannotStart; returns a warning where the service is not quite well."""
    with client.session() as session:
        try:
            health = client.health(session)
        except requests.RequestException as error:
            raise no_answer(client, str(error), type(error).__name__) from None
        except ValueError as error:
            raise CannotStart(f"API at {client.url} has no health page like this tool's ({error}); "
                              f"{try_it(client)} (for an API of another shape: --api)") from None
    if not health.serves:
        raise CannotStart(f"API says it is {health.status} ({health.words}); is a worker running? {try_it(client)}")
    return f"WARNING the API's health page says: {health.words}" if health.words else None


def try_it(client: ApiClient) -> str:
    return f"try: curl {client.url}{client.api.health or client.api.submit}"


def no_answer(client: ApiClient, words: str, why: str) -> CannotStart:
    if "certificate verify failed" in words:
        return CannotStart(f"The certificate of {client.url} cannot be verified "
                           f"({shortened(words, 200)}); name its authority's with --ca-bundle FILE")
    return CannotStart(f"API does not answer at {client.url} ({why}); {try_it(client)} (or name another with --url)")


PROBE_S = 2.0  # of the short clip: enough to show whether the description fits
PROBE_TIMEOUT_S = 600.0  # the service may have to load its model, or fetch it, first
PROBE_POLLS = 5  # without a usable answer in a row: about 3 s
DURATION_FACTOR = 2.0  # a service may pad what it gets; seconds taken for milliseconds are further off


def probe(client: ApiClient, clip: Clip, timeout: float) -> list[str]:
    """Send a little of the clip, so that what does not fit is known before any phase. Raises CannotStart.

    Returns lines for the screen. Where so little does not do (it may be silence), the whole clip goes out once.
    """
    tries = [excerpt(clip, PROBE_S), excerpt(clip, clip.seconds)]
    for sent in tries if tries[0].seconds < clip.seconds else tries[1:]:
        began = time.monotonic()
        try:
            seen = first_task(client, sent, min(timeout, PROBE_TIMEOUT_S))
        except TaskError as error:
            failure = error
            if error.kind in TIMEOUTS or error.kind == "submit_refused":
                break
        else:
            return [f"first task: {sent.seconds:.1f} s of {clip.path.name}, done in {time.monotonic() - began:.1f} s",
                    *doubts(client.api, sent, seen)]
    if failure.kind in BUSY:
        said = ": ".join(part for part in (failure.kind, facts_shown(failure.facts), str(failure)) if part)
        return [f"WARNING the service refused a first task ({said}); is it busy with others' work?"]
    raise misfit(client, sent, failure)


def first_task(client: ApiClient, sent: Recording, timeout: float) -> TaskState:
    """One task on its own, followed to its end. Raises TaskError."""
    tasks = Batch(client, {0: client.prepare(sent)}, timeout, lambda _: None, threading.Event())
    tasks.release_at, useless = time.monotonic(), 0
    with client.session() as session:
        for sight in exchange(tasks, session, Outcome(0, "failed")):
            useless = 0 if sight.state else useless + 1
            if useless == PROBE_POLLS:
                raise TaskError("bad_response", sight.trouble, field="status" if "unknown" in sight.trouble else "poll")
            if sight.state and sight.state.state == "failed":
                raise TaskError(kind_by_words("task_failed", sight.state.words),
                                sight.state.words or answered(sight.state))
            if sight.state and sight.state.state == "done":
                return sight.state
    raise AssertionError("a service that is asked again and again ends with an error")


def misfit(client: ApiClient, sent: Recording, failure: TaskError) -> CannotStart:
    """The sentence for a first task that failed: the field of the description to look at, and the service's answer."""
    api, code = client.api, failure.kind.removeprefix("submit_http_")
    where, problem = client.url, str(failure.facts.get("problem", ""))
    if failure.kind in ("submit_refused", "submit_reset"):
        return no_answer(client, str(failure), str(failure))
    if failure.kind in TIMEOUTS:
        known = [f"last seen {state}"] if (state := failure.facts.get("last_seen")) else []
        about = ", ".join([*known, *filter(None, [str(failure)])]) or failure.kind
        return CannotStart(f"A first task of {sent.seconds:.1f} s did not come to its end in time ({about}); "
                           f"is a worker running? {try_it(client)}")
    if code in ("401", "403"):
        look = "token_header, and the environment variable ASR_API_TOKEN"
    elif code != failure.kind:
        look = "submit" if code[0] == "3" or code == "405" else "submit, file_field and fields (--field KEY=VALUE)"
    elif failure.kind in ("gpu_oom", "out_of_memory"):
        return CannotStart(f"The service at {where} ran out of memory on a first task of {sent.seconds:.1f} s "
                           f"({failure.kind}): {failure}")
    elif failure.kind == "task_failed":
        look = "file_field and fields (--field KEY=VALUE)"
    elif failure.kind == "task_lost":
        look = "poll"
    else:
        look = str(failure.facts.get("field") or ("id" if problem == f"no {api.id}" else
                                                  "status" if problem.startswith("unknown") else "submit"))
    said = ": ".join(part for part in (f"HTTP {code}" if code != failure.kind else failure.kind, problem, str(failure))
                     if part)
    return CannotStart(f"The API at {where} does not fit the description {api.name}: a first task of "
                       f"{sent.seconds:.1f} s by {api.method} {api.submit} came to {said.rstrip('.')}. "
                       f"Look at the field {look}")


def answered(seen: TaskState) -> str:
    """The answer that a state was read from, for the screen."""
    return shortened(seen.answer.words) if seen.answer else ""


def doubts(api: ApiDescription, sent: Recording, seen: TaskState) -> list[str]:
    """Warnings of what a first task that is done shows."""
    lines = []
    if api.text and seen.empty_text is not False:
        what = "is empty" if seen.empty_text else "is not in the answer"
        lines.append(f"WARNING the text of the first task {what} (field text: {api.text}): {answered(seen)}")
    if seen.seconds and not 1 / DURATION_FACTOR < seen.seconds / sent.seconds < DURATION_FACTOR:
        lines.append(f"WARNING the service says that {sent.seconds:.1f} s of audio were {seen.seconds:.1f} s (fields "
                     f"duration: {api.duration}, duration_unit: {api.duration_unit}): {answered(seen)}")
    return lines


def not_varied(s: Settings, clips: Sequence[Clips]) -> str | None:
    """A warning where --vary-length cannot do what it is asked for."""
    fixed = [clip.path.name for one in clips for clip in one.clips if not clip.wav]
    if not s.vary_length or not fixed:
        return None
    return f"WARNING --vary-length works on wav alone: the length of {', '.join(fixed)} stays as it is"


def too_few_cycles(s: Settings) -> str | None:
    """A warning where the leak phase ends before the growth rule can clear anything."""
    needed = max(s.min_cycles, WINDOW)
    if s.phase == "concurrency" or s.max_cycles >= needed:
        return None
    return f"WARNING {s.max_cycles} cycles (--max-cycles) can only show a leak: NO LEAK needs {needed} (--min-cycles)"


SCAN_AGAIN_S = 0.25  # while a young worker is about to connect to its broker


def find_processes(s: Settings) -> ProcessTable:
    """Find what to watch. Raises CannotStart where what does the work or a process asked for is missing."""
    table = look_around(s)
    needed = {*s.watch, *s.pid} if s.phase == "monitor" else {role_that_works(s.api), *s.watch, *s.pid}
    found = {w.role for w in table.alive.values()}
    for role in (r for r in ROLES if r in needed - found):
        why = f" ({why_no_api(table)})" if role == "api" and table.finder.no_api else passed_over(table, role)
        raise CannotStart(f"{role.capitalize()} not found among this machine's processes{why}; {START_HINT[role]}. "
                          "See what there is with --list. To test a service on another machine without its memory: "
                          "--no-watch")
    if not found:
        raise CannotStart(f"Nothing to watch: no worker, API or backend process found; {START_HINT['worker']}")
    return table


def role_that_works(api: ApiDescription, table: ProcessTable | None = None) -> str:
    """Where the answer is the result the API does the tasks itself, unless workers are found behind it."""
    workers = table and any(watched.role == "worker" for watched in table.alive.values())
    return "api" if api.synchronous and not workers else "worker"


def look_around(s: Settings) -> ProcessTable:
    """Scan this machine, again while a young worker has no connection that shows whose it is."""
    table = ProcessTable.for_settings(s)
    end = time.monotonic() + CONNECT_S
    table.scan()
    while table.finder.waiting and time.monotonic() < end:
        time.sleep(SCAN_AGAIN_S)
        table.scan()
    return table


REASONS = {  # of a Choice; {about} is an address, or the name of a program
    "listens": "listens at {about}",
    "proxy": "listens on the API's port, but {about} passes requests on to other programs",
    "hands_on": "holds the API's port, but {about} hands it on to the service",
    "elsewhere": "{about} is no address of this machine",
    "nobody": "no process of this machine listens at {about}; is the API in a container?",
    "hidden": "what listens at {about} cannot be seen: another user's process, or one in a container",
    "both": "its queue is " + QUEUE_NAME + ", and it talks to the API's broker at {about}",
    "broker": "talks to the API's broker at {about}",
    "queue": "its queue is " + QUEUE_NAME + "; whether it talks to the API's broker cannot be seen",
    "unidentified": "a worker; neither its queue nor its broker shows whose",
    "other_broker": "talks to another broker ({about}) than the API",
    "other_queue": "does not name the queue " + QUEUE_NAME + ", as others do",
    "broker_not_seen": "is not seen to talk to the API's broker, as others are",
    "no_connection": "has no connection to a broker yet",
    "far_end": "API or worker talk to it",
    "unused": "neither API nor worker talk to it",
    "pattern": "its program is that of the role",
    "talks": "talks to the API or its broker",
    "talks_not": "is not seen to talk to the API or its broker",
    "young": f"has just started; its name alone counts after {YOUNG_S:.0f} s",
    "asked": "asked for with --watch or --pid",
    "other_port": "a web server, but not at the port of --url",
}
RQ_TITLE = re.compile(r"^rq:worker:.*?(?:: Listening on (.*)|$)")  # only while it listens it names its queues
WEB_SERVER = re.compile(r"^(?:\S*/)?(?:(?:uvicorn|gunicorn:?|hypercorn|granian|daphne|waitress-serve|uwsgi|vllm|"
                        r"whisper-server)(?:\s|$)|(?:fastapi|litestar|flask)\s+(?:run|dev)\b)")


def reason(choice: Choice) -> str:
    return REASONS[choice.why].format(about=choice.about or "an address not seen")


def program_shown(line: str) -> str:
    """A command line's first words, without paths and secrets."""
    return shortened(" ".join(os.path.basename(word) for word in without_secrets(line, command=True).split()[:3]), 60)


def why_no_api(table: ProcessTable) -> str:
    """Why nobody is known to be the API, and what helps."""
    choice = table.finder.no_api
    assert choice is not None
    help_ = {"hidden": " (run this tool as that user or with sudo)", "elsewhere": " (run this tool on the machine that "
             "runs the service)"}.get(choice.why, "")
    return (f"{choice.pid} ({program_shown(choice.line)}) " if choice.pid else "") + reason(choice) + help_


def passed_over(table: ProcessTable, role: str) -> str:
    """The processes that look like a role's and were not taken for it, in brackets."""
    choices = {"worker": table.finder.workers, "redis": table.finder.redis}.get(role, {})
    said = [f"{c.pid} ({program_shown(c.line)}) {reason(c)}" for c in choices.values() if not c.watched]
    return f" (passed over: {'; '.join(said[:3])}{' …' if len(said) > 3 else ''})" if said else ""


def list_processes(s: Settings) -> int:
    """Print what would be watched, and why each process was chosen or passed over."""
    table = look_around(s)
    finder = table.finder
    choices = {c.pid: c for found in (finder.redis, finder.backends, finder.api, finder.workers) for c in found.values()
               if c.role in table.narrowed}
    say("watched:" if table.alive else "watched: nothing")
    for w in sorted(table.alive.values(), key=lambda w: (ROLES.index(w.role), w.started)):
        chosen = choices.get(w.process.pid)
        why = f"below {w.parent}" + (", takes tasks" if w.serves else "") if not w.root else \
            reason(chosen) if chosen and chosen.role == w.role else \
            REASONS["asked" if w.role in s.watch or w.role in s.pid else "pattern"]
        say(f"  {w.role:<8}{w.process.pid:>8}  {shown_in_full(w.line)}: {why}")
    others = {pid: Choice("api", pid, p.line, False, "other_port") for pid, p in table.seen.items()
              if "api" in table.narrowed and WEB_SERVER.match(p.line)}
    others |= {pid: choice for pid, choice in choices.items() if not choice.watched}
    say("passed over:" if others.keys() - table.alive.keys() else "passed over: none")
    for pid, choice in sorted(others.items()):
        if pid not in table.alive:
            say(f"  {choice.role:<8}{pid:>8}  {shown_in_full(choice.line)}: {reason(choice)}")
    for warning in warnings_of(table):
        say(warning)
    driver, _, seen = look_at_gpus(table, s)
    for line in list(seen) or ["GPU: none seen"]:
        say(line)
    needed = {role_that_works(s.api)} if s.phase != "monitor" else set(ROLES)
    if needed & {w.role for w in table.alive.values()}:
        return EXIT_PASS
    say_error(f"nothing found that a test needs: {' or '.join(r for r in ROLES if r in needed)}")
    return EXIT_NO_START


def shown_in_full(line: str) -> str:
    return shortened(without_secrets(line, command=True), 160)


def warnings_of(table: ProcessTable) -> list[str]:
    """What a person should know of how the processes were chosen."""
    said = [f"WARNING --watch {role} finds process {pid} ({program_shown(table.seen[pid].line)}), which is the {other} "
            "as far as this tool can see" for pid, (role, other) in table.mistaken.items() if pid in table.seen]
    if not any(w.role == "api" for w in table.alive.values()) and ("api" not in table.narrowed or table.finder.no_api):
        why = f" ({why_no_api(table)})" if table.finder.no_api else ""
        said.append(f"WARNING API process not found{why}: its memory is not judged; "
                    f"{START_HINT['api']}")
    taken = {pid: table.alive[pid].role for pid, c in table.finder.api.items() if c.watched and pid in table.alive}
    said += [f"the API's process, {pid}, is watched as {role}" for pid, role in taken.items()
             if role != "api" and pid not in table.mistaken]
    if "worker" not in table.narrowed:
        return said
    ours = [c for c in table.finder.workers.values() if c.watched]
    name_yours = "name yours with --watch worker=REGEX or --pid worker=PID (see --list)"
    if any(c.why == "unidentified" for c in ours):
        said.append(f"WARNING which workers are this service's is not known (none names the queue {QUEUE_NAME}, and "
                    f"whether they talk to the API's broker is not seen): {count_of(ours)} watched; {name_yours}")
    elif len({RQ_TITLE.sub(r"\1", c.line) for c in ours} - {""}) > 1 and all(c.why == "broker" for c in ours):
        said.append(f"WARNING different workers talk to the API's broker, and none names the queue {QUEUE_NAME}: "
                    f"{count_of(ours)} watched; {name_yours}")
    elif len(ours) > 1 and any(c.why == "queue" for c in ours):
        said.append(f"WARNING {len(ours)} workers name the queue {QUEUE_NAME}, and whether all talk to the API's "
                    f"broker is not seen: {count_of(ours)} watched; {name_yours}")
    if others := [c for c in table.finder.workers.values() if not c.watched]:
        said.append(f"passed over {len(others)} worker{'s' * (len(others) > 1)}: {others[0].pid} "
                    f"({program_shown(others[0].line)}) {reason(others[0])} (see --list)")
    return said


def count_of(ours: Sequence[Choice]) -> str:
    return "all are" if len(ours) > 1 else "the one found is"


def open_folder(folder: Path) -> int:
    """The results folder, made if need be and proven writable; its descriptor. Raises CannotStart."""
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Raises CannotStart where files in the results folder cannot be made."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        helps = f" make room (see: df -hi {folder})" if full else f": sudo chown $USER {folder}"
        raise CannotStart(f"Results folder {folder} is not writable ({error.strerror}); name another with "
                          f"--results-dir, or{helps}") from None


def new_files(folder: Path) -> tuple[Path, Path]:
    """Names of this run's JSONL and CSV in the results folder."""
    while True:
        stem = datetime.now().strftime("%Y%m%d_%H%M%S")
        jsonl, resources = folder / f"memory_leak_stress_test_{stem}.jsonl", folder / f"system_resources_{stem}.csv"
        if not any(map(os.path.lexists, (jsonl, resources, host_file(resources), gpu_file(resources)))):
            return jsonl, resources
        time.sleep(0.1)  # another run began in this second


def host_file(resources: Path) -> Path:
    """What the monitor records beside the CSV."""
    return resources.with_name(resources.name.replace("system_resources", "host")).with_suffix(".jsonl")


def announce(screen: Screen, sampler: Sampler | None, warnings: Sequence[str], clips: Sequence[Clips]) -> None:
    """What is tested and what is watched, so that a person sees at a glance whether it is right."""
    for warning in warnings:
        screen.event(warning)
    for clip in dict.fromkeys(clip for option in clips for clip in option.clips):
        screen.event(f"clip {clip.path}: {clip.seconds:.1f} s, {clip.size_bytes / 1e6:.1f} MB")
    watched = sampler.watched() if sampler else []
    for w in (w for w in watched if w.root):
        screen.event(f"watching {w.role} {w.pid} ({program_shown(w.line)}): RSS {w.rss:.0f} MB")
    if below := sum(not w.root for w in watched):
        screen.event(f"watching {below} processes below them")
    for warning in sampler.warnings() if sampler else ["WARNING --no-watch: load only, memory is not judged"]:
        screen.once(warning)


def report(s: Settings, folder: int, recorded: Path, resources: Path | None, aborted: threading.Event) -> int:
    """Start the reader on the new files; its summary goes to the terminal, its exit status is ours."""
    before = aborted.is_set()
    if not os.path.lexists(recorded):
        now = place_now(folder, recorded)
        if not now or not now.exists():
            say(f"WARNING what was recorded in {s.results_dir} was deleted while the test ran: there is no result")
            return EXIT_INCONCLUSIVE
        say(f"WARNING {s.results_dir} was moved while the test ran")
        recorded, resources = now, resources and now.with_name(resources.name)
    say(f"results:   {host_file(recorded) if recorded == resources else recorded}")
    say(f"resources: {resources or 'not recorded (--no-watch)'}")
    reader = Path(__file__).resolve().with_name("analyze_stress_test.py")
    if not reader.exists():
        say(f"Recorded but not judged: {reader.name} is not beside this script. Judge it where it is: "
            f"python3 tests/{reader.name} {recorded}")
        return EXIT_INCONCLUSIVE
    command = [sys.executable, str(reader), str(recorded), "--lang", s.lang]
    if s.no_report:
        command += ["--no-charts", "--output", os.devnull]
    finished = False
    try:
        started = subprocess.Popen(command)
    except OSError as error:  # no more processes, or no memory for one
        say(f"Recorded but not judged: the report's process cannot be started ({error.strerror}). Make it with: "
            f"{shlex.join(command)}")
        return EXIT_INCONCLUSIVE
    with started as reading:
        try:
            while not finished and (before or not aborted.is_set()):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    finished = reading.wait(LOOK_UP_S) is not None and aborted.is_set() == before
        finally:
            if not finished:
                reading.kill()
                say(f"The report was not finished. The results are whole; make it with: {shlex.join(command)}")
    if reading.returncode < 0 and finished:  # it was killed, as for lack of memory
        say(f"The report was not finished. The results are whole; make it with: {shlex.join(command)}")
    return reading.returncode if reading.returncode >= 0 else EXIT_INCONCLUSIVE


def say(line: str, print_line: Callable[[str], None] = print) -> None:
    """Print a line without secrets and without anything that a terminal might obey: the door for all of it.

    Where the terminal or the reader of a pipe has gone, the test goes on for the sake of its files.
    """
    try:
        print_line(printable(without_secrets(line), "\n"))
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_error(line: str) -> None:
    """The same on standard error."""
    with contextlib.suppress(OSError):  # nobody is left to read it
        print(printable(without_secrets(line), "\n"), file=sys.stderr, flush=True)


def usable_streams() -> None:
    """Standard streams that are there and that show any character, by its number where they cannot.

    A closed one would be the first file that is opened next: the results.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
        stream = getattr(sys, name)
        if number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


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
PLANTED_CYCLES = LEAK_CYCLES + 1  # a slow leak takes so many, and one reading may not settle


def self_check() -> int:
    """Measure and judge a process that leaks and one that does not with the code of a test: can verdicts be trusted?"""
    commands = {"worker": f"{PLANTED_MB} keep", "api": f"{PLANTED_MB} free"}
    with contextlib.ExitStack() as stack:
        children = {role: stack.enter_context(subprocess.Popen(  # in a group of its own: Ctrl-C is not for it
            [sys.executable, "-c", PLANTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True)) for role in commands}
        table = ProcessTable({}, {role: (child.pid,) for role, child in children.items()}, set())
        sampler = stack.enter_context(Sampler(table, None, 1.0))
        say(f"{PLANTED_CYCLES} cycles: one process leaks {PLANTED_MB} MB in each, the other none")
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
        say(f"{name}: {verdict.verdict}{rate}")
    found = leak.mb_per_cycle or 0.0
    if leak.verdict == "LEAK" and calm.verdict == "NO LEAK" and abs(found - PLANTED_MB) < PLANTED_MB / 10:
        say("self-check passed: a verdict of this machine can be trusted")
        return EXIT_PASS
    say(f"self-check FAILED: a planted leak of {PLANTED_MB} MB per cycle was measured as {found:.1f}; "
          "do not trust a verdict of this machine")
    return EXIT_FAIL


if __name__ == "__main__":
    sys.exit(main())
