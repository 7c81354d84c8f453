"""What a worker does with one upload: recognise the speech in it, or go wrong in the way the settings ask for."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TypedDict

from rq import Queue, get_current_job

from asr_service.settings import QUEUE, Settings, memory_to_keep
from asr_service.speech import read_wav, recognize
from asr_service.with_parent import die_with_parent

_kept: list[bytes] = []  # the planted leak (--leak-mb): lives as long as the process, like a real one


class Result(TypedDict):
    text: str
    duration: float  # seconds of audio


def transcribe(upload: str, fault: str | None = None) -> Result:
    """The RQ job. Takes the upload off the disk first, so that nothing is left of it however the job ends."""
    die_with_parent()  # a work-horse must not outlive its worker
    began = time.monotonic()
    path = Path(upload)
    with path.open("rb") as file:
        path.unlink()
        if fault is not None:
            suffer(fault)
        samples, rate = read_wav(file)
    duration = len(samples) / rate
    text = recognize(samples, rate)
    settings = Settings.from_environment()
    time.sleep(max(0.0, settings.job_seconds - (time.monotonic() - began)))
    if settings.leaks("worker", duration) and (settings.leak_when == "always" or others_wait()):
        _kept.append(memory_to_keep(settings.leak_mb))
    return Result(text=text, duration=duration)


def others_wait() -> bool:
    """Whether other tasks wait in the queue."""
    job = get_current_job()
    return job is not None and Queue(QUEUE, connection=job.connection).count > 0


def suffer(fault: str) -> None:
    if fault == "fail":
        raise RuntimeError("planted failure: the model ran out of memory")
    if fault == "kill_worker":
        os.kill(worker_pid(), signal.SIGKILL)
    if fault == "kill_horse":
        os.kill(os.getpid(), signal.SIGKILL)
    while True:  # "hang", and whatever was killed above is about to go
        time.sleep(60)


def worker_pid() -> int:
    """The process of `rq worker`: this one, or its parent where the worker forks a work-horse for every job."""
    job = get_current_job()
    if job is None or job.worker_name is None:
        raise RuntimeError("not inside a job of an RQ worker")
    pid = job.connection.hget(f"rq:worker:{job.worker_name}", "pid")
    if pid is None:
        raise RuntimeError(f"worker {job.worker_name} is not registered")
    return int(pid)
