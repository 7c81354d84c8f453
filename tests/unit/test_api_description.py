"""Descriptions of APIs: the file that a user writes, and what an answer means by them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import (
    APIS,
    Answer,
    ApiClient,
    ApiDescription,
    BadAnswer,
    found,
    parse_command_line,
    read_description,
    seconds_in,
)

QUEUED = {"submit": "/jobs", "id": "id", "poll": "/jobs/{id}", "status": "state", "done": ["ok"]}


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parse_command_line(["--api", str(path)])
    assert ended.value.code == 2
    words = capsys.readouterr().err.splitlines()
    assert len(words) == 2
    return words[1]


def test_a_path_alone_describes_a_synchronous_service(tmp_path: Path) -> None:
    api = read_description(written(tmp_path, {"submit": "/asr"}))
    assert api == ApiDescription(str(tmp_path / "mine.json"), "/asr")
    assert api.synchronous
    assert (api.method, api.file_field, api.health, api.text) == ("POST", "file", None, None)


def test_every_built_in_description_can_be_written_as_a_file(tmp_path: Path) -> None:
    for api in APIS.values():
        content = dataclasses.asdict(api)
        del content["name"]
        path = written(tmp_path, content)
        assert read_description(path) == dataclasses.replace(api, name=str(path))


def test_values_of_fields_are_sent_as_json_writes_them(tmp_path: Path) -> None:
    given = {"submit": "/asr", "fields": {"vad": True, "beam": 5, "temperature": 0.5, "prompt": None, "model": "m"},
             "watch": {"api": "speech-server", "worker": ["a", "b"]}}
    api = read_description(written(tmp_path, given))
    assert api.fields == {"vad": "true", "beam": "5", "temperature": "0.5", "prompt": None, "model": "m"}
    assert api.watch == {"api": ("speech-server",), "worker": ("a", "b")}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "mine.json is not JSON (Expecting property name"),
        ("[" * 100_000, "mine.json is not JSON ("),
        ("[]", "it holds no JSON object"),
        ({}, "the field submit, the path that takes uploads, is missing"),
        ({"submit": "asr"}, 'the field submit must be a path that begins with /, and not "asr"'),
        ({"submit": "/asr", "file_feild": "audio"}, "has an unknown field 'file_feild'; known are submit, method,"),
        ({"submit": "/asr", "name": "mine"}, "has an unknown field 'name'"),
        ({"submit": "/asr", "file_field": ""}, 'the field file_field must be a text, and not ""'),
        ({"submit": "/asr", "file_field": None}, "the field file_field must be a text, and not null"),
        ({"submit": "/asr", "method": "GET"}, 'the field method must be POST or PUT, and not "GET"'),
        ({"submit": "/asr", "fields": ["model"]}, "the field fields must be a table of names and values"),
        ({"submit": "/asr", "fields": {"a": {}}}, "the field fields must be a table of names and values"),
        ({"submit": "/asr", "headers": {"A": 1}}, "the field headers must be a table of HTTP headers"),
        ({"submit": "/asr", "headers": {"A": "x\r\nB: y"}}, "the field headers must be a table of HTTP headers"),
        ({"submit": "/asr", "headers": {"A": " x"}}, "the field headers must be a table of HTTP headers"),
        ({"submit": "/asr", "headers": {"A b": "x"}}, "the field headers must be a table of HTTP headers"),
        ({"submit": "/asr", "token_header": "X Key"}, "the field token_header must be the name of an HTTP header"),
        ({"submit": "/asr", "text": "result..text"}, "the field text must be a place in the answer"),
        ({"submit": "/asr", "duration_unit": "min"}, 'the field duration_unit must be s or ms, and not "min"'),
        ({"submit": "/asr", "watch": {"cron": "x"}}, "the field watch must be a table of roles (worker, api, "
         "backend, redis)"),
        ({"submit": "/asr", "watch": {"api": "("}}, "the field watch must be a table of roles"),
        ({"submit": "/asr", "watch": {"api": []}}, "the field watch must be a table of roles"),
        (QUEUED | {"done": "ok"}, 'the field done must be a list of words of the answer'),
        (QUEUED | {"done": [2]}, "or of HTTP codes from 100 to 599, and not [2]"),
        (QUEUED | {"done": [True]}, "or of HTTP codes from 100 to 599, and not [true]"),
        (QUEUED | {"poll": "/jobs"}, "the field poll must be a path that begins with / and holds {id}"),
        (QUEUED | {"poll": None}, "with id (id) the field poll, the path that reports a task, is missing"),
        (QUEUED | {"id": None}, "with poll (/jobs/{id}) the field id, the place of the task's id"),
        (QUEUED | {"done": []}, "with id the field done, the words or HTTP codes of success, is missing"),
        (QUEUED | {"status": None}, "with words in done the field status, the place of these words, is missing"),
        ({"submit": "/asr", "status": "code"}, "with status the field done, the words or HTTP codes of success, is"),
    ],
)
def test_what_is_wrong_with_a_description_is_one_sentence_that_names_the_field(
    content: Any, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refusal(written(tmp_path, content), capsys)


def test_a_file_that_cannot_be_read_or_a_name_that_is_none_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "none.json cannot be read (No such file or directory)" in refusal(tmp_path / "none.json", capsys)
    assert "cannot be read (Is a directory)" in refusal(tmp_path, capsys)
    (tmp_path / "latin.json").write_bytes(b'{"submit": "/\xe9"}')
    assert "latin.json is not JSON ('utf-8' codec" in refusal(tmp_path / "latin.json", capsys)
    assert "'opeani' is none of asr-queue, openai, whisper-asr, whisper-cpp, funasr" in refusal(Path("opeani"), capsys)


def test_fields_of_the_command_line_go_where_the_description_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    api = parse_command_line(["--api", "whisper-asr", "--field", "language=fr", "--field", "user=me=you"]).api
    assert (api.query["language"], api.fields) == ("fr", {"user": "me=you"})
    assert parse_command_line(["--api", "openai", "--field", "model=m"]).api.fields["model"] == "m"
    for wrong in ("model", "=m"):
        with pytest.raises(SystemExit):
            parse_command_line(["--field", wrong])
        assert f"{wrong!r} is not KEY=VALUE" in capsys.readouterr().err


def test_programs_to_watch_are_the_descriptions_unless_the_command_line_names_others(tmp_path: Path) -> None:
    path = str(written(tmp_path, {"submit": "/asr", "watch": {"api": "speech-server", "worker": "horse"}}))
    assert parse_command_line(["--api", path]).watch == {"api": ("speech-server",), "worker": ("horse",)}
    assert parse_command_line(["--api", path, "--watch", "api=other", "--pid", "worker=7"]).watch == {"api": ("other",)}
    assert parse_command_line(["--api", path, "--no-watch"]).watch == {}


# ---------------------------------------------------------------------------------------------- what answers mean


@pytest.mark.parametrize(("place", "value"), [
    ("text", "a"), ("result.text", "b"), ("list.word", ["c", "d"]), ("list.1.word", "d"), ("list.7.word", None),
    ("list.none", None), ("result.text.more", None), ("none.text", None), ("nested.inner.word", [["e"], ["f"]])])
def test_places_in_an_answer(place: str, value: Any) -> None:
    content = {"text": "a", "result": {"text": "b"}, "list": [{"word": "c"}, {"word": "d"}, 7, None],
               "nested": [{"inner": [{"word": "e"}]}, {"inner": [{"word": "f"}]}]}
    assert found(content, place) == value
    assert found([content], "text") == ["a"]
    assert found(content, None) is None


@pytest.mark.parametrize(("value", "unit", "seconds"), [
    (12.5, "s", 12.5), ("12.5", "s", 12.5), (12500, "ms", 12.5), ("12500", "ms", 12.5), (0, "s", None), ("", "s", None),
    (None, "s", None), ("long", "s", None),
    (True, "s", None), (-1, "s", None), ("nan", "s", None), ("1e999", "s", None),
    (10**400, "s", None), ([3], "s", None)])
def test_lengths_as_services_write_them(value: Any, unit: str, seconds: float | None) -> None:
    assert seconds_in(value, unit) == seconds


def described(**fields: Any) -> ApiClient:
    return ApiClient("http://localhost", ApiDescription("mine", "/asr", **fields))


CELERY: dict[str, Any] = {"id": "id", "poll": "/{id}", "status": "state", "processing": ("STARTED", 202),
                          "done": (200,), "failed": ("FAILURE", 500), "error": "message"}


@pytest.mark.parametrize(("code", "content", "state"), [
    (202, {"state": "PENDING"}, "processing"), (202, {}, "processing"), (202, b"", "processing"),
    (200, {"state": "odd"}, "done"), (200, {"state": "STARTED"}, "processing"), (200, {"state": "FAILURE"}, "failed"),
    (500, {"message": "broken"}, "failed"), (500, b"Internal Server Error", "failed"), (203, {"state": "odd"}, None)])
def test_a_state_is_told_by_its_word_else_by_the_code(code: int, content: Any, state: str | None) -> None:
    client, body = described(**CELERY), content if isinstance(content, bytes) else json.dumps(content).encode()
    if state is None:
        with pytest.raises(BadAnswer, match="unknown state"):
            client.read_state(Answer(code, body))
    else:
        assert client.read_state(Answer(code, body)).state == state


@pytest.mark.parametrize(("api", "content", "state", "words"), [
    ("openai", {"text": "a"}, "done", ""),
    ("openai", {"text": "a", "error": None}, "done", ""),
    ("openai", {"error": {"message": "no memory", "type": "server_error"}}, "failed", "no memory"),
    ("openai", {"error": {"code": 7}}, "failed", '{"code": 7}'),
    ("whisper-cpp", {"error": "no 'file' field in the request"}, "failed", "no 'file' field in the request"),
    ("funasr", {"code": 0, "text": "a"}, "done", ""),
    ("funasr", {"code": 1, "msg": "decode failed"}, "failed", "decode failed"),
    ("funasr", {"text": "a"}, "failed", ""),
])
def test_an_error_may_hide_in_a_success(api: str, content: Any, state: str, words: str) -> None:
    seen = ApiClient("http://localhost", APIS[api]).read_state(Answer(200, json.dumps(content).encode()))
    assert (seen.state, seen.words) == (state, words)


@pytest.mark.parametrize(("content", "empty"), [
    ({"text": "a"}, False), ({"text": " \n"}, True), ({"text": ""}, True), ({"text": None}, None), ({}, None),
    ({"text": 7}, False), ([{"text": "a"}, {"text": ""}], False), ([{"text": ""}], True), ([], None)])
def test_without_a_word_is_not_the_same_as_without_a_text_field(content: Any, empty: bool | None) -> None:
    assert described(text="text").read_state(Answer(200, json.dumps(content).encode())).empty_text is empty


def test_a_synchronous_answer_that_is_no_result_is_a_bad_one() -> None:
    client = described(status="status", queued=("queued",), done=("ok",))
    with pytest.raises(BadAnswer, match="unknown status"):
        client.read_state(Answer(200, b'{"status": "queued"}'))


@pytest.mark.parametrize(("said", "facts"), [
    (None, {}), ("7", {"retry_after_s": 7.0}), ("soon", {}), ("-3", {}), ("1.5", {}), ("9" * 400, {}),
    ("Wed, 21 Oct 2015 07:28:00 GMT", {"retry_after_s": 0.0})])
def test_how_long_to_stay_away(said: str | None, facts: dict[str, float]) -> None:
    assert Answer(429, b"", None, said).facts() == facts
