"""Small real servers of the shapes that ASR APIs have, all in one application: `uvicorn e2e.api_servers:app`.

What they recognise is how long a wav is. `/seen` tells what arrived, `/faults` plants faults.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import threading
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
from fastapi import FastAPI, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse

TASK_S = 0.05


@dataclass
class Arrived:
    """What came with one upload."""

    path: str
    name: str
    content_type: str | None
    digest: str
    seconds: float
    fields: dict[str, str]
    headers: dict[str, str]


@dataclass
class Task:
    number: int
    polls: int = 0
    seconds: float = 0.0
    ends: float = 0.0  # monotonic; for a service of a known limit


@dataclass
class State:
    """What the servers remember. `faults`: what each shape does wrong from now on."""

    seen: list[Arrived] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)


state = State()
app = FastAPI()


def take(request: Request, file: UploadFile, **fields: str | None) -> Arrived:
    """Read an upload and work on it. Raises wave.Error for what is no wav."""
    content = file.file.read()
    with wave.open(io.BytesIO(content)) as audio:
        frames, size = audio.getnframes(), audio.getsampwidth() * audio.getnchannels()
        assert len(audio.readframes(frames)) == frames * size, "the header promises more than there is"
        seconds = frames / audio.getframerate()
    given = {key: value for key, value in fields.items() if value is not None} | dict(request.query_params)
    digest = hashlib.sha256(content).hexdigest()
    known = (state.faults.get("caches") and digest in state.cached) or state.faults.get("most")
    time.sleep(0 if known else state.faults.get("task_s", TASK_S))
    state.cached.add(digest)
    arrived = Arrived(request.url.path, file.filename or "", file.content_type, digest, seconds, given,
                      dict(request.headers))
    state.seen.append(arrived)
    return arrived


def words(arrived: Arrived) -> str:
    return f"{arrived.seconds:.2f} seconds of speech"


# ------------------------------------------------------------------------------------------------ synchronous


@app.post("/v1/audio/transcriptions")
def openai(request: Request, file: UploadFile, model: str = Form(), response_format: str = Form("json")) -> Response:
    fault = state.faults.get("openai")
    if model == "not-loaded":
        return JSONResponse({"detail": f"Model '{model}' is not installed locally."}, 404)
    if fault == "refuse" or (fault == "busy" and not state.one_at_a_time.acquire(blocking=False)):
        return JSONResponse({"error": {"message": "Rate limit reached", "type": "requests"}}, 429,
                            headers={"Retry-After": "7"})
    try:
        arrived = take(request, file, model=model, response_format=response_format)
    finally:
        if fault == "busy":
            state.one_at_a_time.release()
    if fault == "error inside":
        return JSONResponse({"error": {"message": "CUDA out of memory", "type": "server_error"}})
    answer: dict[str, Any] = {"text": "" if fault == "empty" else words(arrived)}
    if response_format == "verbose_json":
        answer["duration"] = str(arrived.seconds)  # vLLM's is a string
    return JSONResponse({} if fault == "no text" else answer)


@app.post("/asr")
def whisper_asr(request: Request, audio_file: UploadFile, output: str = "txt") -> Response:
    assert output == "json"
    with state.one_at_a_time:
        return PlainTextResponse(json.dumps({"text": words(take(request, audio_file)), "segments": []}))


@app.post("/inference")
def whisper_cpp(request: Request, file: UploadFile | None = None, response_format: str = Form("text")) -> Response:
    if file is None:
        return JSONResponse({"error": "no 'file' field in the request"})
    with state.one_at_a_time:
        return JSONResponse({"text": words(take(request, file, response_format=response_format))})


@app.get("/health")
def health() -> Response:
    loading = state.faults.get("health") == "loading"
    return JSONResponse({"status": "loading model"}, 503) if loading else JSONResponse({"status": "ok"})


@app.post("/recognition")
def funasr(request: Request, audio: UploadFile) -> Response:
    arrived = take(request, audio)
    if state.faults.get("funasr"):
        return JSONResponse({"code": 2, "msg": "decode failed"})
    return JSONResponse({"code": 0, "text": words(arrived), "sentences": []})


# ------------------------------------------------------------------------------------------------ with a queue


def accepted(arrived: Arrived) -> str:
    name = f"task {next(state.numbers)}/a"  # as awkward as an id may be
    state.tasks[name] = Task(0, seconds=arrived.seconds)
    return name


def polled(name: str) -> Task | None:
    """First it waits, then it is worked on, then it is done."""
    task = state.tasks.get(name)
    if task:
        task.polls += 1
    return task


def unfinished() -> int:
    return sum(task.ends > time.monotonic() for task in state.tasks.values())


@app.post("/api/v1/asr/submit")
def asr_queue(request: Request, audio: UploadFile) -> Response:
    """`most`: so many tasks at a time, each of which takes `task_s`; more are refused."""
    arrived, most = take(request, audio), state.faults.get("most")
    with state.one_at_a_time:
        if most and unfinished() >= most:
            return JSONResponse({"detail": f"{most} tasks at work"}, 503)
        name = accepted(arrived)
        state.tasks[name].ends = time.monotonic() + state.faults["task_s"] if most else 0.0
    return JSONResponse({"task_id": name, "status": "queued", "position": 1})


@app.get("/api/v1/health")
def asr_queue_health() -> Response:
    return JSONResponse({"status": "ready", "workers_active": 1})


@app.get("/api/v1/asr/result/{name:path}")
def asr_queue_result(name: str) -> Response:
    task = polled(name)
    if task is None:
        return JSONResponse({"detail": "no such task"}, 404)
    status = ("queued", "processing", "done")[min(task.polls, 3) - 1]
    if state.faults.get("most"):
        status = "processing" if task.ends > time.monotonic() else "done"
    return JSONResponse({"task_id": name, "status": status, "duration": 0,
                         "text": "some speech" if status == "done" else None, "error": None})


@app.post("/speech-to-text")
def whisperx(request: Request, file: UploadFile) -> Response:
    return JSONResponse({"identifier": accepted(take(request, file)), "message": "Task queued"})


@app.get("/task/{name:path}")
def whisperx_task(name: str) -> Response:
    task = polled(name)
    if task is None:
        return JSONResponse({"detail": "Identifier not found"}, 404)
    status = ("queued", "processing", "completed")[min(task.polls, 3) - 1]
    result = {"segments": [{"text": "some"}, {"text": "speech"}]} if status == "completed" else None
    return JSONResponse({"status": state.faults.get("whisperx", status), "result": result, "error": None,
                         "metadata": {"task_type": "full_process", "duration": 0.1, "audio_duration": task.seconds}})


@app.post("/transcriptions")
def celery(request: Request, audio: UploadFile, language: str = Form()) -> Response:
    if request.headers.get("x-api-key") != "k3y":
        return JSONResponse({"message": "who are you?"}, 401)
    return JSONResponse({"id": accepted(take(request, audio, language=language))}, 202)


@app.get("/transcriptions/{name:path}")
def celery_task(name: str) -> Response:
    task = polled(name)
    if task is None or task.polls < 3:  # celery says PENDING of what it does not know
        return JSONResponse({"state": "PENDING" if task is None or task.polls < 2 else "PROGRESS"}, 202)
    if state.faults.get("celery"):
        return JSONResponse({"message": "Worker exited prematurely: signal 9 (SIGKILL)"}, 500)
    return JSONResponse({"result": {"text": "some speech", "length_ms": f"{1000 * task.seconds}"}})


# ------------------------------------------------------------------------------------------------ for the tests


@app.get("/seen")
def seen() -> list[Arrived]:
    arrived, state.seen = state.seen, []
    return arrived


@app.get("/unfinished")
def count_unfinished() -> int:
    return unfinished()


@app.put("/faults")
async def faults(request: Request) -> None:
    state.faults = await request.json()


@dataclass(frozen=True)
class Server:
    url: str
    pid: int

    def seen(self) -> list[dict[str, Any]]:
        """What has arrived since it was last asked."""
        arrived: list[dict[str, Any]] = requests.get(f"{self.url}/seen", timeout=60).json()
        return arrived

    @contextlib.contextmanager
    def faults(self, **faults: Any) -> Iterator[None]:
        requests.put(f"{self.url}/faults", json=faults, timeout=60).raise_for_status()
        try:
            yield
        finally:
            requests.put(f"{self.url}/faults", json={}, timeout=60).raise_for_status()


@contextlib.contextmanager
def running_server(address: str = "127.0.0.1") -> Iterator[Server]:
    """All shapes at one URL, until the block ends."""
    from e2e.service import uvicorn_app  # the application does without

    with uvicorn_app("e2e.api_servers:app", address) as (url, pid):
        yield Server(url, pid)
