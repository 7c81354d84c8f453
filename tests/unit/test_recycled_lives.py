"""Growth within the lives of recycled processes: how often the rule is right about pools whose truth is known.

Each series is a leak phase of 20 cycles, a short and a long task in each, on workers that take turns and are replaced
after so many tasks: `gunicorn --max-requests`, celery's `--max-tasks-per-child`. Most have a parent that lives on.
"""
from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import NamedTuple

import pytest

from memory_leak_stress_test import ProcessMemory, RoleMemory, RoleVerdict, TaskResult, judge_leak
from unit.reader_runs import BORN, numbered, task

CYCLES, SERIES = 20, 16
LOADED_MB, FIRST_USE_MB = 200.0, {"short": 20.0, "long": 100.0}
PARENT = ProcessMemory(5, BORN, "python", 80.0, False, resident=True, root=True, held_mb=80.0)


class Pool(NamedTuple):
    """So many workers that each live for so many tasks. MB kept per cycle, and the noise of each reading."""

    workers: int
    tasks: int
    kept: float
    noise_sd: float = 0.0
    parent: bool = True
    who: str = "in turn"  # gets the next task; but for the first their CPU shows it

    @property
    def truth(self) -> str:
        return "LEAK" if self.kept > 10 else "NO LEAK"


class Worker:
    def __init__(self, pid: int, done: int = 0) -> None:
        self.pid, self.done, self.held, self.met, self.cpu_s = pid, done, LOADED_MB, set[str](), 0.0

    def work(self, clip: str, kept: float) -> None:
        self.held = max(LOADED_MB, self.held) + kept + FIRST_USE_MB[clip] * (clip not in self.met)
        self.met.add(clip)
        self.done += 1
        self.cpu_s = 0.4

    def seen(self, pool: Pool, noise: float, *, ended: bool = False, resident: bool = True) -> ProcessMemory:
        held = self.held + noise
        used = self.cpu_s if pool.who != "in turn" and resident else None
        return ProcessMemory(self.pid, f"{BORN}{self.pid}", "python", held, ended, resident, not pool.parent, held,
                             used_cpu_s=used)


def next_worker(pool: Pool, workers: list[Worker], number: int, rng: random.Random) -> int:
    ages = sorted(range(pool.workers), key=lambda place: workers[place].pid)
    return {"in turn": number % pool.workers, "any": rng.randrange(pool.workers), "oldest": ages[0],
            "newest": ages[-1]}[pool.who]


def judged(pool: Pool, rng: random.Random, restart_at: int | None = None) -> RoleVerdict:
    """`restart_at`: all are replaced after this task, and load their models with their first one."""
    workers = [Worker(100 + place, rng.randrange(pool.tasks)) for place in range(pool.workers)]
    results, before = list[TaskResult](), None
    for number in range(2 * (CYCLES + 1)):
        turned = pool.workers % 2 == 0 and number // 2 % 2  # else a worker would have the same clip again and again
        clip, place = ("short", "long")[(number + turned) % 2], next_worker(pool, workers, number, rng)
        for worker in workers:
            worker.cpu_s = 0.01
        workers[place].work(clip, pool.kept / 2)
        over = workers[place].done >= pool.tasks
        seen = [worker.seen(pool, rng.gauss(0, pool.noise_sd), ended=worker is workers[place] and over)
                for worker in workers]
        if over:
            workers[place] = Worker(200 + number)
            seen.append(workers[place].seen(pool, rng.gauss(0, pool.noise_sd), resident=False))
        if number == restart_at:
            seen = [dataclasses.replace(process, ended=True) for process in seen]
            workers = [Worker(300 + place) for place in range(pool.workers)]
            for worker in workers:
                worker.held = 30.0
            seen += [worker.seen(pool, 0.0, resident=False) for worker in workers]
        processes = [PARENT] * pool.parent + seen
        after = sum(process.held_mb or 0.0 for process in processes if not process.ended)
        memory = RoleMemory(before, after, before, after, after, processes)
        results.append(task(30 * number, "leak", clip, {"worker": memory}, cycle=number // 2, schema=2))
        before = after
    return judge_leak(numbered(results), min_cycles=10)["worker"]


def verdicts(pool: Pool) -> Counter[str]:
    rng = random.Random(str(pool))
    return Counter(judged(pool, rng).growth.verdict for _ in range(SERIES))


@pytest.mark.parametrize("parent", [True, False])
@pytest.mark.parametrize(("tasks", "kept"), [(3, 40), (4, 12), (4, 40), (5, 20), (6, 30), (10, 12), (10, 24), (20, 15)])
def test_a_leak_that_recycling_contains_is_never_cleared(tasks: int, kept: float, parent: bool) -> None:
    growth = judged(Pool(1, tasks, kept, parent=parent), random.Random(1)).growth
    assert growth.verdict == ("LEAK" if tasks > 4 else "INCONCLUSIVE")
    if growth.verdict == "LEAK":
        assert growth.mb_per_cycle == pytest.approx(kept, rel=0.1)
        assert growth.facts["per_task"] == pytest.approx(kept / 2, rel=0.1)
        assert growth.facts["tasks"] == tasks, "the parent does no tasks"


@pytest.mark.parametrize("pool", [
    Pool(1, 10, 0, 2), Pool(1, 10, 0, 10), Pool(2, 6, 0, 2), Pool(2, 10, 0, 10), Pool(4, 10, 0, 2), Pool(4, 10, 0, 10),
    Pool(4, 10, 4, 5), Pool(4, 10, 0, 10, parent=False), Pool(1, 6, 20, 2), Pool(1, 10, 20, 10), Pool(2, 10, 20, 10),
    Pool(4, 10, 20, 10), Pool(4, 10, 40, 10, parent=False),
    *(Pool(workers, 8, kept, 2, who=who) for workers in (2, 4, 8) for kept in (0, 30)
      for who in ("any", "oldest", "newest"))], ids=str)
def test_a_pool_is_judged_as_what_it_is_or_not_at_all(pool: Pool) -> None:
    found = verdicts(pool)
    assert found[pool.truth] >= SERIES // 2, found
    assert found[pool.truth] + found["INCONCLUSIVE"] >= SERIES - (pool.noise_sd >= 10), found


@pytest.mark.parametrize("who", ["oldest", "newest", "any"])
def test_the_calm_of_those_that_do_no_task_clears_nobody(who: str) -> None:
    assert verdicts(Pool(8, 3, 30, 2, who=who))["NO LEAK"] == 0


@pytest.mark.parametrize("kept", [0, 30])
def test_models_that_load_one_by_one_after_a_restart_are_no_leak(kept: float) -> None:
    pool, rng = Pool(8, 10**6, kept, 2, who="any"), random.Random(kept)
    found = Counter(judged(pool, rng, restart_at=6).growth.verdict for _ in range(SERIES))
    assert found["NO LEAK" if kept else "LEAK"] == 0, found
    assert not kept or found["LEAK"] >= SERIES - 2, found


def test_a_leak_of_the_parent_is_seen_among_its_recycled_children() -> None:
    rng = random.Random(2)
    pool = Pool(1, 8, 0, 2, parent=False)
    results = []
    for number in range(2 * (CYCLES + 1)):
        life, age = divmod(number, pool.tasks)
        child = Worker(100 + life, age)
        child.held += rng.gauss(0, pool.noise_sd)
        parent = ProcessMemory(5, BORN, "python", 0.0, False, resident=True, root=True, held_mb=80.0 + 15 * number)
        processes = [parent, child.seen(Pool(1, 8, 0), 0.0, ended=age == pool.tasks - 1)]
        memory = RoleMemory(0.0, 1.0, 0.0, 1.0, 1.0, processes)
        results.append(task(30 * number, "leak", ("short", "long")[number % 2], {"worker": memory}, cycle=number // 2))
    growth = judge_leak(numbered(results), min_cycles=10)["worker"].growth
    assert (growth.verdict, round(growth.mb_per_cycle or 0)) == ("LEAK", 29)
