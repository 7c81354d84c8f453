"""The command line: its defaults, its help, and one sentence for whatever is wrong with it."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import EXAMPLES, Settings, main, parse_command_line, too_few_cycles
from stress_report.markdown import repeat_command


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASR_URL", raising=False)
    monkeypatch.delenv("ASR_API_TOKEN", raising=False)


def test_without_options_every_setting_has_its_default() -> None:
    assert parse_command_line([]) == Settings()


def test_the_url_comes_from_the_option_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_URL", "http://127.0.0.1:9000/")
    assert parse_command_line([]).url == "http://127.0.0.1:9000"
    assert parse_command_line(["--url", "http://127.0.0.1:7000"]).url == "http://127.0.0.1:7000"


def test_a_wrong_url_of_the_environment_is_refused_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASR_URL", "localhost")
    assert "'localhost' is not a URL like http://localhost:8000" in refusal([], capsys)


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parse_command_line(argv)
    assert ended.value.code == 2
    words = capsys.readouterr().err.splitlines()
    assert words[0] == "usage: memory_leak_stress_test.py [options]"
    assert len(words) == 2, words
    return words[1]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--url localhost", "'localhost' is not a URL like http://localhost:8000"),
        ("--url ftp://localhost", "is not a URL like"),
        ("--url http://localhost:99999", "is not a URL like"),
        ("--url http://[::1", "is not a URL like"),
        ("--url http://*:8000", "is not a URL like"),
        ("--url http://me:secret@localhost:x", "'http://***@localhost:x' is not a URL like"),
        (f"--min-cycles 1{'0' * 400}", "is not a whole number of at least 1"),
        ("--max-cycles 0", "'0' is not a whole number of at least 1"),
        ("--max-cycles 2.5", "'2.5' is not a whole number"),
        ("--max-concurrency 30000000", "is not a whole number of at least 1 and at most 100000"),
        ("--tolerance-mb 0", "'0' is not a number above 0"),
        ("--tolerance-mb nan", "'nan' is not a number above 0"),
        ("--tolerance-mb inf", "'inf' is not a number above 0"),
        ("--rtf-limit -1", "'-1' is not a number of at least 0"),
        ("--memory-reserve 101", "'101' is not a number of at least 0 and at most 100"),
        ("--interval 0", "'0' is not a number of at least 0.2 and at most 60"),
        ("--start 5 --max-concurrency 4", "--max-concurrency 4 is below --start 5: change one of them"),
        ("--watch worker", "'worker' is not ROLE=VALUE with a role of worker, api, backend, redis"),
        ("--watch cache=redis-server", "is not ROLE=VALUE with a role of worker, api, backend, redis"),
        ("--watch worker=(", "'(' is not a regular expression"),
        ("--watch worker=a{99999999999999999999}", "is not a regular expression: the repetition number is too large"),
        (f"--watch worker={'(' * 3000}{')' * 3000}", "is not a regular expression"),
        (f"--api {'x' * 300}", "is none of asr-queue, "),
        ("--ca-bundle=", "certificates"),
        ("--pid worker=x", "'x' is not a whole number of at least 1"),
        ("--no-watch --pid worker=1", "--no-watch does not go with --watch, --pid, --list or --phase monitor"),
        ("--no-watch --phase monitor", "--no-watch does not go with --watch, --pid, --list or --phase monitor"),
        ("--phase monitor --duration 30", "'30' is not a time like 90s, 30m or 8h"),
        ("--phase monitor --duration 0s", "'0s' is not a time like 90s, 30m or 8h"),
        ("--duration 8h", "--duration goes with --phase monitor"),
        ("--phase soak", "invalid choice: 'soak'"),
        ("--max-conc 3", "unrecognized arguments: --max-conc 3"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    argv: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refusal(argv.split(), capsys)


def test_the_step_is_a_number_or_doubling() -> None:
    assert parse_command_line(["--step", "3"]).step == 3
    assert parse_command_line(["--step", "x2"]).step == "x2"


def test_the_ramp_from_many_machines_takes_every_option_of_the_ramp() -> None:
    """To import the file would put Locust's threads in the place of Python's."""
    told = (Path(instrument.__file__).with_name("locustfile.py")).read_text(encoding="utf-8")
    options = next(ast.literal_eval(line.value) for line in ast.parse(told).body
                   if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "OPTIONS")
    ramp = next(group for group in instrument.command_line()._action_groups if group.title == "concurrency ramp")
    assert {action.option_strings[0] for action in ramp._group_actions} <= set(options)


def test_patterns_and_pids_are_kept_by_role() -> None:
    settings = parse_command_line(
        ["--watch", "worker=celery", "--watch", "worker=a=b", "--pid", "api=7", "--pid", "api=8"]
    )
    assert settings.watch == {"worker": ("celery", "a=b")}
    assert settings.pid == {"api": (7, 8)}


@pytest.mark.parametrize("example", [line for line in EXAMPLES.splitlines() if "python3 " in line])
def test_the_examples_of_the_help_are_right(example: str) -> None:
    command = re.split(r"\s{3,}", example.strip())[0]
    _, script, *argv = shlex.split(command)
    assert (Path(__file__).parents[2] / script) == Path(instrument.__file__)
    parse_command_line(argv)


def test_the_help_names_every_setting_and_ends_with_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_command_line(["--help"])
    assert ended.value.code == 0
    words = capsys.readouterr().out
    for name in vars(Settings()):
        assert f"--{name.replace('_', '-')}" in words
    assert "130 interrupted" in words.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_cycles": 9}, "WARNING 9 cycles (--max-cycles) can only show a leak: NO LEAK needs 10 (--min-cycles)"),
        ({"max_cycles": 5, "min_cycles": 2}, "NO LEAK needs 6"),  # the rule's own least number
        ({"max_cycles": 10}, None),
        ({"max_cycles": 3, "phase": "concurrency"}, None),
    ],
)
def test_too_few_cycles_are_said_before_the_wait(options: dict[str, object], words: str | None) -> None:
    warning = too_few_cycles(Settings(**options))  # type: ignore[arg-type]
    assert (warning is None) if words is None else (warning is not None and words in warning)


def test_the_recorded_settings_can_repeat_the_run_and_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASR_API_TOKEN", "s3cret")
    words = ["--url", "http://me:s3cret@127.0.0.1:1/s3cret", "--step", "3", "--watch", "worker=my worker",
             "--watch", "worker=redis://:s3cret@", "--pid", "api=4700"]
    record = parse_command_line(words).for_record()
    assert record["url"] == "http://***@127.0.0.1:1/***"
    assert (record["step"], record["max_concurrency"]) == (3, 32)
    assert (record["watch"], record["pid"]) == ({"worker": ["my worker", "redis://***@"]}, {"api": [4700]})
    assert "s3cret" not in str(record)
    assert json.loads(json.dumps(record)) == record


def test_a_fault_of_the_tool_is_never_a_failed_criterion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(instrument, "run_test", broken)
    assert main(["--results-dir", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert f"What was recorded is kept. It is in {tmp_path}" in said
    monkeypatch.setattr(instrument, "parse_command_line", broken)
    assert main([]) == 3
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_report_can_repeat_a_run_of_another_api(tmp_path: Path) -> None:
    words = ["--api", "openai", "--field", "model=large v3", "--field", "api_key=hunter2", "--vary-length", "5"]
    command = repeat_command(parse_command_line(words).for_record())
    assert "hunter2" not in command
    again = parse_command_line(shlex.split(command)[2:])
    assert (again.api.name, again.field["model"], again.vary_length) == ("openai", "large v3", 5)
