"""How often the growth rule is right: seeded series of every kind, judged after each cycle as the leak phase does.

The rates each scenario must keep stand in its row, a little wider than measured with thousands of series.
"""
from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from memory_leak_stress_test import judge_growth

SERIES = 400  # per scenario: a rate of 1 % is 4 series
CYCLES = 20  # --max-cycles

Levels = Callable[[random.Random], Sequence[float]]  # memory after each cycle, MB, before noise


class Scenario(NamedTuple):
    name: str
    levels: Levels
    noise_sd: float
    leak: tuple[float, float]  # percent of series that may (and must) be accused
    no_leak: tuple[float, float]  # percent that may (and must) be cleared


def steady(mb_per_cycle: float) -> Levels:
    return lambda rng: [mb_per_cycle * cycle for cycle in range(CYCLES)]


def warm_up(size: float, tasks: float, leak: float = 0.0) -> Levels:
    """Saturating growth with a time constant in tasks, two tasks a cycle, and a leak on top."""
    return lambda rng: [size * (1 - math.exp(-2 * cycle / tasks)) + leak * cycle for cycle in range(1, CYCLES + 1)]


def late_jump(size: float) -> Levels:
    def levels(rng: random.Random) -> list[float]:
        at = rng.randrange(1, CYCLES)
        return [size * (cycle >= at) for cycle in range(CYCLES)]

    return levels


def every(jump: float, cycles: int) -> Levels:
    """A staircase: a jump every so many cycles, beginning anywhere in the step."""

    def levels(rng: random.Random) -> list[float]:
        phase = rng.randrange(cycles)
        return [jump * ((cycle + phase) // cycles) for cycle in range(CYCLES)]

    return levels


def by_chance(jump: float, one_in: float) -> Levels:
    """A jump after one cycle in so many, or what a leak in one of that many workers looks like."""

    def levels(rng: random.Random) -> list[float]:
        level, found = 0.0, []
        for _ in range(CYCLES):
            level += jump * (rng.random() < 1 / one_in)
            found.append(level)
        return found

    return levels


def ramps(step: float, cycles: int) -> Levels:
    """A heap that grows and is collected every so many cycles (2: a saw-tooth)."""

    def levels(rng: random.Random) -> list[float]:
        phase = rng.randrange(cycles)
        return [step * ((cycle + phase) % cycles) for cycle in range(CYCLES)]

    return levels


def walk(step_sd: float) -> Levels:
    def levels(rng: random.Random) -> list[float]:
        level, found = 0.0, []
        for _ in range(CYCLES):
            level += rng.gauss(0, step_sd)
            found.append(level)
        return found

    return levels


NEVER, ANY, ALWAYS, ALMOST = (0, 1), (0, 100), (100, 100), (98, 100)

SCENARIOS = [
    Scenario("flat, sd 0.1", steady(0), 0.1, NEVER, ALWAYS),
    Scenario("flat, sd 2", steady(0), 2, NEVER, ALMOST),
    Scenario("flat, sd 10", steady(0), 10, NEVER, ALMOST),
    Scenario("flat, sd 30", steady(0), 30, NEVER, (75, 100)),
    Scenario("3 per cycle, sd 0.1: below the tolerance", steady(3), 0.1, NEVER, ALWAYS),
    Scenario("warm-up 600, tau 1.5 tasks", warm_up(600, 1.5), 10, NEVER, ALMOST),
    Scenario("warm-up 300, tau 4 tasks", warm_up(300, 4), 10, NEVER, ALMOST),
    Scenario("warm-up 3000, tau 4 tasks", warm_up(3000, 4), 10, NEVER, (90, 100)),
    Scenario("late step 150", late_jump(150), 10, NEVER, (70, 100)),
    Scenario("saw-tooth 160", ramps(160, 2), 10, NEVER, ANY),
    Scenario("heap of 6 cycles", ramps(30, 6), 10, NEVER, ANY),
    Scenario("heap of 8 cycles", ramps(30, 8), 10, NEVER, ANY),
    Scenario("walk 5 per step", walk(5), 2, NEVER, (95, 100)),
    Scenario("walk 15 per step", walk(15), 2, (0, 9), ANY),
    Scenario("leak 12, sd 1", steady(12), 1, ALWAYS, (0, 0)),
    Scenario("leak 20, sd 10", steady(20), 10, ALWAYS, (0, 0)),
    Scenario("leak 50, sd 10", steady(50), 10, ALWAYS, (0, 0)),
    Scenario("leak 150, sd 10", steady(150), 10, ALWAYS, (0, 0)),
    Scenario("leak 600, sd 10", steady(600), 10, ALWAYS, (0, 0)),
    Scenario("leak 20, sd 30", steady(20), 30, (85, 100), (0, 1)),
    Scenario("leak 20 on a warm-up of 600", warm_up(600, 1.5, leak=20), 10, ALMOST, (0, 0)),
    Scenario("leak 20 on a warm-up of 300, slow", warm_up(300, 4, leak=20), 10, ALMOST, (0, 0)),
    Scenario("50 every third cycle", every(50, 3), 10, (95, 100), (0, 1)),
    Scenario("120 every sixth cycle", every(120, 6), 10, (50, 100), (0, 3)),
    Scenario("58 by chance, one in 3.5", by_chance(58, 3.5), 10, (60, 100), (0, 33)),
    Scenario("120 by chance, one in 2", by_chance(120, 2), 10, (92, 100), (0, 6)),
]


def judged(scenario: Scenario) -> tuple[Counter[str], float]:
    """Verdicts of SERIES series, and the mean number of cycles each took."""
    rng = random.Random(scenario.name)
    verdicts: Counter[str] = Counter()
    cycles = 0
    for _ in range(SERIES):
        readings = [level + rng.gauss(0, scenario.noise_sd) for level in scenario.levels(rng)]
        for n in range(1, CYCLES + 1):
            verdict = judge_growth(readings[:n])
            if verdict.verdict != "INCONCLUSIVE":
                break
        verdicts[verdict.verdict] += 1
        cycles += n
    return verdicts, cycles / SERIES


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_rule_keeps_its_rates(scenario: Scenario) -> None:
    verdicts, cycles = judged(scenario)
    leak, no_leak = (100 * verdicts[verdict] / SERIES for verdict in ("LEAK", "NO LEAK"))
    said = f"LEAK {leak:.1f} %, NO LEAK {no_leak:.1f} %, mean cycles {cycles:.1f}"
    assert scenario.leak[0] <= leak <= scenario.leak[1], said
    assert scenario.no_leak[0] <= no_leak <= scenario.no_leak[1], said


@pytest.mark.parametrize(
    ("levels", "at_most"), [(steady(0), 10.5), (steady(150), 6.5), (steady(20), 12.5)], ids=["flat", "150", "20"])
def test_a_verdict_comes_as_early_as_promised(levels: Levels, at_most: float) -> None:
    assert judged(Scenario("how soon", levels, 5, ANY, ANY))[1] <= at_most
