"""The client against a server that answers by script: kinds of failure, times, polls, and what must never hang."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import ssl
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    APIS,
    ApiClient,
    ApiDescription,
    Batch,
    CannotStart,
    Clips,
    Health,
    Outcome,
    Reserve,
    Settings,
    StressTest,
    TaskError,
    check_api,
    checked_token,
    parse_command_line,
    poll_wait,
    probe,
    read_clips,
    shortened,
)

WAIT_S = 20.0
Reply = Callable[[BaseHTTPRequestHandler], None]


def answer(content: Any, code: int = 200, **headers: str) -> Reply:
    """A whole answer; a dict goes as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def break_off(handler: BaseHTTPRequestHandler) -> None:
    """Promise a longer body than is sent."""
    answer(b'{"status": "do', Content_Length="1000")(handler)
    handler.close_connection = True


def trickle(code: int, **headers: str) -> Reply:
    """A body that never ends, in small pieces."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        answer(b"", code, Content_Length="1000000", **headers)(handler)
        with contextlib.suppress(OSError):  # the client has gone
            while True:
                handler.wfile.write(b" ")
                time.sleep(0.05)

    return reply


ACCEPTED = answer({"task_id": "t/1", "status": "queued"})
STATES = {state: answer({"status": state}) for state in ("queued", "processing", "done")}


class Service:
    """A server whose submissions and polls follow a script; the last entry repeats."""

    def __init__(self) -> None:
        self.health: Reply = answer({"status": "ready"})
        self.submit: Reply = ACCEPTED
        self.polls: Sequence[Reply] = [STATES["done"]]
        self.seen: list[tuple[str, str, int, bytes]] = []  # method, path, the client's port, body
        self._next = itertools.count()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.note(self, b"")
                if self.path == "/api/v1/health":
                    return service.health(self)
                return service.polls[min(next(service._next), len(service.polls) - 1)](self)

            def do_POST(self) -> None:
                service.note(self, self.rfile.read(int(self.headers["Content-Length"])))
                service.submit(self)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that leaves before the end is part of these tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def note(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.seen.append((handler.command, handler.path, handler.client_address[1], body))


@contextlib.contextmanager
def serving(made: Service) -> Iterator[Service]:
    made.server.daemon_threads = True
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as made:
        yield made


@pytest.fixture
def clip(tmp_path: Path) -> Clips:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1000)
        file.writeframes(bytes(range(250)) * 4)
    clips = read_clips(path)
    clips.seed = 0  # the first upload is the clip as it is
    return clips


def batch_of(url: str, clip: Clips, size: int = 1, api: str = "asr-queue", **more: Any) -> Batch:
    client = ApiClient(url, APIS[api])
    options: dict[str, Any] = {"task_timeout": WAIT_S, "given_up": lambda _: None, "aborted": threading.Event()} | more
    return Batch(client, {n: client.prepare(clip.take()) for n in range(size)}, **options)


def outcomes_of(batch: Batch) -> list[Outcome]:
    batch.connect()
    batch.release()
    return [batch.outcomes.get(timeout=WAIT_S) for _ in range(batch.size)]


def outcome_of(service: Service, clip: Clips, **more: Any) -> Outcome:
    return outcomes_of(batch_of(service.url, clip, **more))[0]


# ------------------------------------------------------------------------------------------------ submissions


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        pytest.param(answer({"detail": "503: Service busy"}, 500), "submit_http_500", "503: Service busy",
                     id="overload as 500 whose body says 503"),
        pytest.param(answer(b"too many", 429), "submit_http_429", "too many", id="words that are not JSON"),
        pytest.param(answer(b'{"task_id": "12'), "bad_response", 'not JSON: {"task_id": "12', id="cut off"),
        pytest.param(answer(b"<html>Bad gateway</html>"), "bad_response", "not JSON: <html>Bad gateway", id="HTML"),
        pytest.param(answer(b""), "bad_response", "empty answer", id="empty"),
        pytest.param(answer([1]), "bad_response", "no task_id: [1]", id="a list"),
        pytest.param(answer(7), "bad_response", "not a JSON object", id="a number"),
        pytest.param(answer({"status": "queued"}), "bad_response", "no task_id: {", id="no id"),
        pytest.param(answer(b"[" * 100_000), "bad_response", "not JSON", id="nested beyond reason"),
        pytest.param(answer(b"plain", Content_Encoding="gzip"), "bad_response", "gzip", id="not encoded as it says"),
        pytest.param(answer(b" " * 5_000_000), "bad_response", "longer than", id="longer than any answer"),
        pytest.param(answer(b"", 307, Location="/elsewhere"), "submit_http_307", "-> /elsewhere", id="a redirect"),
        pytest.param(answer(b"", 302, Location="http://[bad"), "submit_http_302", "-> http://[bad",
                     id="a redirect to nowhere"),
        pytest.param(hang_up, "submit_reset", "Connection aborted", id="closed without an answer"),
        pytest.param(break_off, "submit_reset", "IncompleteRead", id="broken off"),
        pytest.param(trickle(200), "submit_timeout", "did not end within 1 s", id="never ends"),
        pytest.param(trickle(302, Location="/login"), "submit_timeout", "did not end within 1 s",
                     id="a redirect whose body never ends"),
        pytest.param(lambda _: time.sleep(3), "submit_timeout", "did not end within 1 s", id="never begins"),
    ],
)
def test_a_submission_that_is_not_accepted_says_how(
    reply: Reply, kind: str, words: str, service: Service, clip: Clips
) -> None:
    service.submit = reply
    outcome = outcome_of(service, clip, task_timeout=1.0 if kind == "submit_timeout" else WAIT_S)
    assert (outcome.error_kind, outcome.task_id) == (kind, None)
    assert words in outcome.words
    assert outcome.status == ("timeout" if kind == "submit_timeout" else "failed")
    assert outcome.submit_offset is not None


def test_a_port_where_nobody_listens_refuses(service: Service, clip: Clips) -> None:
    service.server.server_close()
    assert outcomes_of(batch_of("http://127.0.0.1:9", clip))[0].error_kind == "submit_refused"


def test_a_host_whose_name_cannot_be_looked_up_was_sent_nothing(clip: Clips) -> None:
    """As where nobody listens; a broken connection might have been accepted."""
    assert outcomes_of(batch_of("http://no-such-host.invalid:9", clip))[0].error_kind == "submit_refused"


def test_every_task_sends_another_recording_over_a_connection_opened_before(service: Service, clip: Clips) -> None:
    gone = threading.Barrier(8)
    service.submit = lambda handler: (gone.wait(WAIT_S), ACCEPTED(handler))[1]  # only 8 together get through
    outcomes = outcomes_of(batch_of(service.url, clip, size=8))
    assert {o.status for o in outcomes} == {"success"}
    posts = [(port, body) for method, _, port, body in service.seen if method == "POST"]
    first = [method for method, _, _, _ in service.seen][:8]
    assert first == ["GET"] * 8, "every connection is open before the first upload"
    opened = {port for method, path, port, _ in service.seen if path == "/api/v1/health"}
    assert {port for port, _ in posts} == opened
    assert len(opened) == 8
    assert len({body.split(b"\r\n\r\n", 1)[1].rpartition(b"\r\n--")[0] for _, body in posts}) == 8
    assert any(clip.path.read_bytes() in body for _, body in posts), "the first is the clip as it is"
    assert all(b'name="audio"; filename="clip.wav"\r\nContent-Type: audio/wav\r\n' in body for _, body in posts)


@pytest.mark.parametrize("health", [hang_up, break_off, answer(b"[" * 100_000), answer(b"", 500)])
def test_a_broken_health_page_holds_up_nobody(health: Reply, service: Service, clip: Clips) -> None:
    service.health = health
    assert {o.status for o in outcomes_of(batch_of(service.url, clip, size=3))} == {"success"}


@pytest.mark.parametrize("code", [429, 503])
def test_a_refusal_keeps_the_words_and_how_long_to_stay_away(code: int, service: Service, clip: Clips) -> None:
    service.submit = answer({"error": {"message": "too many", "type": "requests"}}, code, Retry_After="7")
    outcome = outcome_of(service, clip)
    assert (outcome.status, outcome.error_kind, outcome.error) == ("failed", f"submit_http_{code}", "too many")
    assert outcome.error_facts == {"retry_after_s": 7.0}
    assert probe(ApiClient(service.url, APIS["asr-queue"]), clip.clips[0], 5.0) == [
        f"WARNING the service refused a first task (submit_http_{code}: retry after 7 s: too many); is it busy with "
        "others' work?"]
    service.submit, service.polls = ACCEPTED, [answer(b"busy", code, Retry_After="7")]
    assert outcome_of(service, clip, task_timeout=1.5).error == f"HTTP {code}, retry after 7 s: busy"


# ------------------------------------------------------------------------------------------- the answer is the result


def slow(seconds: float, reply: Reply) -> Reply:
    def later(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        reply(handler)

    return later


def test_a_synchronous_answer_is_the_end_and_seen_when_it_comes(service: Service, clip: Clips) -> None:
    service.submit = slow(0.5, answer({"text": "it was", "duration": "9.5"}))
    outcome = outcome_of(service, clip, api="openai")
    assert (outcome.status, outcome.empty_text, outcome.service_seconds) == ("success", False, 9.5)
    assert (outcome.task_id, outcome.queue_time, outcome.time_error) == (None, None, 0.0)
    assert outcome.processing_time is not None
    assert outcome.processing_time >= 0.5
    assert {path for method, path, _, _ in service.seen if method == "POST"} == {"/v1/audio/transcriptions"}


def test_a_synchronous_task_has_the_time_of_a_task_and_not_of_a_submission(
    service: Service, clip: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrument, "SUBMIT_TIMEOUT_S", 0.2)
    service.submit = slow(0.6, answer({"text": "it was"}))
    assert outcome_of(service, clip, api="openai").status == "success"
    outcome = outcome_of(service, clip, api="openai", task_timeout=0.3)
    assert (outcome.status, outcome.error_kind) == ("timeout", "task_timeout")
    assert outcome.error_facts == {"limit_s": 0.3}


@pytest.mark.parametrize(("reply", "kind", "words"), [
    (answer({"error": {"message": "no memory"}}), "task_failed", "no memory"),
    (answer({"error": "Work-horse terminated unexpectedly"}), "worker_died", "Work-horse"),
    (answer(b"it was the best of times"), "bad_response", "not JSON: it was the best"),
    (answer(b""), "bad_response", "empty answer"),
    (answer({"detail": "no model"}, 500), "submit_http_500", "no model"),
    (hang_up, "submit_reset", "Connection aborted")])
def test_a_synchronous_answer_that_is_no_success(
    reply: Reply, kind: str, words: str, service: Service, clip: Clips
) -> None:
    service.submit = reply
    outcome = outcome_of(service, clip, api="openai")
    assert (outcome.status, outcome.error_kind) == ("failed", kind)
    assert words in outcome.words


def test_a_synchronous_service_that_idles_has_stalled(service: Service, clip: Clips) -> None:
    """Nobody polls it: who collects the outcomes looks whether its processes still work."""
    service.submit = slow(5.0, answer({"text": "late"}))
    batch = batch_of(service.url, clip, size=2, api="openai")
    batch.connect()
    batch.release()
    idle = itertools.chain([1.0, 2.0], itertools.repeat(130.0))
    sampler = SimpleNamespace(works="api", endings=lambda: (), idle_seconds=lambda: next(idle))
    test = StressTest(Settings(stall_timeout=0.2), batch.client, clip, clip, cast(Any, sampler), cast(Any, None),
                      cast(Any, None), threading.Event(), {}, Reserve(0.0))
    outcomes = list(test._collect(batch, instrument.ClientMeter()))
    assert [(o.status, o.error_kind) for o in outcomes] == [("timeout", "stalled")] * 2


@pytest.mark.parametrize(("api", "roles", "works"), [
    ("openai", ["api"], "api"), ("openai", ["api", "worker"], "worker"), ("asr-queue", ["api"], "worker"),
    ("openai", [], "api")])
def test_who_does_the_tasks(api: str, roles: list[str], works: str) -> None:
    table = SimpleNamespace(alive={pid: SimpleNamespace(role=role) for pid, role in enumerate(roles)})
    assert instrument.role_that_works(APIS[api], cast(Any, table)) == works


# ---------------------------------------------------------------------------------------------- a first task


@pytest.fixture
def long_clip(tmp_path: Path) -> Clips:
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1000)
        file.writeframes(bytes(10_000))
    return read_clips(path)


def uploads(service: Service) -> list[int]:
    """About how many bytes each one had."""
    return [round(len(body), -3) for method, _, _, body in service.seen if method == "POST"]


def test_two_seconds_go_out_first_and_the_whole_clip_where_they_do_not_do(service: Service, long_clip: Clips) -> None:
    client = ApiClient(service.url, APIS["openai"])
    service.submit = answer({"text": "it was"})
    assert probe(client, long_clip.clips[0], WAIT_S)[0].startswith("first task: 2.0 s of long.wav, done in ")
    assert uploads(service) == [4000]
    heard = itertools.count()
    service.submit = lambda handler: answer({"text": "it was"} if next(heard) else {"error": "no speech"})(handler)
    assert probe(client, long_clip.clips[0], WAIT_S)[0].startswith("first task: 5.0 s of long.wav, done in ")
    assert uploads(service) == [4000, 4000, 10000]
    assert long_clip.used == {}, "they do not count among the uploads of the test"


@pytest.mark.parametrize(("polls", "sentence"), [
    ([STATES["queued"]], "did not come to its end in time (last seen queued); is a worker running? try: curl http"),
    ([answer({"status": "odd"})], 'bad_response: unknown status: {"status": "odd"}. Look at the field status'),
    ([answer(b"<html>", 502)], "bad_response: HTTP 502: <html>. Look at the field poll"),
    ([answer({}, 404)], "came to task_lost. Look at the field poll"),
    ([answer({"status": "failed"})], 'task_failed: {"status": "failed"}. Look at the field file_field'),
    ([answer({"status": "failed", "error": "CUDA out of memory"})], "ran out of memory on a first task of 0.5 s")])
def test_a_first_task_that_does_not_end_well_says_what_to_look_at(
    polls: Sequence[Reply], sentence: str, service: Service, clip: Clips
) -> None:
    service.polls = polls
    with pytest.raises(CannotStart) as refused:
        probe(ApiClient(service.url, APIS["asr-queue"]), clip.clips[0], 0.5 if "in time" in sentence else WAIT_S)
    assert sentence in str(refused.value)


def test_a_first_task_finds_nobody_at_the_port(clip: Clips) -> None:
    with pytest.raises(CannotStart, match=r"API does not answer at http://127\.0\.0\.1:9 "):
        probe(ApiClient("http://127.0.0.1:9", APIS["openai"]), clip.clips[0], WAIT_S)


@pytest.mark.parametrize(("seconds", "warns"), [(2.0, False), ("2.0", False), (3.5, False), (2000, True), (0.1, True),
                                                (0, False), (None, False)])
def test_a_length_in_another_unit_is_doubted(seconds: Any, warns: bool, service: Service, long_clip: Clips) -> None:
    service.submit = answer({"text": "it was", "duration": seconds})
    lines = probe(ApiClient(service.url, APIS["openai"]), long_clip.clips[0], WAIT_S)
    assert any("fields duration: duration, duration_unit: s" in line for line in lines) is warns


# ------------------------------------------------------------------------------------------------- token and TLS


@pytest.fixture
def elsewhere() -> Iterator[Service]:
    with serving(Service()) as made:
        yield made


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_carries_nothing_there(
    code: int, service: Service, elsewhere: Service, clip: Clips
) -> None:
    away = answer(b"", code, Location=f"{elsewhere.url}/take")
    service.submit = service.health = away
    service.polls = [away]
    client = ApiClient(service.url, APIS["asr-queue"], "s3cr3t")
    batch = Batch(client, {0: client.prepare(clip.take())}, 2.0, lambda _: None, threading.Event())
    assert outcomes_of(batch)[0].error_kind == f"submit_http_{code}"
    service.submit = ACCEPTED
    batch = Batch(client, {0: client.prepare(clip.take())}, 1.0, lambda _: None, threading.Event())
    assert outcomes_of(batch)[0].error_kind == "task_timeout"
    with client.session() as session:
        assert client.workers(session) is None
        with pytest.raises(ValueError, match=f"HTTP {code}"):
            client.health(session)
    assert service.seen
    assert elsewhere.seen == []


@pytest.mark.parametrize(("token_header", "sent"), [
    (None, {"Authorization": "Bearer s3cr3t"}), ("X-Api-Key", {"X-Api-Key": "s3cr3t"}),
    ("authorization", {"authorization": "s3cr3t"})])
def test_the_token_goes_where_the_description_says(token_header: str | None, sent: dict[str, str]) -> None:
    api = ApiDescription("mine", "/asr", token_header=token_header)
    headers = ApiClient("http://localhost", api, "s3cr3t").headers
    assert {name: value for name, value in headers.items() if "s3cr3t" in value} == sent


def test_a_token_is_read_without_its_line_end_and_one_that_no_header_carries_is_refused(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", "s3cr3t\n")
    assert checked_token() == "s3cr3t"
    assert shortened("said s3cr3t") == "said ***"
    for token in ("s3cr\nX: y", "s\u00e9cret"):
        monkeypatch.setenv("ASR_API_TOKEN", token)
        with pytest.raises(CannotStart, match="no HTTP header can carry") as refused:
            checked_token()
        assert token[:3] not in str(refused.value)
    monkeypatch.setenv("ASR_API_TOKEN", " ")
    assert checked_token() is None


def test_a_token_is_hidden_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", 'a/b+c"d')
    said = json.dumps({"you sent": 'a/b+c"d'}) + ' a%2Fb%2Bc%22d a/b+c"d'
    assert shortened(said) == '{"you sent": "***"} *** ***'


def test_a_task_id_that_holds_the_token_is_recorded_without_it(
    service: Service, clip: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", "s3cr3t")
    service.submit = answer({"task_id": "for-s3cr3t-1"})
    outcome = outcome_of(service, clip)
    assert service.seen[-1][1] == "/api/v1/asr/result/for-s3cr3t-1", "it is asked for by its real name"
    test = StressTest(Settings(), cast(Any, None), clip, clip, None, cast(Any, SimpleNamespace(results=[])),
                      cast(Any, None), threading.Event(), {}, Reserve(0.0))
    reading = instrument.Reading(0.0, {}, {}, frozenset())
    line = test._result(outcome, clip.take(), 1, reading, instrument.Place("leak")).to_json()
    assert '"task_id": "for-***-1"' in line
    assert "s3cr3t" not in line


AUTHORITY = Path(__file__).parent / "tls" / "localhost.pem"  # made for these tests alone: a key, and its certificate


@pytest.fixture
def private() -> Iterator[Service]:
    """A service at https with the certificate of an authority that no system knows."""
    made, context = Service(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(AUTHORITY)
    made.server.socket = context.wrap_socket(made.server.socket, server_side=True)
    made.url = made.url.replace("http:", "https:")
    with serving(made):
        yield made


def test_https_with_a_private_authority_works_when_its_certificates_are_named(
    private: Service, clip: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(AUTHORITY))
    for options in (["--ca-bundle", str(AUTHORITY)], []):
        s = parse_command_line(["--url", private.url, *options])
        assert s.ca_bundle == AUTHORITY
        client = ApiClient(s.url, s.api, None, s.ca_bundle)
        batch = Batch(client, {0: client.prepare(clip.take())}, WAIT_S, lambda _: None, threading.Event())
        assert outcomes_of(batch)[0].status == "success"
    assert clip.path.read_bytes()[44:][-900:] in b"".join(body for _, _, _, body in private.seen)


def test_a_certificate_that_cannot_be_verified_is_refused_with_the_option_that_helps(
    private: Service, clip: Clips
) -> None:
    client = ApiClient(private.url, APIS["asr-queue"])
    with pytest.raises(CannotStart, match=r"certificate of https://127.* cannot be verified .*--ca-bundle FILE"):
        check_api(client)
    without_health = ApiClient(private.url, APIS["openai"])
    with pytest.raises(CannotStart, match=r"certificate of https://127.* cannot be verified .*--ca-bundle FILE"):
        probe(without_health, clip.clips[0], WAIT_S)
    assert private.seen == []


def test_https_at_a_port_without_it_is_no_trouble_with_certificates(service: Service) -> None:
    with pytest.raises(CannotStart, match="API does not answer at https://127"):
        check_api(ApiClient(service.url.replace("http:", "https:"), APIS["asr-queue"]))


@pytest.mark.parametrize(("name", "why"), [("none.pem", "No such file or directory"), ("notes.pem", "NO_CERTIFICATE")])
def test_a_file_without_certificates_is_one_sentence(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.pem").write_text("notes")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / name))
    for argv in (["--ca-bundle", str(tmp_path / name)], ["--url", "https://localhost"]):
        with pytest.raises(SystemExit) as ended:
            parse_command_line(argv)
        assert ended.value.code == 2
        assert why in capsys.readouterr().err
    assert parse_command_line([]).ca_bundle is None, "http needs none"


# ------------------------------------------------------------------------------------------------------ polls


def test_times_run_from_the_common_release_and_queue_time_from_acceptance(service: Service, clip: Clips) -> None:
    service.polls = [STATES["queued"], STATES["queued"], STATES["processing"], STATES["done"]]
    outcome = outcome_of(service, clip)
    assert outcome.status == "success"
    # Polls 0.1 s apart at the least: the third sees it processing, the fourth done.
    assert outcome.queue_time is not None
    assert outcome.queue_time >= 0.3
    assert outcome.processing_time is not None
    assert outcome.processing_time >= outcome.queue_time + 0.1
    assert outcome.time_error is not None
    assert 0.1 <= outcome.time_error < outcome.processing_time - 0.2, "back to the poll before, not to the start"


def test_a_slow_acceptance_is_part_of_the_turnaround_but_not_of_the_queue(service: Service, clip: Clips) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.5)
        ACCEPTED(handler)

    service.submit = slowly
    service.polls = [STATES["processing"], STATES["done"]]
    outcome = outcome_of(service, clip)
    assert outcome.processing_time is not None
    assert outcome.queue_time is not None
    assert outcome.processing_time - outcome.queue_time >= 0.5


def test_queue_time_is_unknown_where_the_service_never_says_processing(service: Service, clip: Clips) -> None:
    service.polls = [STATES["queued"], STATES["done"]]
    outcome = outcome_of(service, clip)
    assert (outcome.status, outcome.queue_time) == ("success", None)


@pytest.mark.parametrize(
    "bad", [hang_up, break_off, answer(b"busy", 503), answer(b"<html>"), answer({"status": "odd"}), answer(b"", 302)]
)
def test_failed_polls_do_not_fail_a_task(bad: Reply, service: Service, clip: Clips) -> None:
    service.polls = [STATES["processing"], bad, bad, STATES["done"]]
    assert outcome_of(service, clip).status == "success"


def test_a_task_is_lost_when_the_service_does_not_know_it_twice_in_a_row(service: Service, clip: Clips) -> None:
    unknown = answer({"detail": "no task"}, 404)
    service.polls = [unknown, STATES["queued"], unknown, STATES["done"]]
    assert outcome_of(service, clip).status == "success"
    service.polls = [STATES["queued"], unknown]
    assert outcome_of(service, clip).error_kind == "task_lost"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("FileNotFoundError: file does not exist", "task_failed"),
        ("Work-horse terminated unexpectedly; waitpid returned 9 (signal 9);", "worker_died"),
        ("Work-horse process was terminated unexpectedly (waitpid returned 9)", "worker_died"),
        ("Moved to FailedJobRegistry, due to AbandonedJobError, at 12:00", "worker_died"),
        (None, "task_failed"),
    ],
)
def test_a_failed_task_keeps_the_services_words_and_a_killed_horse_is_told_by_them(
    words: str | None, kind: str, service: Service, clip: Clips
) -> None:
    service.polls = [answer({"status": "failed", "error": words})]
    outcome = outcome_of(service, clip)
    assert (outcome.status, outcome.error_kind) == ("failed", kind)
    assert outcome.error == words, "and nothing in their place"
    assert outcome.processing_time is not None


def test_a_done_task_without_a_word_is_flagged(service: Service, clip: Clips) -> None:
    service.polls = [answer({"status": "done", "text": " "})]
    assert outcome_of(service, clip).empty_text is True
    service.polls = [answer({"status": "done", "text": "it was"})]
    assert outcome_of(service, clip).empty_text is False


def test_a_task_that_does_not_end_times_out(service: Service, clip: Clips) -> None:
    service.polls = [STATES["processing"]]
    outcome = outcome_of(service, clip, task_timeout=1.0)
    assert (outcome.status, outcome.error_kind) == ("timeout", "task_timeout")
    assert outcome.error_facts == {"limit_s": 1.0, "last_seen": "processing"}


def test_why_a_task_was_given_up_is_its_result_unless_the_service_answers_nonsense(
    service: Service, clip: Clips
) -> None:
    def stalled(_: float) -> TaskError:
        return TaskError("stalled", idle_s=3)

    service.polls = [STATES["processing"]]
    assert outcome_of(service, clip, given_up=stalled).error_kind == "stalled"
    service.polls, asked = [answer(b"<html>gateway")], itertools.count()
    outcome = outcome_of(service, clip, given_up=lambda last: stalled(last) if next(asked) else None)
    assert outcome.error_kind == "bad_response"
    assert "gateway" in str(outcome.error)


def test_a_task_that_ended_before_its_worker_did_is_still_a_success(service: Service, clip: Clips) -> None:
    """The polls are a moment apart: the last look comes after the reason to stop."""
    service.polls = [STATES["done"]]
    outcome = outcome_of(service, clip, given_up=lambda _: TaskError("worker_died", workers_left=0))
    assert (outcome.status, outcome.error_kind) == ("success", None)


def test_a_fault_of_the_tool_is_a_result_of_its_own_kind_with_its_traceback(
    service: Service, clip: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise KeyError("s3cr3t")

    batch = batch_of(service.url, clip)
    monkeypatch.setenv("ASR_API_TOKEN", "s3cr3t")
    monkeypatch.setattr(batch.client, "submit", broken)
    outcome = outcomes_of(batch)[0]
    assert (outcome.status, outcome.error_kind) == ("failed", "tool_fault")
    assert str(outcome.error).startswith("Traceback")
    assert "KeyError: '***'" in str(outcome.error)


def test_no_end_of_a_secret_is_left_where_a_traceback_is_cut(
    service: Service, clip: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise KeyError("s3cr3t" + "x" * (instrument.TRACEBACK_LIMIT - len("r3t'\n")))

    batch = batch_of(service.url, clip)
    monkeypatch.setenv("ASR_API_TOKEN", "s3cr3t")
    monkeypatch.setattr(batch.client, "submit", broken)
    assert "3t" not in str(outcomes_of(batch)[0].error)


def test_a_clip_whose_name_is_no_text_is_sent_under_one_that_is(service: Service, clip: Clips) -> None:
    """A folder of clips named in GBK."""
    path = clip.path.with_name(os.fsdecode(b"\xbb\xe1\xd2\xe9.wav"))
    shutil.copy(clip.path, path)
    for api in ("asr-queue", "openai"):
        outcome = outcomes_of(batch_of(service.url, read_clips(path), api=api))[0]
        assert outcome.error_kind != "tool_fault", outcome.error
    assert any("\ufffd.wav".encode() in body for _, _, _, body in service.seen)


def test_an_interruption_ends_tasks_that_wait(service: Service, clip: Clips) -> None:
    service.polls = [STATES["processing"]]
    batch = batch_of(service.url, clip, size=2)
    batch.connect()
    batch.release()
    batch.aborted.set()
    assert {batch.outcomes.get(timeout=WAIT_S).error_kind for _ in range(2)} == {"interrupted"}


def test_a_thread_that_never_comes_back_still_has_its_result(
    service: Service, clip: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrument, "OVERTIME_S", 0.0)
    batch = batch_of(service.url, clip, size=2, task_timeout=0.1)
    batch.release_at = time.monotonic()
    batch.outcomes.put(Outcome(1, "success"))
    test = StressTest(Settings(), cast(Any, None), clip, clip, None, cast(Any, None), cast(Any, None),
                      threading.Event(), {}, Reserve(0.0))
    outcomes = list(test._collect(batch, instrument.ClientMeter()))
    assert [(o.number, o.error_kind) for o in outcomes] == [(1, None), (0, "task_timeout")]


# --------------------------------------------------------------------------------------------------- schedule


def seen_at(seconds: float, size: int = 1) -> float:
    """When a task that takes so long is seen done, if each poll is answered at once."""
    now = 0.0
    while now < seconds:
        now += poll_wait(now, size)
    return now


@pytest.mark.parametrize(("takes", "late"), [(0.4, 0.1), (1.0, 0.1), (10.0, 0.5), (40.0, 2.0), (300.0, 2.0)])
def test_polls_see_a_task_done_soon_after_it_is(takes: float, late: float) -> None:
    assert takes <= seen_at(takes) <= takes + late + 1e-9


def test_a_few_polls_do_for_a_long_task() -> None:
    """5 % steps from 2 s to 40 s, then one every 2 s."""
    polls, now = 0, 0.0
    while now < 300:
        now, polls = now + poll_wait(now, 1), polls + 1
    assert polls < 220


@pytest.mark.parametrize("size", [1, 40, 100, 200, 1000])
def test_all_tasks_together_stay_below_what_one_client_can_poll(size: int) -> None:
    assert size / poll_wait(0.0, size) <= 400


def test_failed_polls_back_off_up_to_the_ceiling() -> None:
    waits = [poll_wait(1.0, 1, failed) for failed in (0, 1, 2, 3, 4, 5, 10_000)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6])
    assert poll_wait(100.0, 1, 3) == 2.0
    assert poll_wait(1.0, 2000, 3) == 5.0, "the floor of a large level stands above the ceiling"


# ------------------------------------------------------------------------------------------------------ words


def test_long_words_keep_their_beginning_and_their_reason() -> None:
    trace = "Traceback (most recent call last):\n" + "  File x\n" * 20_000 + "MemoryError: out of memory"
    line = shortened(trace)
    assert line.startswith("Traceback (most recent")
    assert line.endswith("MemoryError: out of memory")
    assert len(line) == instrument.WORDS_LIMIT
    assert shortened("short\n words") == "short words"


def test_no_secret_gets_into_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", "s3cr3t")
    assert shortened("redis://:pw@host s3cr3t token=abc") == "redis://***@host *** token=***"


@pytest.mark.parametrize(("said", "shown"), [
    ('{"password": "hunter2", "user": "me"}', '{"password": "***", "user": "me"}'),
    ("api-key: hunter2", "api-key: ***"),
    ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
    ('"authorization": "Bearer hunter2"', '"authorization": "Bearer ***"'),
    ("Authorization: Basic hunter2", "Authorization: Basic ***"),
    ("worker --token hunter2 -v", "worker --token *** -v"),
    ("worker --redis-password 'hunter2'", "worker --redis-password '***'"),
    # a word of an error is evidence
    ("unexpected token at position 3", "unexpected token at position 3"),
    ("invalid token '<' in JSON", "invalid token '<' in JSON"),
    ("the secret store does not answer", "the secret store does not answer"),
    ("your password has expired", "your password has expired"),
    ("missing authorization header; bearer scheme wanted", "missing authorization header; bearer scheme wanted"),
    ("tokens: 448", "tokens: 448"),
])
def test_a_secret_goes_and_the_words_of_an_error_stay(said: str, shown: str) -> None:
    assert shortened(said) == shown


def test_an_interruption_before_the_release_sends_nothing(service: Service, clip: Clips) -> None:
    batch = batch_of(service.url, clip)
    batch.aborted.set()
    assert outcomes_of(batch)[0].error_kind == "interrupted"
    assert not [method for method, _, _, _ in service.seen if method == "POST"]


def test_outcomes_are_put_where_the_collector_finds_them(service: Service, clip: Clips) -> None:
    batch = batch_of(service.url, clip, size=3)
    assert sorted(o.number for o in outcomes_of(batch)) == [0, 1, 2]
    with pytest.raises(queue.Empty):
        batch.outcomes.get_nowait()


@pytest.mark.parametrize(("state", "wait_s", "drained"), [("processing", 0.5, False), ("done", WAIT_S, True)])
def test_tasks_given_up_are_waited_for_until_they_end(
    state: str, wait_s: float, drained: bool, service: Service, clip: Clips
) -> None:
    class Quiet:
        def status(self, **_: object) -> None:
            """Nobody looks."""

    service.polls = [STATES["processing"], STATES[state]]
    client, settings = ApiClient(service.url, APIS["asr-queue"]), Settings(stall_timeout=wait_s)
    test = StressTest(settings, client, clip, clip, None, cast(Any, None), cast(Any, Quiet()), threading.Event(), {},
                      Reserve(0.0))
    test._drain([Outcome(0, "timeout", "task_timeout", task_id="t"), Outcome(1, "failed", "task_lost", task_id="u"),
                 Outcome(2, "success", task_id="v", processing_time=1.0)])
    assert test.drained is drained
    assert {path for _, path, _, _ in service.seen} == {"/api/v1/asr/result/t"}


@pytest.mark.parametrize(("api", "page", "health"), [
    ("asr-queue", {"status": "ready", "workers_active": 2}, Health(True, "ready")),
    ("asr-queue", {"status": "degraded"}, Health(True, "degraded", '{"status": "degraded"}')),
    ("asr-queue", {"status": "unavailable"}, Health(False, "unavailable", '{"status": "unavailable"}')),
    ("openai", None, Health(True)),  # it has no such page
])
def test_what_a_health_page_says(api: str, page: Any, health: Health, service: Service) -> None:
    service.health = answer(page)
    client = ApiClient(service.url, APIS[api])
    with client.session() as session:
        assert client.health(session) == health
