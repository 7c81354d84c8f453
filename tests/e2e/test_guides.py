"""Every command in the README and the guides does what is said of it, on the embedded service.

A command runs as it stands, with options added that make it short: clips of a second, one cycle, one level, readings
that do not wait for rest. Addresses, pids, clips and recorded files of the examples are replaced by real ones; commands
that differ in nothing else run once. Not run here are those with tests of their own (make demo, make test, make
service, and --self-check, which takes half a minute) and those that start the user's service or install: they are
parsed by the programs that they call. A command that is of none of these kinds fails the test.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from rq.cli.cli import main as rq_command
from uvicorn.main import main as uvicorn_command

from asr_service import supervisor
from e2e.service import PATIENCE_S, RunningService, clip_options, wait_for
from memory_leak_stress_test import APIS, PATTERNS, Settings, matches_role, parse_command_line
from stress_report.recording import result_from_json
from support import guides
from support.guides import ROOT

COMMANDS = guides.all_commands()
TEST, READER = "tests/memory_leak_stress_test.py", "tests/analyze_stress_test.py"
BRIEF = ["--settle-timeout", "0.2", "--max-cycles", "1", "--max-concurrency", "1", "--start", "1", "--no-report"]


def of_kind(pattern: str) -> list[str]:
    return [line for line in COMMANDS if re.search(pattern, line)]


KINDS = {
    "the test": of_kind(re.escape(TEST)),
    "the reader": of_kind(re.escape(READER)),
    "make": of_kind(r"^make "),
    "the service": of_kind(r"^(rq|uvicorn) "),
    "curl": of_kind(r"^curl "),
    "Locust": of_kind(r"^locust "),
    "set-up": of_kind(r"venv( |/bin/(activate|pip))|^pip "),
}


def test_every_command_is_of_a_kind_that_is_tested_here() -> None:
    assert sorted(line for lines in KINDS.values() for line in lines) == sorted(COMMANDS)
    assert all(KINDS.values())


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return clip_options(tmp_path_factory.mktemp("clips"), 1.0, 2.0)


def watch(service: RunningService) -> list[str]:
    """This service alone, whatever else runs on the machine."""
    return [word for role in ("worker", "api") for word in ("--pid", f"{role}={service.pids(role)[0]}")]


def ready_to_run(line: str, service: RunningService, clips: list[str], results: Path) -> str:
    """A guide's call of the test as a line for the shell, short and against the embedded service."""
    command = re.sub(r"^(\.venv/bin/)?python3?", shlex.quote(sys.executable), line)
    (arguments,) = guides.arguments_of(Path(TEST).name, line)
    asked = parse_command_line(arguments)
    # The processes that the guide's examples name are not here; that --watch and --pid find them has tests of its own.
    command = re.sub(r" --(watch|pid) (\S*'[^']*'|\S+)", "", command)
    # One run is watched; the others load only, since readings at rest take most of the time.
    watched = asked.pid or asked.phase == "monitor"
    more = watch(service) if watched else [] if asked.no_watch else ["--no-watch"]
    more += [*BRIEF, *clips, "--url", service.url, "--results-dir", str(results)]
    return with_options(command, [*more, "--phase", "leak"] if asked.pid else more)


def with_options(command: str, words: list[str]) -> str:
    """Options put at the end of the call, before what the shell does with its status."""
    call, bar, rest = command.partition(" ||")
    return f"{call} {shlex.join(words)}{bar}{rest}"


def shell(line: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def recorded(service: RunningService, clips: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the guide's command with --pid, watched: its JSONL, its CSV is beside it."""
    (line,) = of_kind(r"--pid worker=4711 --pid api=4700")
    folder = tmp_path_factory.mktemp("results")
    done = shell(ready_to_run(line, service, clips, folder))
    assert done.returncode == 3, done.stdout + done.stderr  # one cycle proves nothing
    return next(folder.glob("*.jsonl"))


def differing(lines: list[str]) -> list[str]:
    """One command for each that asks for something else when all that is replaced here is the same."""
    found: dict[str, str] = {}
    for line in lines:
        asked = parse_command_line(next(guides.arguments_of(Path(TEST).name, line)))
        same = {"url": "", "short_audio": "", "long_audio": "", "watch": "", "no_watch": ""}
        found.setdefault(str(vars(asked) | same) + line.partition("||")[1], line)
    return list(found.values())


@pytest.mark.parametrize(
    "line", differing([c for c in KINDS["the test"] if not re.search("self-check|monitor|--pid", c)])
)
def test_commands_of_the_test_run(line: str, service: RunningService, clips: list[str], tmp_path: Path) -> None:
    done = shell(ready_to_run(line, service, clips, tmp_path))
    phase = parse_command_line(next(guides.arguments_of(Path(TEST).name, line))).phase
    results = [result_from_json(text) for path in tmp_path.glob("*.jsonl") for text in path.read_text().splitlines()]
    assert {r.status for r in results} == {"success"}, done.stdout + done.stderr
    assert {r.phase for r in results} == ({"leak", "concurrency"} if phase == "all" else {phase})
    assert done.returncode == (0 if "-eq 3" in line else 3), done.stdout  # so little proves nothing
    assert "results:" in done.stdout


def test_the_monitor_records_until_ctrl_c(service: RunningService, clips: list[str], tmp_path: Path) -> None:
    (line,) = of_kind("--phase monitor")
    command = "exec " + ready_to_run(line, service, clips, tmp_path)
    with subprocess.Popen(command, shell=True, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: [f for f in tmp_path.glob("*.csv") if f.read_text().count("\n") > 3], "samples")
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130, printed
    assert [path.name.partition("_")[0] for path in tmp_path.glob("*.jsonl")] == ["host"]


@pytest.mark.parametrize("line", KINDS["the reader"])
def test_commands_of_the_reader_run(line: str, recorded: Path, tmp_path: Path) -> None:
    for file in recorded.parent.iterdir():
        shutil.copy(file, tmp_path)
    stamp = re.search(r"\d{8}_\d{6}", recorded.name)
    assert stamp
    here = guides.RECORDED.sub(lambda m: re.sub(r"\d{8}_\d{6}", stamp[0], str(tmp_path / Path(m[0]).name)), line)
    here = re.sub(r"--output (\S+)", lambda m: f"--output {tmp_path / m[1]}", here)
    charts = "" if re.search("--no-charts|--json|--output", line) else " --no-charts"  # drawing is slow: one draws
    done = shell(re.sub(r"^(\.venv/bin/)?python3?", shlex.quote(sys.executable), here) + charts)
    assert done.returncode == 3, done.stdout + done.stderr
    written = [path.name for path in tmp_path.iterdir() if path.suffix == ".md"]
    if "--json" in line:
        assert done.stdout.startswith("{")
        assert written == []
    elif output := re.search(r"--output (\S+)", line):
        assert written == [output[1]]
        assert (tmp_path / "report.zh-CN.memory.svg").exists()
    else:
        judged = "system_resources" if re.search(r"py \S+csv", line) else "memory_leak_stress_test"
        assert written == [f"{judged}_{stamp[0]}.md"]


@pytest.mark.parametrize("line", KINDS["curl"])
def test_curl_gets_what_the_guide_says(line: str, service: RunningService) -> None:
    (url,) = re.findall(r"http://localhost:8000(\S+)", line)
    assert url == APIS["asr-queue"].health
    assert requests.get(service.url + url, timeout=PATIENCE_S).json()["status"] == "ready"


@pytest.mark.parametrize("line", KINDS["make"])
def test_make_knows_its_targets_and_variables(line: str) -> None:
    words = [word for word in shlex.split(line) if "=" in word and not word.startswith("-")]
    for variable in words:
        assert re.search(rf"\$\({variable.partition('=')[0]}\)", (ROOT / "Makefile").read_text()), variable
        if variable.startswith("ARGS="):
            supervisor.parser().parse_args(shlex.split(variable.removeprefix("ARGS=")))
    done = shell(line.replace("make ", "make -n ", 1))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", KINDS["the service"])
def test_commands_that_start_the_users_service_are_what_is_watched(line: str) -> None:
    program, *arguments = shlex.split(line)
    role, command = "api", uvicorn_command
    if program == "rq":
        role, command = "worker", rq_command.commands[arguments.pop(0)]
    options = command.make_context(program, arguments).params  # parses, and runs nothing
    if role == "api":  # found by the address it listens on
        assert urlsplit(Settings().url).port == options["port"]
    else:
        assert matches_role(PATTERNS[role], [sys.executable, f"/usr/bin/{program}", *shlex.split(line)[1:]])


@pytest.mark.parametrize("line", KINDS["set-up"])
def test_set_up_names_files_that_exist(line: str) -> None:
    for words in guides.steps(line):
        if "-r" in words:
            assert (ROOT / words[words.index("-r") + 1]).is_file()
        elif words[:3] == ["python3", "-m", "venv"]:
            assert words[3:] == [".venv"]
        else:
            assert words == [".", ".venv/bin/activate"]


@pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="Locust needs Python 3.11 or later")
@pytest.mark.parametrize("line", KINDS["Locust"])
def test_commands_of_locust_are_understood(line: str) -> None:
    done = shell(f"{shlex.quote(sys.executable)} -m {line} --list")  # reads all options, then names the users, and ends
    assert done.returncode == 0, done.stderr
    assert "AsrUser" in done.stdout
