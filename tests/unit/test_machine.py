"""Memory that no watched process holds, and limits of containers: what the reader says of runs made up and recorded."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import analyze_stress_test as reader
from memory_leak_stress_test import Container, MachineMemory, OtherProcesses, TaskResult, judge_growth
from stress_report.judging import Judged, judge
from stress_report.machine import Part
from stress_report.recording import Unreadable, read_run
from stress_report.saying import Words, advice, three_sentences
from unit.reader_checks import report_of
from unit.reader_runs import FLAT, LEAKING, healthy, judged, leak_phase, loaded_phase, record, with_settings

CYCLES = len(LEAKING) - 1  # at most, with cycle 0
STEADY = [100.0 + 40 * cycle for cycle in range(CYCLES)]
JOBS = {f"job-{n}": [-1.0] * n + [40.0] * (CYCLES - n) for n in range(CYCLES)}  # one more in each cycle
REST_S = 2.5  # of the 30 s from one task to the next


def on_machine(results: Sequence[TaskResult], *, shared: Sequence[float] = (), kernel: Sequence[float] = (),
               others: Mapping[str, Sequence[float]] | None = None, count: Mapping[str, Sequence[int]] | None = None,
               tmpfs: bool = True, at_rest: float = 0.0, containers: Sequence[Container] = (),
               **changes: Any) -> list[TaskResult]:
    """The run with the machine's memory in it: MB at the end of each cycle, which stay so where no series is given.

    `at_rest`: how much of the growth comes while no task runs, as a share of what growth by the clock would bring.
    """
    found = []
    for result in results:
        cycle = min(result.cycle or 0, CYCLES - 1)
        before = cycle if result.clip == "long.wav" else max(0, cycle - 1)
        slow = REST_S / 60 * at_rest  # of what a cycle gained

        def gained(series: Sequence[float], cycle: int = cycle, slow: float = slow) -> float:
            return slow * (series[cycle] - series[max(0, cycle - 1)]) if series else 0.0

        named = [OtherProcesses(name, f"{name} --serve", (count or {}).get(name, [1] * CYCLES)[before], 800 + number,
                                mb[before], gained(mb))
                 for number, (name, mb) in enumerate((others or {}).items()) if mb[before] >= 0]
        held = shared[before] if shared else 10.0
        unwatched, kept = 300.0 + sum(each.private_mb for each in named), kernel[before] if kernel else 50.0
        rest = {"shared": gained(shared), "kernel": gained(kernel), "others": sum(map(gained, (others or {}).values()))}
        machine = MachineMemory(
            24_000.0, 2_700.0 + unwatched + held + kept, 700.0, unwatched, held, kept,
            tmpfs={"/dev/shm": held} if tmpfs and held >= 1 else {}, others=named, containers=list(containers),
            rest_s=REST_S, rest_mb=rest)
        found.append(dataclasses.replace(result, machine=dataclasses.replace(machine, **changes)))
    return found


def asked(results: list[TaskResult]) -> list[TaskResult]:
    return with_settings(results, phase="leak")


def said(run: Judged) -> str:
    return " ".join(three_sentences(run, Words("en")))


def worker_of(run: Judged) -> tuple[str, str]:
    growth = run.roles["worker"].growth
    return growth.verdict, growth.reason


# ------------------------------------------------------------------------------------------- what withholds NO LEAK


def test_segments_that_no_process_maps_withhold_no_leak_and_are_named(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), shared=[118.0 * cycle for cycle in range(CYCLES)]))
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_shared")
    assert (run.verdict, advice(run)) == ("inconclusive", "next_unwatched")
    assert ("outside the watched processes grew by 118.0 MB per cycle, theirs by 0.0: /dev/shm grew from 118 to "
            "1,180 MB" in said(run))


def test_shared_memory_of_no_known_place_is_said_so(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), shared=STEADY, tmpfs=False))
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_shared_anywhere")
    assert "shared memory or tmpfs grew from 140 to" in said(run)


def test_an_unwatched_process_that_grows_with_the_tasks_is_named(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), others={"idle": [500.0] * CYCLES, "redis-server": STEADY}))
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_process")
    assert "redis-server --serve (pid 801), 40.0 MB per cycle, from 140 to 500 MB; watch it with --watch" in said(run)


def test_daemons_that_left_the_tree_are_counted_under_their_name(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), others={"helperd": STEADY},
                                      count={"helperd": range(2, CYCLES + 2)}))
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_processes")
    assert "12 named helperd (the largest: helperd --serve, pid 800)" in said(run)


def test_processes_that_each_have_another_name_are_seen_in_their_sum(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), others=JOBS))
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_others")


def test_what_the_kernel_keeps_is_seen(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), kernel=STEADY))
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_kernel")


def test_a_leak_stays_a_leak_and_growth_outside_is_never_one(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase(LEAKING)), shared=STEADY))
    assert worker_of(run)[0] == "LEAK"
    assert run.verdict == "fail"


def test_loaded_cycles_are_judged_too(tmp_path: Path) -> None:
    run = judged(tmp_path, with_settings(on_machine(loaded_phase(FLAT), shared=STEADY), phase="loaded", at_once=5))
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_shared")


# ------------------------------------------------------------------------------------ what does not: a busy machine

BUSY = {
    "falls again": [100.0, 400, 700, 200, 500, 800, 100, 300, 600, 900, 150, 400, 700],
    "one jump": [100.0] * 6 + [900.0] * 7,
    "small": [100.0 + 2 * cycle for cycle in range(CYCLES)],
    "slows down": [900 - 800 * 0.6**cycle for cycle in range(CYCLES)],
    "shrinks": [900.0 - 40 * cycle for cycle in range(CYCLES)],
    "every third cycle": [100.0 + 120 * (cycle // 3) for cycle in range(CYCLES)],
    "came later": [-1.0] * 4 + [100.0 + 60 * cycle for cycle in range(CYCLES - 4)],
}


@pytest.mark.parametrize("name", BUSY)
def test_a_neighbour_that_does_not_grow_with_the_tasks_changes_nothing(tmp_path: Path, name: str) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), others={"cc1plus": BUSY[name], "calm": [50.0] * CYCLES}))
    assert worker_of(run)[0] == "NO LEAK"
    assert run.verdict == "pass"


@pytest.mark.parametrize(("at_rest", "verdict"), [(0.0, "INCONCLUSIVE"), (0.3, "INCONCLUSIVE"), (0.8, "NO LEAK"),
                                                  (1.0, "NO LEAK")])
def test_what_grows_as_fast_while_no_task_runs_grows_by_itself(tmp_path: Path, at_rest: float, verdict: str) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase()), others={"browser": STEADY}, at_rest=at_rest))
    assert worker_of(run)[0] == verdict


def part(readings: list[float]) -> Part:
    growth = judge_growth(readings)
    return Part("process", readings, dataclasses.replace(growth, facts=growth.facts | {"tolerance_mb": 10.0}))


@pytest.mark.parametrize("cycles", [10, 20])
@pytest.mark.parametrize("sd", [5.0, 50.0, 200.0])
def test_random_walks_and_noise_are_hardly_ever_taken_for_growth(cycles: int, sd: float) -> None:
    """Measured in 3,000: walks at most 1.0 % after 10 cycles, 0.1 % after 20; noise none."""
    luck = random.Random(7)
    walks = [list(itertools.accumulate(luck.gauss(0, sd) for _ in range(cycles))) for _ in range(400)]
    noise = [[luck.gauss(500, sd) for _ in range(cycles)] for _ in range(400)]
    assert sum(part(walk).in_step for walk in walks) <= 12
    assert sum(part(readings).in_step for readings in noise) <= 1


@pytest.mark.parametrize(("mb", "sd"), [(15, 2), (20, 5), (40, 10), (60, 10)])
def test_steady_growth_is_seen_in_the_first_ten_cycles(mb: float, sd: float) -> None:
    luck = random.Random(7)
    grown = [[mb * cycle + luck.gauss(0, sd) for cycle in range(10)] for _ in range(200)]
    assert sum(part(readings).in_step for readings in grown) >= 196


# --------------------------------------------------------------------------------------- records that say less of it


def test_a_record_from_before_is_as_whole_without_it(tmp_path: Path) -> None:
    path = record(tmp_path, asked(leak_phase()))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(line.pop("machine", "lost") is None for line in lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = judge(read_run(path, None))
    assert (run.verdict, run.machine, run.run.skipped.total()) == ("pass", None, 0)
    assert "machine's memory" not in report_of(path)


def test_another_field_that_is_lost_is_still_missed(tmp_path: Path) -> None:
    path = record(tmp_path, on_machine(asked(leak_phase())))
    lines = path.read_text().splitlines()
    broken = json.loads(lines[3])
    del broken["machine"]["used_mb"]
    path.write_text("\n".join([*lines[:3], json.dumps(broken), *lines[4:]]) + "\n")
    assert read_run(path, None).skipped.total() == 1


@pytest.mark.parametrize("mb", [1e300, -1e12, 10**300, 10**12, -10**30])
@pytest.mark.parametrize("name", ["rest_mb", "tmpfs", "total_mb"])
def test_a_size_that_no_machine_can_have_makes_a_bad_line_wherever_it_stands(
        name: str, mb: float, tmp_path: Path) -> None:
    """It would say that memory grows just as fast while no task runs, and give NO LEAK back."""
    path = record(tmp_path, on_machine(asked(leak_phase()), shared=STEADY))
    lines = path.read_text().splitlines()
    broken = json.loads(lines[7])
    broken["machine"][name] = {"shared": mb} if name != "total_mb" else mb
    path.write_text("\n".join([*lines[:7], json.dumps(broken), *lines[8:]]) + "\n")
    run = judge(read_run(path, None))
    assert (run.run.skipped.total(), run.verdict) == (1, "inconclusive")


def test_less_than_nothing_is_no_size(tmp_path: Path) -> None:
    path = record(tmp_path, on_machine(asked(leak_phase()), shared=STEADY))
    path.write_text(re.sub(r'"shared_mb": ?(?=\d)', '"shared_mb": -', path.read_text()))
    with pytest.raises(Unreadable):
        read_run(path, None)


def test_what_could_not_be_read_is_said_and_not_judged(tmp_path: Path) -> None:
    results = on_machine(asked(leak_phase()), shared=STEADY, shared_mb=None, missing={"processes": "No such file"})
    path = record(tmp_path, results)
    assert worker_of(judge(read_run(path, None)))[0] == "NO LEAK"
    assert "Not read: processes (No such file)" in report_of(path)


def test_a_reading_that_is_missing_once_clears_nothing(tmp_path: Path) -> None:
    results = on_machine(asked(leak_phase()), shared=STEADY)
    for result in results:
        if result.machine and result.cycle == 4:
            result.machine = dataclasses.replace(result.machine, shared_mb=None)
    run = judged(tmp_path, results)
    assert worker_of(run) == ("INCONCLUSIVE", "unwatched_shared")
    assert run.machine
    assert run.machine.grew
    assert run.machine.grew.growth.mb_per_cycle == pytest.approx(40, rel=0.1)


@pytest.mark.parametrize(("shared", "status"), [(STEADY, "inconclusive"), ((), "pass")])
def test_loaded_cycles_with_growth_outside_let_no_run_of_all_phases_pass(
        shared: Sequence[float], status: str, tmp_path: Path) -> None:
    run = judged(tmp_path, [*healthy(), *on_machine(loaded_phase(FLAT), shared=shared)])
    assert run.verdict == status
    if status != "pass":
        assert "do not decide whether the worker grows under load" in said(run)


# -------------------------------------------------------------------------------------------------- limits and kills

POD = Container("/pod", ["worker"], 4096.0, 2236.0, 2500.0, 3900.0, 0)  # 31 cycles of 60 MB are left


def test_a_leak_says_when_the_container_reaches_its_limit(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase(LEAKING)), containers=[POD]))
    assert ("Container limit 4,096 MB: reached after about 31 more cycles (62 tasks, 31 minutes at this pace)."
            in said(run))
    assert said(run).count("reached after") == 1


def test_without_a_limit_the_machines_memory_counts(tmp_path: Path) -> None:
    run = judged(tmp_path, on_machine(asked(leak_phase(LEAKING))))
    assert "The 20,940 MB that this machine has left are used up after about 349 more cycles (698 tasks" in said(run)


def test_the_machine_counts_where_it_ends_first(tmp_path: Path) -> None:
    large = dataclasses.replace(POD, limit_mb=64_000.0)
    run = judged(tmp_path, on_machine(asked(leak_phase(LEAKING)), containers=[large]))
    assert "that this machine has left" in said(run)


def test_a_container_of_another_role_does_not_fill(tmp_path: Path) -> None:
    other = dataclasses.replace(POD, roles=["api"])
    run = judged(tmp_path, on_machine(asked(leak_phase(LEAKING)), containers=[other]))
    assert "that this machine has left" in said(run)


def test_a_kill_in_the_container_is_told_as_such(tmp_path: Path) -> None:
    killed = on_machine(asked(leak_phase()), containers=[POD])
    killed[4] = on_machine(asked(leak_phase()), containers=[dataclasses.replace(POD, oom_kills=2)])[4]
    run = judged(tmp_path, killed)
    assert ("With 1 concurrent task the kernel killed 2 processes in the container of the worker, whose limit is "
            "4,096 MB (OOM kill)." in said(run))
    assert run.machine
    assert run.machine.containers[0].oom_kills == 2


def test_the_first_screen_gains_nothing_where_there_is_nothing_to_say(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    before = judged(tmp_path / "before", healthy())
    after = judged(tmp_path, on_machine(healthy(), containers=[POD], others={"cc1plus": BUSY["falls again"]}))
    assert three_sentences(before, Words("en")) == three_sentences(after, Words("en"))


# ------------------------------------------------------------------------------------------------- report and figures


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_report_accounts_for_the_machine_and_shows_it(tmp_path: Path, language: str) -> None:
    path = record(tmp_path, on_machine(asked(leak_phase()), shared=STEADY, containers=[POD], others={"cc1": STEADY}))
    report = report_of(path, language)
    assert "machine.svg" in report
    assert "cc1 --serve (800)" in report
    assert "4,096" in report
    assert reader.main([str(path), "--lang", language]) == 3
    picture = path.with_suffix(".machine.svg").read_text()
    assert "<path" in picture


def test_text_from_outside_stays_text(tmp_path: Path) -> None:
    evil = "| <script>\x1b[31m` {x}"
    report_of(record(tmp_path, on_machine(asked(leak_phase()), others={evil: STEADY}, missing={evil: evil},
                                          containers=[dataclasses.replace(POD, path=evil)])))


def test_the_summary_has_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path, on_machine(asked(leak_phase(LEAKING)), shared=STEADY, containers=[POD]))
    reader.main([str(path), "--json"])
    machine = json.loads(capsys.readouterr().out)["machine"]
    shared = next(each for each in machine["parts"] if each["what"] == "shared")
    assert (shared["before_mb"], shared["after_mb"], shared["grows_with_tasks"]) == (140.0, 580.0, True)
    assert (machine["limit_reached"]["cycles"], machine["limit_reached"]["container"]) == (31, "/pod")
    assert machine["containers"][0]["limit_mb"] == 4096.0
