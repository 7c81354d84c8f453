"""The service's settings: one record, handed by the environment from the supervisor to the API and the workers."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

QUEUE = "asr-queue"
VARIABLE = "ASR_SERVICE_SETTINGS"

BAD_ANSWERS = ("malformed", "html", "empty", "redirect", "endless")


@dataclass(frozen=True)
class Settings:
    """What the API and the jobs need to know. The faults are for tests of whoever uses this service.

    A fault "at N" strikes the task that is submitted while N earlier ones are unfinished (0: a task on its own).
    """

    redis_url: str = "redis://127.0.0.1:6379"
    upload_dir: str = "/tmp"
    workers: int = 1

    job_seconds: float = 0.0  # a job takes at least so long

    leak_mb: float = 0.0  # MiB leaked per task
    leak_in: str = "worker"  # worker | api
    leak_clip: str = "all"  # short | long | all
    leak_when: str = "always"  # always | overlapping (others wait in the queue when the job ends)
    long_seconds: float = 300.0  # audio of this length and above is a long clip

    refuse_above: int | None = None
    hang_at: int | None = None
    fail_at: int | None = None
    kill_worker_at: int | None = None
    kill_horse_at: int | None = None
    lose_at: int | None = None
    bad_answer: str | None = None  # one or more of BAD_ANSWERS with commas between, given in turn
    bad_answer_at: int = 0

    def job_fault(self, unfinished: int) -> str | None:
        """What shall go wrong inside the job submitted while `unfinished` others are."""
        points = {"hang": self.hang_at, "fail": self.fail_at}
        points |= {"kill_worker": self.kill_worker_at, "kill_horse": self.kill_horse_at}
        return next((fault for fault, point in points.items() if point == unfinished), None)

    def leaks(self, where: str, seconds: float) -> bool:
        """Whether the process kind `where` keeps memory after a task with that much audio."""
        length = "long" if seconds >= self.long_seconds else "short"
        return self.leak_mb > 0 and self.leak_in == where and self.leak_clip in ("all", length)

    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        return cls(**json.loads(environment.get(VARIABLE, "{}")))


def memory_to_keep(mib: float) -> bytes:
    """That much memory, every page of it really in use: pages of zeros would not be."""
    return b"\x01" * round(mib * 1024 * 1024)
