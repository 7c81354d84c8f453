"""The HTTP API: health, submit, result and queue status (run by uvicorn as asr_service.app:app).

It also speaks the OpenAI shape, POST /v1/audio/transcriptions: same queue and workers, but the answer is the result.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import threading
import time
import uuid
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import redis
from fastapi import FastAPI, Form, HTTPException, Response, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from rq import Queue, Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.worker import BaseWorker

from asr_service.settings import QUEUE, Settings, memory_to_keep

FILE_TYPES = ("wav", "mp3", "m4a", "flac", "ogg")
JOB_TIMEOUT_S = 3600
KEEP_RESULT_S = 24 * 3600
WAIT_S = 0.05  # between two looks at a task whose request waits for it
STATUS_WORDS = {
    "finished": "done",
    "failed": "failed",
    "stopped": "failed",
    "canceled": "failed",
    "started": "processing",
}
ENDED = ("finished", "failed", "stopped", "canceled")


class Service:
    """The queue as the API sees it, and the faults it was asked to have."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection = redis.Redis.from_url(settings.redis_url)
        self.queue = Queue(QUEUE, connection=self.connection)
        self.submitting = threading.Lock()  # counting the unfinished and adding one is one step
        self.unfinished: set[str] = set()  # ids; guarded by the lock
        self.bad_answers = itertools.cycle((settings.bad_answer or "").split(","))  # guarded by the lock
        self.kept: list[bytes] = []  # the planted leak (--leak-in api)

    def submit(self, audio: UploadFile) -> Response:
        accepted = self.accept(audio)
        if isinstance(accepted, Response):
            return accepted
        task_id, earlier = accepted
        return JSONResponse({"task_id": task_id, "status": "queued", "position": earlier + 1})

    def transcribe(self, file: UploadFile, model: str = Form(), response_format: str = Form("json")) -> Response:
        """The OpenAI shape: the request waits until its task has ended. Every model's name means the one there is."""
        accepted = self.accept(file)
        if isinstance(accepted, Response):
            return accepted
        while (result := self.result(accepted[0]))["status"] not in ("done", "failed"):
            time.sleep(WAIT_S)
        if result["status"] == "failed":
            return JSONResponse({"error": {"message": result["error"], "type": "server_error"}}, status_code=500)
        verbose = {"task": "transcribe", "duration": result["duration"]} if response_format == "verbose_json" else {}
        return JSONResponse(verbose | {"text": result["text"]})

    def accept(self, audio: UploadFile) -> tuple[str, int] | Response:
        """Put an upload into the queue: its id, and how many are before it. Or the planted answer instead."""
        name = audio.filename or ""
        if not name.lower().endswith(FILE_TYPES):
            raise HTTPException(400, f"file type of {name!r} is not supported, send one of: {', '.join(FILE_TYPES)}")
        task_id = str(uuid.uuid4())
        upload = Path(self.settings.upload_dir) / (task_id + Path(name).suffix.lower())
        with self.submitting:
            earlier = self.count_unfinished()
            fault = self.answer_fault(earlier)
            if fault is None:
                with upload.open("wb") as file:
                    shutil.copyfileobj(audio.file, file)
                self.enqueue(task_id, upload, self.settings.job_fault(earlier))
        if fault is not None:
            return fault
        if self.settings.leaks("api", wav_seconds(audio)):
            self.kept.append(memory_to_keep(self.settings.leak_mb))
        return task_id, earlier

    def enqueue(self, task_id: str, upload: Path, fault: str | None) -> None:
        self.queue.enqueue(
            "asr_service.jobs.transcribe",  # by name: the API needs no model
            args=(str(upload), fault),
            job_id=task_id,
            job_timeout=JOB_TIMEOUT_S,
            result_ttl=KEEP_RESULT_S,
            failure_ttl=KEEP_RESULT_S,
        )
        self.unfinished.add(task_id)

    def count_unfinished(self) -> int:
        jobs = Job.fetch_many(list(self.unfinished), connection=self.connection)
        self.unfinished = {job.id for job in jobs if job is not None and job.get_status(refresh=False) not in ENDED}
        return len(self.unfinished)

    def answer_fault(self, earlier: int) -> Response | None:
        """The planted wrong answer to the task submitted while `earlier` others are unfinished, if there is one."""
        settings = self.settings
        if settings.refuse_above is not None and earlier + 1 > settings.refuse_above:
            return JSONResponse({"detail": f"503: Service busy, {earlier} tasks in the queue"}, status_code=500)
        if settings.lose_at == earlier:
            return JSONResponse({"task_id": str(uuid.uuid4()), "status": "queued", "position": 1})
        if settings.bad_answer is not None and settings.bad_answer_at == earlier:
            return bad_answer(next(self.bad_answers))
        return None

    def result(self, task_id: str) -> dict[str, Any]:
        try:
            job = Job.fetch(task_id, connection=self.connection)
        except (NoSuchJobError, ValueError) as error:  # ValueError: no id that RQ would ever give
            raise HTTPException(404, f"no task {task_id!r}") from error
        status = STATUS_WORDS.get(str(job.get_status(refresh=False).value), "queued")
        value = job.return_value() if status == "done" else None
        return {
            "task_id": task_id,
            "status": status,
            "duration": value["duration"] if value else None,
            "text": value["text"] if value else None,
            "error": last_line(job) if status == "failed" else None,
        }

    def live_workers(self) -> list[BaseWorker]:
        """Workers whose process exists: one that was killed stays registered for minutes."""
        here = socket.gethostname()
        workers = Worker.all(queue=self.queue)
        return [w for w in workers if w.hostname == here and w.pid and process_exists(w.pid)]

    def health(self) -> dict[str, Any]:
        try:
            active = len(self.live_workers())
        except redis.ConnectionError as error:
            return {"status": "unavailable", "workers_active": 0, "error": f"redis does not answer: {error}"}
        wanted = self.settings.workers
        status = "unavailable" if active == 0 else "degraded" if active < wanted else "ready"
        return {
            "status": status,
            "workers_active": active,
            "workers_wanted": wanted,
            "queued": len(self.queue),
        }

    def queue_status(self) -> dict[str, int]:
        workers = self.live_workers()
        return {
            "queued": len(self.queue),
            "processing": self.queue.started_job_registry.get_job_count(cleanup=False),
            "failed": self.queue.failed_job_registry.get_job_count(cleanup=False),
            "workers": len(workers),
            "workers_busy": sum(w.get_state() == "busy" for w in workers),
        }


def last_line(job: Job) -> str:
    """Why the job failed, in RQ's or Python's own words, without the traceback."""
    result = job.latest_result()
    words = (result.exc_string or "") if result else ""
    return words.strip().rpartition("\n")[2] or "failed without a reason"


def wav_seconds(audio: UploadFile) -> float:
    """Length by the header; 0 for what is not WAV."""
    audio.file.seek(0)
    try:
        with wave.open(audio.file, "rb") as header:
            return header.getnframes() / header.getframerate()
    except (wave.Error, EOFError):
        return 0.0


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to another user
        return True
    return True


def bad_answer(kind: str) -> Response:
    """What a broken proxy or server sends instead of the JSON that was promised."""
    answers: dict[str, Response] = {
        "malformed": Response('{"task_id": "12', media_type="application/json"),
        "html": HTMLResponse("<html><body><h1>Bad gateway</h1></body></html>"),
        "empty": Response(b""),
        "redirect": RedirectResponse("/login", 302),
        "endless": StreamingResponse(endless(), media_type="application/json"),
    }
    return answers[kind]


async def endless() -> AsyncIterator[bytes]:
    yield b'{"task_id": "'
    while True:
        yield b"x" * 1024
        await asyncio.sleep(0.1)


def create_app(settings: Settings) -> FastAPI:
    app = FastAPI(title="Small ASR service")
    service = Service(settings)
    # Plain functions, not coroutines: uvicorn's thread pool keeps a slow upload from holding up everybody's polls.
    app.get("/api/v1/health")(service.health)
    app.post("/api/v1/asr/submit", response_model=None)(service.submit)
    app.post("/v1/audio/transcriptions", response_model=None)(service.transcribe)
    app.get("/api/v1/asr/result/{task_id}")(service.result)
    app.get("/api/v1/asr/queue/status")(service.queue_status)
    return app


app = create_app(Settings.from_environment())
