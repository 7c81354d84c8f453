"""A server that is slow or wrong at every stage, row by row: the kind of failure it must end in, and by when.

It speaks in bytes, not in a library's words, so that it can say what no library would.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    APIS,
    ApiClient,
    Batch,
    CannotStart,
    Clips,
    Outcome,
    Place,
    Reading,
    Reserve,
    Settings,
    StressTest,
    check_api,
    read_clips,
)

LIMIT_S = 0.25  # of a whole exchange in these tests
PATIENT_S = 20.0  # of a task that ends by itself, with megabytes on a busy machine
SPARE_S = 5.0  # for threads, polls and a busy machine
PACE_S = 0.02  # between the pieces of one that trickles
HEALTH, SUBMIT, RESULT, OTHER = "health", "submit", "result", ""

Talk = Callable[[socket.socket], None]


def http(body: bytes | str, status: str = "200 OK", *headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def says(data: bytes) -> Talk:
    return lambda sock: sock.sendall(data)


def trickles(begin: bytes, piece: bytes) -> Talk:
    """Says the beginning at once and the piece again and again, for ever."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(begin)
        while True:
            time.sleep(PACE_S)
            sock.sendall(piece)

    return talk


def ends(data: bytes = b"", reset: bool = False) -> Talk:
    """Says so much and closes the connection, or resets it."""

    def talk(sock: socket.socket) -> None:
        sock.sendall(data)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raise ConnectionAbortedError  # both the socket and its file are closed

    return talk


GOOD = {HEALTH: says(http('{"status": "ready"}')), SUBMIT: says(http('{"task_id": "t"}')),
        RESULT: says(http('{"status": "done"}')), OTHER: says(http("{}", "404 Not Found"))}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "never answers": says(b""),
    "a byte of the status line at a time": trickles(b"HTTP/1.1 200 ", b"O"),
    "a byte of a header at a time": trickles(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "100 Continue for ever": trickles(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a byte of the body at a time": trickles(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "a body without an end": trickles(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "a chunk at a time": trickles(CHUNKED, b"1\r\n \r\n"),
    "a byte of a chunk's size at a time": trickles(CHUNKED, b"0"),
    "a byte of a trailer at a time": trickles(CHUNKED + b"2\r\n{}\r\n0\r\nX: ", b"y"),
}
WRONG: dict[str, tuple[Talk, str]] = {  # in answer to a submission
    "no HTTP": (says(b"+PONG\r\n"), "bad_response"),
    "HTTP of no version": (says(b"HTTP/x 200 OK\r\n\r\n"), "bad_response"),
    "a status of five digits": (says(b"HTTP/1.1 20000 OK\r\n\r\n"), "bad_response"),
    "a status that is no number": (says(b"HTTP/1.1 abc OK\r\n\r\n"), "bad_response"),
    "a status line of 1 MB": (says(b"HTTP/1.1 200 " + b"O" * 1_000_000 + b"\r\n\r\n"), "bad_response"),
    "200 headers": (says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), "bad_response"),
    "a header of 1 MB": (says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n"), "bad_response"),
    "status 999": (says(http("no", "999 ?")), "submit_http_999"),
    "status 204": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), "bad_response"),
    "a length that is no number": (ends(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"), "bad_response"),
    "a negative length": (ends(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"), "bad_response"),
    "two lengths": (ends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), "bad_response"),
    "longer than it says": (ends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}"), "bad_response"),
    "shorter than it says": (ends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), "submit_reset"),
    "a chunk's size that is none": (ends(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"), "submit_reset"),
    "a chunk cut off": (ends(CHUNKED + b"ff\r\n{}"), "submit_reset"),
    "closed": (ends(), "submit_reset"),
    "reset": (ends(reset=True), "submit_reset"),
    "not the gzip it says": (says(http("plain", "200 OK", "Content-Encoding: gzip")), "bad_response"),
    "an encoding nobody knows": (says(http("plain", "200 OK", "Content-Encoding: magic")), "bad_response"),
    "bytes that are no UTF-8": (says(http(b'{"detail": "\xff\xfe\xed\xa0\xbd"}', "500 no")), "submit_http_500"),
    "half a character": (says(http(r'{"detail": "bad \ud83d"}', "500 no")), "submit_http_500"),
    "no JSON": (says(http("<html>")), "bad_response"),
    "JSON nested beyond reason": (says(http("[" * 100_000)), "bad_response"),
    "a number of 10,000 digits": (says(http("1" * 10_000)), "bad_response"),
    "no id": (says(http("{}")), "bad_response"),
    "an id that is a list": (says(http('{"task_id": ["t"]}')), "bad_response"),
    "an id that is true": (says(http('{"task_id": true}')), "bad_response"),
    "an id that is NaN": (says(http('{"task_id": NaN}')), "bad_response"),
    "an id of half a character": (says(http(r'{"task_id": "t\ud83d"}')), ""),
    "an id of escapes and dots": (says(http(r'{"task_id": "../../\u001b]52;c;x\u0007?#%"}')), ""),
    "an id that is a number": (says(http('{"task_id": 7}')), ""),
    "an id of 1 MB": (says(http(json.dumps({"task_id": "t" * 1_000_000}))), ""),
    "an error of 10 MB": (says(http(json.dumps({"detail": "x" * 10_000_000}), "500 no")), "submit_http_500"),
    "an answer of 10 MB": (says(http(json.dumps({"task_id": "t", "x": "y" * 10_000_000}))), "bad_response"),
    "busy, with a wait of 400 digits": (says(http("no", "503 no", "Retry-After: " + "9" * 400)), "submit_http_503"),
    "sent elsewhere, to 60,000 letters": (says(http("", "302 x", "Location: /" + "y" * 60_000)), "submit_http_302"),
}
WRONG_STATE: dict[str, tuple[str, str]] = {  # in answer to a poll
    "an unknown state": ('{"status": "dormant"}', "task_timeout"),
    "a state that is a number": ('{"status": 7}', "task_timeout"),
    "no state": ("{}", "task_timeout"),
    "a state of half a character": (r'{"status": "done\ud83d"}', "task_timeout"),
    "failed with words of half a character": (r'{"status": "failed", "error": "bad \ud83d"}', "task_failed"),
    "failed with words that are a list": ('{"status": "failed", "error": [1, {"a": null}]}', "task_failed"),
    "done with a text that is a number": ('{"status": "done", "text": 7}', ""),
    "a state of 1 MB": (json.dumps({"status": "x" * 1_000_000}), "task_timeout"),
    "failed with words of 1 MB": (json.dumps({"status": "failed", "error": "x" * 1_000_000}), "task_failed"),
    "failed with words of 10 MB": (json.dumps({"status": "failed", "error": "x" * 10_000_000}), "bad_response"),
    "done with a length beyond reason": ('{"status": "done", "duration": 1e999}', ""),
}


class Hostile:
    """Listens on a port and answers each request by the talk of its page."""

    def __init__(self, talks: dict[str, Talk]) -> None:
        self.talks = GOOD | talks
        self.pages: list[str] = []
        self.closed = threading.Event()  # a connection
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the test has ended
            while True:
                threading.Thread(target=self._serve, args=(self.listener.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock, sock.makefile("rb") as file:  # the client has gone
            while line := file.readline():
                headers = dict(iter(lambda: file.readline().lower().strip().partition(b": ")[::2], (b"", b"")))
                file.read(int(headers.get(b"content-length", 0)))
                page = next((page for page in (HEALTH, SUBMIT, RESULT) if page.encode() in line), OTHER)
                self.pages.append(page)
                self.talks[page](sock)
        self.closed.set()


@pytest.fixture
def clip(tmp_path: Path) -> Clips:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(bytes(4000))
    return read_clips(path)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_exchanges(monkeypatch, LIMIT_S)


def limit_exchanges(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for name in ("POLL_TIMEOUT_S", "SUBMIT_TIMEOUT_S"):
        monkeypatch.setattr(instrument, name, seconds)


def one_task(url: str, clip: Clips, limit_s: float = 2 * LIMIT_S, after: threading.Event | None = None) -> Outcome:
    """Send one task; `after`: and release it only when this is so."""
    client = ApiClient(url, APIS["asr-queue"])
    batch = Batch(client, {0: client.prepare(clip.take())}, limit_s, lambda _: None, client.aborted)
    began = time.monotonic()
    batch.connect()
    assert after is None or after.wait(10)
    batch.release()
    outcome = batch.outcomes.get(timeout=limit_s + 60)
    assert time.monotonic() - began < limit_s + 2 * LIMIT_S + SPARE_S
    test = StressTest(Settings(), client, clip, clip, None, cast(Any, SimpleNamespace(results=[])), cast(Any, None),
                      client.aborted, {}, Reserve(0.0))
    line = test._result(outcome, clip.take(), 1, Reading(0.0, {}, {}, frozenset()), Place("leak")).to_json()
    assert line.isprintable()
    assert len(line) < 5_000, "ids and words are cut in the record, too"
    assert len(outcome.words) < 1_000
    return outcome


@pytest.fixture
def hostile() -> Iterator[Callable[[dict[str, Talk]], Hostile]]:
    made: list[Hostile] = []

    def make(talks: dict[str, Talk]) -> Hostile:
        made.append(Hostile(talks))
        return made[-1]

    yield make
    for each in made:
        each.listener.close()


MakeHostile = Callable[[dict[str, Talk]], Hostile]


@pytest.mark.parametrize(("page", "kind"), [(HEALTH, None), (SUBMIT, "submit_timeout"), (RESULT, "task_timeout")])
@pytest.mark.parametrize("slow", SLOW)
def test_one_that_is_slow_ends_in_time(slow: str, page: str, kind: str | None, clip: Clips,
                                       hostile: MakeHostile) -> None:
    assert one_task(hostile({page: SLOW[slow]}).url, clip).error_kind == kind


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_answer_to_a_submission_has_its_name(wrong: str, clip: Clips, hostile: MakeHostile,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    limit_exchanges(monkeypatch, PATIENT_S)
    talk, kind = WRONG[wrong]
    assert (one_task(hostile({SUBMIT: talk}).url, clip, PATIENT_S).error_kind or "") == kind


@pytest.mark.parametrize("wrong", WRONG_STATE)
def test_a_wrong_answer_to_a_poll_has_its_name(wrong: str, clip: Clips, hostile: MakeHostile) -> None:
    body, kind = WRONG_STATE[wrong]
    patience = 2 * LIMIT_S if kind == "task_timeout" else PATIENT_S
    assert (one_task(hostile({RESULT: says(http(body))}).url, clip, patience).error_kind or "") == kind


@pytest.mark.parametrize("body", [
    json.dumps({"status": "unavailable" * 100_000, "why": "x" * 1_000_000}), json.dumps({"status": "x" * 10_000_000}),
    "<html>" * 100_000])
def test_what_a_health_page_says_is_cut(body: str, hostile: MakeHostile) -> None:
    client = ApiClient(hostile({HEALTH: says(http(body))}).url, APIS["asr-queue"])
    try:
        said = check_api(client) or ""
    except CannotStart as error:
        said = str(error)
    assert said
    assert len(said) < 1_000


def test_one_that_takes_no_connection_ends_in_time(clip: Clips) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, contextlib.ExitStack() as waiting:
        for _ in range(2):  # they fill what the system would accept in its place
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(deaf.getsockname())
        assert one_task(f"http://127.0.0.1:{deaf.getsockname()[1]}", clip).error_kind == "submit_timeout"


def test_one_that_reads_nothing_of_an_upload_ends_in_time(clip: Clips) -> None:
    """Its windows and our buffers fill up, so that the sending waits."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = ApiClient(f"http://127.0.0.1:{deaf.getsockname()[1]}", APIS["asr-queue"])
        upload = client.prepare(clip.take())
        assert isinstance(upload.body, instrument.Body)
        upload.body.parts = (bytes(30_000_000),)
        began = time.monotonic()
        with client.session() as session, pytest.raises(instrument.TaskError) as refused:
            client.submit(session, upload, LIMIT_S)
        assert refused.value.kind == "submit_timeout"
        assert time.monotonic() - began < LIMIT_S + SPARE_S


@pytest.mark.parametrize("page", [HEALTH, SUBMIT, RESULT])
@pytest.mark.parametrize("slow", SLOW)
def test_an_interruption_ends_any_exchange_long_before_its_time(slow: str, page: str, clip: Clips, hostile: MakeHostile,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_TIMEOUT_S", "SUBMIT_TIMEOUT_S"):
        monkeypatch.setattr(instrument, name, 60.0)
    client = ApiClient(hostile({page: SLOW[slow]}).url, APIS["asr-queue"])
    batch = Batch(client, {0: client.prepare(clip.take())}, 60.0, lambda _: None, client.aborted)
    threading.Timer(0.05, client.aborted.set).start()
    began = time.monotonic()
    batch.connect()
    batch.release()
    assert batch.outcomes.get(timeout=60).error_kind == "interrupted"
    assert time.monotonic() - began < SPARE_S


def test_a_kept_connection_that_is_closed_before_the_upload_is_opened_anew_and_told_of(
    clip: Clips, hostile: MakeHostile
) -> None:
    for _ in range(9):
        server = hostile({HEALTH: ends(http('{"status": "ready"}'))})
        outcome = one_task(server.url, clip, after=server.closed)
        assert (outcome.status, outcome.error_kind) == ("success", None)
        assert server.pages.count(SUBMIT) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_an_upload_that_came_is_never_sent_twice(reset: bool, clip: Clips, hostile: MakeHostile) -> None:
    server = hostile({SUBMIT: ends(reset=reset)})
    outcome = one_task(server.url, clip)
    assert (outcome.error_kind, outcome.reopened) == ("submit_reset", False)
    assert server.pages == [HEALTH, SUBMIT]
