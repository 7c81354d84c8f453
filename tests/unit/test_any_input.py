"""The parsers of what comes from outside, on any input: a value, or the one error that they say they raise."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    APIS,
    ENDED,
    STATES,
    WORDS_LIMIT,
    Answer,
    ApiClient,
    ApiDescription,
    BadAnswer,
    Settings,
    TaskResult,
    TaskState,
    WrongDescription,
    answered,
    cell,
    endpoint,
    matches_role,
    parse_command_line,
    printable,
    program_line,
    read_description,
    shortened,
    without_secrets,
)
from stress_report import recording
from stress_report.judging import judge
from unit.reader_runs import healthy, numbered

EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
quick = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.sampled_from(["queued", "done", "failed", "processing", "error", "0", "task_id", "status", "text", "msg"])
SCALARS = (st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | WORDS
           | st.just("\ud83d") | st.just("x" * 5_000))
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    WORDS | st.text(max_size=5), inner, max_size=4), max_leaves=8)
BODIES = st.binary(max_size=200) | JSON.map(lambda content: json.dumps(content).encode("utf-8", "surrogatepass"))
FIELDS = [name for name in ApiDescription.__dataclass_fields__ if name != "name"]


# ------------------------------------------------------------------------------------------- answers of a service


@quick
@given(BODIES, st.integers(100, 999), st.sampled_from(sorted(APIS)))
def test_any_answer_is_a_state_or_a_bad_answer(body: bytes, code: int, api: str) -> None:
    client, answer = ApiClient("http://127.0.0.1:1", APIS[api]), Answer(code, body)
    assert isinstance(answer.words, str)
    seen: TaskState | str
    try:
        seen = client.read_state(answer)
    except BadAnswer as error:
        seen = str(error)
    if isinstance(seen, str):
        assert len(seen) < 2 * WORDS_LIMIT
        assert seen.isprintable()
        return
    assert seen.state in STATES
    assert not APIS[api].synchronous or seen.state in ENDED
    assert seen.seconds is None or 0 < seen.seconds < math.inf
    assert answered(seen).isprintable()
    assert len(answered(seen)) <= WORDS_LIMIT
    json.dumps(vars(seen) | {"answer": answered(seen)}).encode("utf-8")


@quick
@given(st.none() | st.text(max_size=30) | st.integers().map(str) | st.datetimes().map(
    lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")))
def test_any_wait_that_is_asked_for_is_seconds_or_unknown(said: str | None) -> None:
    seconds = Answer(503, b"", None, said).facts().get("retry_after_s", 0.0)
    assert 0 <= seconds < math.inf


# -------------------------------------------------------------------------------------------- descriptions of APIs


def described(content: str) -> ApiDescription | None:
    said = ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "api.json")
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        try:
            return read_description(path)
        except WrongDescription as error:
            said = str(error)
    assert str(path) in said
    assert "\n" not in said
    return None


@quick
@given(st.text(max_size=40) | JSON.map(json.dumps) | st.dictionaries(
    st.sampled_from(FIELDS), JSON | st.sampled_from(["/a", "/a/{id}", "a.b", "POST", "s"]), max_size=8).map(json.dumps))
def test_any_description_is_usable_or_one_sentence(content: str) -> None:
    if api := described(content):
        assert api.submit.startswith("/")
        assert api.state(200, {}) in (*STATES, None)
        ApiClient("http://127.0.0.1:1", api).get(api.poll or "/")
        json.dumps(Settings(api=api).for_record())


@quick
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=2))
def test_a_good_description_with_odd_fields_is_usable_or_one_sentence(changes: dict[str, Any]) -> None:
    described(json.dumps({"submit": "/a", "id": "id", "poll": "/a/{id}", "status": "s", "done": ["ok"]} | changes))


# ------------------------------------------------------------------------------------------------------- /proc


@quick
@given(st.binary(max_size=15), st.lists(st.integers(0, 2**40), min_size=4, max_size=4), st.integers(0, 2**22))
def test_a_process_of_any_name_has_its_parent(name: bytes, ticks: list[int], parent: int) -> None:
    stat = b"7 (" + name + b") S %d 7 7 0 -1 4194560 1 2 3 4 %d %d %d %d 20 0 1 0" % (parent, *ticks)
    with patch.object(Path, "read_bytes", lambda _: stat):
        assert instrument.parent_of(7) == parent


@quick
@given(st.binary(max_size=40).map(lambda name: name.replace(b"\n", b"")), st.dictionaries(
    st.sampled_from(["VmRSS", "VmHWM", "RssAnon", "RssFile", "RssShmem", "VmSwap"]), st.integers(0, 2**40)))
def test_any_status_of_a_process_is_its_memory_or_that_it_has_ended(name: bytes, kib: dict[str, int]) -> None:
    lines = b"".join(b"%s:\t%8d kB\n" % (key.encode(), value) for key, value in kib.items())
    with patch.object(Path, "read_bytes", lambda _: b"Name:\t" + name + b"\n" + lines):
        sample = instrument.read_memory(cast(Any, type("P", (), {"pid": 7})))
    assert (sample is None) is ("VmRSS" not in kib)
    if sample:
        parts = [kib.get(key, 0) for key in ("RssAnon", "RssShmem", "VmSwap")]
        assert sample.rss == kib["VmRSS"] / 1024
        assert sample.private == (pytest.approx(sum(parts) / 1024) if "RssAnon" in kib else None)


@quick
@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_address_of_a_socket_is_read_as_it_is(address: Any, port: int) -> None:
    words = struct.unpack(f">{len(address.packed) // 4}I", address.packed)
    order = ">" if sys.byteorder == "big" else "<"
    text = "".join(struct.pack(f"{order}I", word).hex().upper() for word in words)
    expected = getattr(address, "ipv4_mapped", None) or address
    assert endpoint(f"{text}:{port:04X}") == (str(expected) if expected.version == 4 else socket.inet_ntop(
        socket.AF_INET6, address.packed), port)


ARGV = st.lists(st.text(max_size=12) | st.sampled_from(
    ["python3", "-m", "rq", "worker", "asr-queue", "-W", "celery", "-A", "app", "/bin/sh", "-c", "uvicorn", ""]))


@quick
@given(ARGV)
def test_any_command_line_has_a_program(argv: list[str]) -> None:
    assert isinstance(program_line(argv), str)
    for patterns in instrument.PATTERNS.values():
        assert matches_role(patterns, argv) in (True, False)


# ------------------------------------------------------------------------------------------- words and the screen


@quick
@given(st.text(max_size=3_000), st.text("abcdef0123456789", min_size=8, max_size=12), st.booleans())
def test_any_text_is_shown_in_one_short_line_without_the_token(text: str, token: str, command: bool) -> None:
    said = f"{text[:40]} {token} {text[40:]}"
    with patch.dict(os.environ, {"ASR_API_TOKEN": token}):
        assert token not in without_secrets(said, command=command)
        line = shortened(said)
        assert token not in line
    assert printable(text).isprintable()
    assert line.isprintable()
    assert len(line) <= WORDS_LIMIT


@quick
@given(st.lists(st.text(max_size=12) | st.sampled_from(
    ["--url", "--watch", "--api", "--pid", "--start", "worker=1", "http://h", "openai", "1"]), max_size=5))
def test_any_command_line_of_this_tool_is_understood_or_told_in_lines_that_show(argv: list[str]) -> None:
    said, status = io.StringIO(), None
    with patch.object(sys, "stderr", said), patch.object(sys, "stdout", io.StringIO()):
        try:
            parse_command_line(argv)
        except SystemExit as ended:
            status = ended.code
    assert status in (None, 0, instrument.EXIT_USAGE)
    assert all(line.isprintable() for line in said.getvalue().split("\n"))


# ---------------------------------------------------------------------------------------------------- the files


@quick
@given(st.text(max_size=30))
def test_any_name_is_one_cell_of_the_csv(name: str) -> None:
    written = io.StringIO()
    csv.writer(written).writerow((cell(printable(name)), 7))
    [row] = csv.reader(io.StringIO(written.getvalue()))
    assert row == [cell(printable(name)), "7"]
    assert row[0][:1] not in ("=", "+", "-", "@")


RUN = numbered(healthy())
LAST = RUN[-1].to_json()


@st.composite
def pending(draw: st.DrawFn) -> bytes:
    """The file of a result that was not a line yet: torn, changed, or something else."""
    how = draw(st.integers(0, 3))
    if how == 0:
        return draw(st.binary(max_size=60))
    if how == 1:
        return LAST[: draw(st.integers(0, len(LAST)))].encode()
    change = draw(st.dictionaries(st.sampled_from([*json.loads(LAST)]), JSON, max_size=2))
    return json.dumps(json.loads(LAST) | change).encode("utf-8", "surrogatepass")


@quick
@given(pending(), st.integers(0, 40))
def test_any_pending_file_is_joined_or_counted_and_never_makes_a_pass(content: bytes, torn: int) -> None:
    """Without its end the run is no pass, whatever is pending; `torn`: so much of the last line is there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "memory_leak_stress_test_20260302_090000.jsonl")
        path.write_text("".join(each.to_json() + "\n" for each in RUN[:-1]) + LAST[:torn])
        path.with_suffix(".pending.json").write_bytes(content)
        run = recording.read_run(path, [])
    assert all(isinstance(each, TaskResult) for each in run.results)
    assert len({each.test_id for each in run.results}) == len(run.results) <= len(RUN)
    assert judge(run).verdict != "pass"
