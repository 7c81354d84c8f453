"""Text from outside (answers, names of processes and files, arguments) shows, and does nothing else."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    ProcessTable,
    ResultLog,
    Sampler,
    Screen,
    TaskError,
    TaskResult,
    cell,
    parse_command_line,
    printable,
    shortened,
    without_secrets,
)
from stress_report.recording import read_samples, result_from_json

TESTS = Path(__file__).resolve().parents[1]
INSTRUMENT = TESTS / "memory_leak_stress_test.py"
ACTS = "a\x1b]52;c;Y2FsYw==\x07b\x1b[2Jc\x9b2Jd\u202ee\u2066f\u200fg\rh\x00i\u2028j"  # clipboard, clear, marks
HALF = "识\udce5\udc88"  # a name cut inside its second character, as the system gives it


def result(**values: Any) -> TaskResult:
    fixed: dict[str, Any] = {"phase": "leak", "timestamp": "2026-01-01T00:00:00.000", "audio_file": "a.wav",
                             "audio_size_mb": 0.1, "audio_seconds": 3.0, "concurrency": 1, "status": "success"}
    return TaskResult(**({"test_id": "a_c1_0001"} | fixed | values))


def test_nothing_printed_or_recorded_acts(tmp_path: Path) -> None:
    assert printable(ACTS).isprintable()
    assert shortened(ACTS).isprintable()
    assert str(TaskError("failed", ACTS)).isprintable()
    assert TaskError("failed", task_id=ACTS).facts["task_id"].isprintable()
    log = ResultLog(tmp_path / "run.jsonl")
    log.append(result(audio_file=ACTS, audio_path=HALF, test_id=f"{HALF}_c1", settings={"api": ACTS}))
    log.hold(result(audio_file=ACTS, audio_path=HALF))
    for file in (log.path, log.pending):
        text = file.read_text(encoding="utf-8")
        assert text.rstrip("\n").isprintable()
    kept = result_from_json(log.path.read_text(encoding="utf-8"))
    assert (kept.audio_file, kept.audio_path) == (ACTS, HALF), "clips are told apart as before"


@pytest.mark.parametrize("show", [instrument.say, instrument.say_error, Screen(False, None).event])
def test_nothing_gets_past_the_doors_to_the_terminal(
    show: Callable[[str], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", "SeNt")
    show(f"{ACTS} redis://:SECRET1@host SeNt")
    seen = "".join(capsys.readouterr())
    assert all(line.isprintable() for line in seen.split("\n")), ascii(seen)
    assert "SECRET1" not in seen
    assert "SeNt" not in seen
    assert "***" in seen


def test_nothing_gets_into_the_live_line() -> None:
    live = Screen(False, None)
    live.status(where=f"{ACTS} redis://:SECRET1@host")
    assert live._live_line().isprintable()
    assert "SECRET1" not in live._live_line()


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", 'a,"b"', "a\nb,1", ACTS, HALF, "rq"])
def test_no_name_is_a_formula_or_breaks_a_row(name: str, tmp_path: Path) -> None:
    path = tmp_path / "system_resources_1.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(instrument.CSV_COLUMNS)
        rows.writerow(("2026-01-01T00:00:00.000", 0.0, cell(printable(name)), 7, 1.0, 2.0, 3.0))
    samples = read_samples(path)
    assert (samples.rows, samples.skipped, len(path.read_text(encoding="utf-8").splitlines())) == (1, 0, 2)
    shown = samples.processes[0].name
    assert shown[0] not in "=+-@"
    assert shown.isprintable()


@contextlib.contextmanager
def named(name: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """A process that gives itself a name, byte by byte as it is."""
    program = f"import sys; open('/proc/self/comm', 'wb').write({name!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        cast(Any, process.stdout).readline()
        yield process
        process.kill()


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


@pytest.mark.parametrize("name", ["识别服务进程".encode()[:14], b"=1+1,\x1b[2J", b"\xff\xfe"])
def test_a_process_of_any_name_is_recorded(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / "system_resources_1.csv"
    with named(name) as process, Sampler(ProcessTable({}, {"worker": (process.pid,)}, set()), path, 0.2) as sampler:
        until(lambda: read_samples(path).rows > 2)
        assert sampler.failure is None
        assert {p.pid for p in read_samples(path).processes} == {process.pid}
        assert not any(p.name.startswith(("=", "+", "-", "@")) for p in read_samples(path).processes)
        assert all(p.name.isprintable() for m in sampler.observed().processes.values() for p in m)


def test_a_name_that_is_a_novel_is_cut() -> None:
    assert len(instrument.name_of(cast(Any, SimpleNamespace(name=lambda: "x" * 100_000)))) == instrument.NAME_LIMIT


def test_an_exception_of_any_kind_in_the_sampler_is_told_and_nothing_counts_as_measured(tmp_path: Path) -> None:
    table = ProcessTable({}, {"worker": (os.getpid(),)}, set())
    with Sampler(table, tmp_path / "r.csv", 0.2) as sampler:
        until(lambda: bool(sampler.latest() and cast(Any, sampler.latest()).rss))
        broken: dict[str, Any] = {}
        vars(table)["follow"] = vars(table)["scan"] = lambda: broken["gone"]
        until(lambda: sampler.failure is not None)
        assert sampler.failure == ("sampling stopped (a fault of this tool: KeyError: 'gone'): memory is not "
                                   "measured from here on")
        assert cast(Any, sampler.latest()).rss == {}
        assert sampler.at_rest(5, threading.Event()).settled is False


# ------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("said", [
    "redis://user:TOP@SECRET1@host:6379/0", "amqp://:SECRET1@a,amqp://:SECRET1@b", "pwd=SECRET1", "pass=SECRET1",
    "AWS_SECRET_ACCESS_KEY=SECRET1/x", "session=SECRET1; path=/", "Cookie=SECRET1", "invalid api key SECRET1",
    "Incorrect API key provided: SECRET1", "api-key: SECRET1", '{"passphrase": "a \\" SECRET1"}',
    "private_key='a SECRET1'",
    "Authorization: Bearer SECRET1", "sent bearer SECRET1", "--token SECRET1", "token:SECRET1", "credentials=SECRET1",
    "the token was SeNt", "%54: SeNt", "password: 'SECRET1'"])
def test_a_secret_of_each_form_goes(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", "SeNt")
    assert "SECRET1" not in shortened(said)
    assert "SeNt" not in shortened(said)
    assert "***" in shortened(said)


def test_what_follows_a_header_with_credentials_goes_whatever_it_looks_like() -> None:
    assert shortened("authorization: Basic abcd") == "authorization: Basic ***"


@pytest.mark.parametrize("said", [
    "unexpected token at position 3", "unexpected token: end of input", "Unexpected token '<' at 1", "tokens: 448",
    "session expired", "session: not found", "password: must not be empty", "bypass=1", "api key is missing",
    "the option --token is required", "ffmpeg: unknown option -preset", "http://host/users/me@x is not found",
    "token type mismatch", "no credentials given", "bearer scheme wanted", "pwd: no such file"])
def test_an_ordinary_word_stays(said: str) -> None:
    assert shortened(said) == said


@pytest.mark.parametrize("line", ["worker -pSECRET1 -v", "worker --redis-password SECRET1", "sh -c 'mysql -pSECRET1'",
                                  "worker --pass SECRET1", "/usr/bin/redis-cli -a SECRET1 monitor",
                                  "redis-cli -h host -a SECRET1", "sshpass -p SECRET1 ssh host",
                                  "curl -u me:SECRET1 http://host", "curl -s --user me:SECRET1"])
def test_a_secret_among_arguments_goes(line: str) -> None:
    assert "SECRET1" not in without_secrets(line, command=True)
    assert "SECRET1" not in instrument.shown_in_full(line) + instrument.program_shown(line)


@pytest.mark.parametrize("argv", [
    ["--watch", "worker=[ -pSECRET1"], ["--watch", "worker=--token SECRET1 ["], ["--watch", "redis://:SE@SECRET1@host"],
    ["--url", "ftp://:SECRET1@host"], ["--field", "password:SECRET1"], ["--phase", "pwd=SECRET1"], ["pwd=SECRET1"]])
def test_a_wrong_command_line_is_told_without_its_secret(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_command_line(argv)
    said = capsys.readouterr().err
    assert "SECRET1" not in said
    assert "error: " in said


def test_a_task_id_that_is_the_token_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", "SECRET1")
    assert TaskError("task_lost", task_id="SECRET1").facts == {"task_id": "***"}


# ------------------------------------------------------------------------------------------ streams of any kind


@contextlib.contextmanager
def refusing_service(words: str) -> Iterator[str]:
    """An API whose health page says `unavailable`, and these words."""
    body = json.dumps({"status": f"unavailable {words}", "why": words}).encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            with contextlib.suppress(OSError):  # the test has ended
                while True:
                    sock = listener.accept()[0]
                    sock.recv(65536)
                    sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    sock.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def monitor(folder: Path) -> list[str]:
    return [sys.executable, str(INSTRUMENT), "--phase", "monitor", "--pid", f"worker={os.getpid()}",
            "--interval", "0.2", "--results-dir", str(folder)]


def sampled(folder: Path) -> int:
    return sum(read_samples(file).rows for file in folder.glob("*.csv"))


@pytest.mark.parametrize(("shell", "encoding"), [
    ("exec \"$@\" >&-", "utf-8"), ("exec \"$@\" >&- 2>&- <&-", "utf-8"), ("exec \"$@\" >/dev/full", "utf-8"),
    ("exec \"$@\" | :", "utf-8"), ("exec \"$@\"", "ascii"), ("exec \"$@\"", "latin-1")])
def test_output_that_nobody_can_read_ends_no_test(shell: str, encoding: str, tmp_path: Path) -> None:
    folder = tmp_path / "识别"
    with subprocess.Popen(["bash", "-c", shell, "bash", *monitor(folder)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True,
                          env=os.environ | {"PYTHONIOENCODING": encoding}) as process:
        try:
            until(lambda: sampled(folder) > 3)
            os.killpg(process.pid, signal.SIGINT)
            said = cast(Any, process.communicate(timeout=120)[0])
        finally:
            with contextlib.suppress(ProcessLookupError):  # as it should be
                os.killpg(process.pid, signal.SIGKILL)
    assert b"Traceback" not in said
    assert "| :" in shell or process.returncode == 130
    files = sorted(file.suffix for file in folder.iterdir())
    assert files[0] == ".csv"
    assert not any(b"worker" in file.read_bytes().split(b"\n")[0] for file in folder.glob("*.csv"))


def test_escapes_of_the_service_do_not_reach_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with refusing_service(ACTS) as url, subprocess.Popen(
            [sys.executable, str(INSTRUMENT), "--url", url, "--no-watch", "--short-audio", str(tmp_path / "a.wav")],
            stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while select.select([ours], [], [], 20)[0] and (more := os.read(ours, 65536)):
                seen += more
        assert process.wait(20) == instrument.EXIT_NO_START
    os.close(ours)
    text = seen.decode()
    assert "Cannot start" in text
    assert all(line.isprintable() for line in text.splitlines()), ascii(text)


def test_an_older_tools_kinds_of_error_are_not_ours() -> None:
    from stress_report.legacy import from_old_tool

    line = from_old_tool({"test_id": "a", "audio_file": "a.wav", "status": "failed", "error_kind": "tool_fault",
                          "end": True, "error": "bad"}, cast(Any, __import__("collections").Counter()))
    assert ("error_kind" in line, "end" in line, line["error"]) == (False, False, "bad")


def test_a_name_that_vanishes_between_look_and_row_is_no_fault() -> None:
    gone = SimpleNamespace(process=SimpleNamespace(cpu_times=lambda: (_ for _ in ()).throw(psutil.NoSuchProcess(1))))
    with pytest.raises(psutil.Error):
        instrument.cpu_percent(cast(Any, gone), 0.0)
