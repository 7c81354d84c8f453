"""Every description of an API end to end, against small real servers of those shapes (api_servers.py)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.api_servers import Server, running_server
from e2e.service import PATIENCE_S, clip_options

TESTS = Path(__file__).resolve().parents[1]
INSTRUMENT = TESTS / "memory_leak_stress_test.py"
SHORT_S, LONG_S = 1.0, 2.5
WHOLE = ["--phase", "all", "--min-cycles", "1", "--max-cycles", "1", "--start", "2", "--max-concurrency", "2"]
ONE_LEVEL = ["--phase", "concurrency", "--max-concurrency", "1"]
EXAMPLES = {path.stem: str(path) for path in sorted((TESTS / "api_examples").glob("*.json"))}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_seen_before(server: Server) -> None:
    server.seen()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return clip_options(tmp_path_factory.mktemp("clips"), SHORT_S, LONG_S)


@dataclass
class Run:
    status: int
    printed: str
    complaints: str
    lines: list[dict[str, Any]]
    written: str  # in all files

    def one(self) -> dict[str, Any]:
        """The first line of a level."""
        return next(line for line in self.lines if line["level_run"] == 1)


def run(server: Server, folder: Path, *options: str, token: str = "", judged: bool = False) -> Run:
    """One run of the command; where it need not be judged without the reader beside it, which takes a second."""
    folder.mkdir(exist_ok=True)
    script, results = INSTRUMENT if judged else shutil.copy(INSTRUMENT, folder), folder / "results"
    command = [sys.executable, str(script), "--url", server.url, "--settle-timeout", "0.3", "--rtf-limit", "0",
               "--no-report", "--results-dir", str(results), *([] if "--pid" in options else ["--no-watch"]), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                           env=os.environ | {"ASR_API_TOKEN": token})
    files = [file.read_text() for file in results.glob("*")]
    lines = [json.loads(line) for file in results.glob("*.jsonl") for line in file.read_text().splitlines()]
    return Run(ended.returncode, ended.stdout, ended.stderr, lines, "".join(files))


SHAPES = {"asr-queue": [], "openai": ["--field", "response_format=verbose_json"], "whisper-asr": [], "whisper-cpp": [],
          "funasr": [], **dict.fromkeys(EXAMPLES, [])}
ASKED = {"asr-queue", *EXAMPLES}  # the others answer at once


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_goes_through_both_phases(shape: str, server: Server, clips: list[str], tmp_path: Path) -> None:
    ran = run(server, tmp_path, "--api", EXAMPLES.get(shape, shape), *SHAPES[shape], *clips, *WHOLE, token="k3y",
              judged=True)
    assert ran.status in (0, 1, 3), ran.complaints
    assert "Traceback" not in ran.complaints
    assert {line["status"] for line in ran.lines} == {"success"}, ran.printed
    assert {line["phase"] for line in ran.lines} == {"leak", "concurrency"}
    assert max(line["concurrency"] for line in ran.lines) == 2
    assert ran.lines[-1]["end"]
    arrived = server.seen()
    assert len(arrived) == len(ran.lines) + 1, "one more: the first task, before the phases"
    for line in ran.lines:
        assert line["empty_text"] is False
        assert 0 < line["processing_time"] < 5
        assert line["rtf"] == pytest.approx(line["processing_time"] / line["audio_seconds"], rel=0.02)
        if shape in ASKED:
            assert line["task_id"]
            assert 0 < line["queue_time"] < line["processing_time"]
            assert line["time_error"] > 0
        else:
            assert (line["task_id"], line["queue_time"], line["time_error"]) == (None, None, 0.0)
    # What each upload is said to have been is what the server got.
    sent = sorted((round(line["audio_seconds"], 3), line["upload"]) for line in ran.lines)
    assert [seconds for seconds, _ in sent] == sorted(round(one["seconds"], 3) for one in arrived[1:])
    repeats = [line for line in ran.lines if line["upload"] == "repeat"]
    assert [(line["phase"], line["cycle"]) for line in repeats] == [("leak", 0)]
    assert len({one["digest"] for one in arrived}) == len(arrived) - 1, "all but the repeat are distinct"
    assert {one["content_type"] for one in arrived} == {"audio/wav"}
    says = {line["service_seconds"] for line in ran.lines}
    if shape in ("openai", "celery-202", "whisperx-fastapi"):
        assert all(line["service_seconds"] == pytest.approx(line["audio_seconds"], abs=0.002) for line in ran.lines)
    else:
        assert says == {None}


def test_the_tasks_of_a_level_reach_a_synchronous_server_together(
    server: Server, clips: list[str], tmp_path: Path
) -> None:
    """One that takes them one by one shows it: two at once take twice as long as one."""
    with server.faults(task_s=0.4):
        for api, together in (("openai", True), ("whisper-cpp", False)):
            ran = run(server, tmp_path / api, "--api", api, *clips, "--phase", "concurrency", "--max-concurrency", "2")
            one, two = (quickest_run(ran, size) for size in (1, 2))
            assert (two < 1.5 * one) is together, (one, two)


def quickest_run(ran: Run, size: int) -> float:
    """Seconds of the longest task in the quickest run of a level: a busy machine slows some down."""
    runs: dict[int, float] = {}
    for line in ran.lines:
        if line["concurrency"] == size and line["level_run"]:
            runs[line["level_run"]] = max(line["processing_time"], runs.get(line["level_run"], 0.0))
    return min(runs.values())


def test_a_synchronous_server_is_watched_as_the_api(server: Server, clips: list[str], tmp_path: Path) -> None:
    ran = run(server, tmp_path, "--api", "openai", *clips, *ONE_LEVEL, "--pid", f"api={server.pid}")
    memory = ran.lines[-1]["memory"]
    assert memory["api"]["private_after_mb"] > 10, ran.printed + ran.complaints


def test_what_a_server_asks_for_goes_out_as_it_wants_it(server: Server, clips: list[str], tmp_path: Path) -> None:
    fields = ["--field", "model=large-v3", "--field", "language=fr", "--field", "api_key=hunter2"]
    ran = run(server, tmp_path, "--api", "openai", *fields, *clips, *ONE_LEVEL)
    assert {one["fields"]["model"] for one in server.seen()} == {"large-v3"}
    assert ran.lines[0]["settings"]["field"] == {"model": ["large-v3"], "language": ["fr"], "api_key": ["***"]}
    assert "hunter2" not in ran.written + ran.printed + ran.complaints
    run(server, tmp_path, "--api", "whisper-asr", "--field", "language=fr", *clips, *ONE_LEVEL)
    arrived = server.seen()
    assert {(one["fields"]["output"], one["fields"]["language"]) for one in arrived} == {("json", "fr")}
    assert all("encode" not in one["fields"] for one in arrived), "known by name only"


@pytest.mark.parametrize(("api", "header", "value"), [
    ("openai", "authorization", "Bearer s3cr3t/+"), (EXAMPLES["celery-202"], "x-api-key", "k3y")])
def test_the_token_goes_out_as_described_and_stays_out_of_everything_written(
    api: str, header: str, value: str, server: Server, clips: list[str], tmp_path: Path
) -> None:
    token = value.split()[-1]
    ran = run(server, tmp_path, "--api", api, *clips, *ONE_LEVEL, token=token)
    arrived = server.seen()
    assert {one["headers"].get(header) for one in arrived} == {value}
    assert ran.lines
    assert token not in ran.written + ran.printed + ran.complaints
    if header != "authorization":
        assert all("authorization" not in one["headers"] for one in arrived)


# ------------------------------------------------------------------------------------------- what goes wrong


def test_a_server_that_refuses_more_says_so_with_its_words_and_how_long(
    server: Server, clips: list[str], tmp_path: Path
) -> None:
    with server.faults(openai="busy", task_s=0.3):
        ran = run(server, tmp_path, "--api", "openai", *clips, "--phase", "concurrency", "--start", "2",
                  "--max-concurrency", "2")
    refused = [line for line in ran.lines if line["status"] == "failed"]
    assert refused, ran.printed
    for line in refused:
        assert (line["error_kind"], line["error"]) == ("submit_http_429", "Rate limit reached")
        assert line["error_facts"] == {"retry_after_s": 7.0}


def test_one_that_refuses_the_first_task_is_tested_all_the_same(
    server: Server, clips: list[str], tmp_path: Path
) -> None:
    with server.faults(openai="refuse"):
        ran = run(server, tmp_path, "--api", "openai", *clips, *ONE_LEVEL)
    said = "WARNING the service refused a first task (submit_http_429: retry after 7 s: Rate limit reached)"
    assert said in ran.printed
    assert {line["error_kind"] for line in ran.lines} == {"submit_http_429"}


@pytest.mark.parametrize(("fault", "empty", "words"), [
    ("empty", True, "WARNING the text of the first task is empty (field text: text): {\"text\": \"\"}"),
    ("no text", None, "WARNING the text of the first task is not in the answer (field text: text): {}")])
def test_a_task_without_text_is_done_and_says_so(
    fault: str, empty: bool | None, words: str, server: Server, clips: list[str], tmp_path: Path
) -> None:
    with server.faults(openai=fault):
        ran = run(server, tmp_path, "--api", "openai", *clips, *ONE_LEVEL)
    assert words in ran.printed
    assert {(line["status"], line["empty_text"]) for line in ran.lines} == {("success", empty)}


@pytest.mark.parametrize(("api", "faults", "words"), [
    ("openai", {"openai": "error inside"}, "ran out of memory on a first task of 1.0 s (gpu_oom): CUDA out of memory"),
    ("funasr", {"funasr": True}, "came to task_failed: decode failed. Look at the field file_field and fields"),
    ("whisper-cpp", {"health": "loading"}, 'has no health page like this tool\'s (HTTP 503: {"status": "loading'),
    ("celery-202", {"celery": True}, "task_failed: Worker exited prematurely: signal 9 (SIGKILL)"),
    ("whisperx-fastapi", {"whisperx": "finished"}, 'bad_response: unknown status: {"status": "finished"'),
    ("openai --field model=not-loaded", {}, "HTTP 404: Model 'not-loaded' is not installed locally. Look at the field"),
    ("celery-202 without a token", {}, "HTTP 401: who are you?. Look at the field token_header, and the environment"),
])
def test_what_does_not_fit_is_said_before_any_phase(
    api: str, faults: dict[str, Any], words: str, server: Server, clips: list[str], tmp_path: Path
) -> None:
    name, *options = api.split(" without ")[0].split()
    with server.faults(**faults):
        ran = run(server, tmp_path, "--api", EXAMPLES.get(name, name), *options, *clips, *WHOLE,
                  token="" if "without" in api else "k3y")
    assert ran.status == 4
    assert words in ran.complaints
    assert ran.complaints.startswith("Cannot start: ")
    assert ran.complaints.count("\n") == 1
    assert not ran.lines


@pytest.mark.parametrize(("change", "words"), [
    ({"submit": "/speech"}, "HTTP 404: Not Found. Look at the field submit, file_field and fields"),
    ({"method": "PUT"}, "by PUT /speech-to-text came to HTTP 405: Method Not Allowed. Look at the field submit"),
    ({"file_field": "audio"}, "Look at the field submit, file_field and fields"),
    ({"id": "task.id"}, "bad_response: no task.id: "),
    ({"poll": "/tasks/{id}"}, "task_lost. Look at the field poll"),
    ({"status": "state"}, "unknown state: {"),
    ({"text": "result.words"}, None),
    ({"duration": "metadata.duration"}, None),
])
def test_a_wrong_field_is_named_with_the_servers_own_answer(
    change: dict[str, str], words: str | None, server: Server, clips: list[str], tmp_path: Path
) -> None:
    description = tmp_path / "mine.json"
    description.write_text(json.dumps(json.loads(Path(EXAMPLES["whisperx-fastapi"]).read_text()) | change))
    ran = run(server, tmp_path, "--api", str(description), *clips, *ONE_LEVEL)
    if words:
        assert ran.status == 4
        assert words in ran.complaints
    else:  # only a doubt: the tasks are done
        (field,) = change
        assert f"{field}: {change[field]}" in ran.printed
        assert "WARNING the" in ran.printed
        assert {line["status"] for line in ran.lines} == {"success"}


# ------------------------------------------------------------------------------------------------- uploads


def test_a_repeat_shows_whether_the_service_caches_by_content(
    server: Server, clips: list[str], tmp_path: Path
) -> None:
    leak = ["--phase", "leak", "--min-cycles", "1", "--max-cycles", "1"]
    times = []
    for caches in (True, False):
        with server.faults(caches=caches, task_s=0.8):
            ran = run(server, tmp_path / str(caches), "--api", "openai", *clips, *leak)
        short = [line for line in ran.lines if line["audio_file"] == "short.wav"]
        times.append({line["upload"]: line["processing_time"] for line in short})
    assert times[0]["repeat"] < times[0]["distinct"] / 3
    assert times[1]["repeat"] > times[1]["distinct"] / 2


def test_the_clips_of_a_folder_go_out_in_turn_and_lengths_vary_as_told(
    server: Server, clips: list[str], tmp_path: Path
) -> None:
    folder = Path(clips[1]).parent
    ran = run(server, tmp_path, "--api", "openai", "--short-audio", str(folder), "--long-audio", clips[3],
              "--vary-length", "40", "--phase", "concurrency", "--start", "2", "--max-concurrency", "2")
    arrived = server.seen()[1:]
    names = [line["audio_file"] for line in ran.lines]
    assert set(names) == {"long.wav", "short.wav"}
    assert abs(names.count("long.wav") - names.count("short.wav")) <= 1
    assert {line["audio_path"] for line in ran.lines} == {str(folder / "long.wav"), str(folder / "short.wav")}
    lengths = [one["seconds"] for one in arrived]
    assert len(set(lengths)) == len(lengths)
    assert all(0.6 * LONG_S - 0.01 <= s <= LONG_S or 0.6 * SHORT_S - 0.01 <= s <= SHORT_S for s in lengths)
    assert sorted(round(s, 3) for s in lengths) == sorted(line["audio_seconds"] for line in ran.lines)
