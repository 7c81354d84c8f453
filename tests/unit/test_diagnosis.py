"""What follows from the kinds of memory that grew, and from threads and files that rise."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_leak_stress_test import (
    Holdings,
    Kinds,
    ProcessMemory,
    RoleMemory,
    TaskResult,
    read_holdings,
    read_memory,
)
from stress_report import markdown
from stress_report.comparison import compare
from stress_report.diagnosis import Kept, Rising, rise
from stress_report.findings import Note
from stress_report.judging import Judged
from stress_report.recording import read_run
from stress_report.saying import Words, extra_sentence, three_sentences
from stress_report.summary import summary
from unit.reader_checks import check_markdown
from unit.reader_runs import BORN, FLAT, LEAKING, healthy, judged, leak_phase, loaded_phase, record, task
from unit.test_kinds import a_child

MODEL = "/models/model.bin"
START = Kinds(heap_mb=50.0, arenas_mb=20.0, arenas=4, large_mb=500.0, stacks_mb=1.0, shared_mb=2.0, copied_mb=3.0,
              lazy_mb=0.0, mapped_mb=90.0, mapped_files={MODEL: 80.0, "/usr/bin/python3.11": 10.0}, allocator="glibc",
              runtime="python", tuned={})
Grows = Callable[[int], Holdings]


def grown(cycle: int, *, threads: int = 5, files: int = 30, sockets: int = 3, limit: int | None = 1024,
          base: Kinds = START, **per_cycle: float) -> Holdings:
    """START and so many MB, or arenas, more with each cycle after the first."""
    more: Mapping[str, Any] = {name: getattr(base, name) + type(getattr(base, name))((cycle - 1) * step)
                               for name, step in per_cycle.items()}
    return Holdings(threads, files, sockets, limit, dataclasses.replace(base, **more))


def with_holdings(results: Sequence[TaskResult], holdings: Grows, role: str = "worker") -> list[TaskResult]:
    """In the last line of each judged cycle, as the instrument writes them."""
    last = {r.cycle: r for r in results if r.cycle and r.phase in ("leak", "loaded")}
    for cycle, result in last.items():
        memory = result.memory[role]
        held = [dataclasses.replace(p, holdings=holdings(cycle or 0)) for p in memory.processes]
        result.memory[role] = dataclasses.replace(memory, processes=held)
    return list(results)


def leaking(folder: Path, tools: Sequence[str] | None = (), **per_cycle: Any) -> Judged:
    """A worker that leaks 60 MB per cycle, of these kinds."""
    results = with_holdings(leak_phase(LEAKING), lambda cycle: grown(cycle, **per_cycle))
    for result in results:
        result.host = result.host | ({} if tools is None else {"tools": list(tools)})
    return judged(folder, results)


def conclusion(run: Judged) -> str | None:
    found = run.diagnosis.first
    return found.key if isinstance(found, Note) else found.what if found else None


JEMALLOC, GO = (dataclasses.replace(START, allocator="jemalloc"), dataclasses.replace(START, runtime="go"))
NATIVE = dataclasses.replace(START, runtime="native")
ARENA = {"MALLOC_ARENA_MAX": "2"}
TUNED = dataclasses.replace(START, tuned=ARENA)
HALF = [300.0, 700.0] + [700.0 + 30 * n for n in range(1, 15)]  # half of what LEAKING leaks


GROWN = [
    pytest.param({"arenas_mb": 50.0, "arenas": 1, "heap_mb": 8.0, "threads": 12}, "grew_arenas", id="many threads"),
    pytest.param({"arenas_mb": 50.0, "threads": 2}, "grew_heap", id="few threads"),
    pytest.param({"heap_mb": 55.0, "threads": 12}, "grew_heap", id="the main heap"),
    pytest.param({"heap_mb": 55.0, "base": TUNED}, "grew_tuned", id="few arenas already"),
    pytest.param({"large_mb": 60.0}, "grew_large_python", id="large in Python"),
    pytest.param({"large_mb": 60.0, "base": NATIVE}, "grew_large", id="large in C"),
    pytest.param({"large_mb": 60.0, "base": GO}, "grew_go", id="large in Go"),
    pytest.param({"large_mb": 60.0, "base": JEMALLOC}, "grew_allocator", id="large in jemalloc"),
    pytest.param({"shared_mb": 60.0}, "grew_shared", id="shared"),
    pytest.param({"stacks_mb": 60.0}, "grew_stacks", id="stacks"),
    pytest.param({"copied_mb": 60.0}, "grew_copied", id="written pages"),
    pytest.param({"large_mb": 60.0, "lazy_mb": 50.0}, "grew_lazy", id="freed already"),
    pytest.param({"large_mb": 30.0, "heap_mb": 30.0}, "grew_mixed", id="two kinds"),
    pytest.param({}, None, id="none that is recorded"),
]


@pytest.mark.parametrize(("grows", "key"), GROWN)
def test_a_sentence_follows_from_the_kind_that_grew(grows: dict[str, Any], key: str | None, tmp_path: Path) -> None:
    run = leaking(tmp_path, **grows)
    assert conclusion(run) == key
    assert len(extra_sentence(run, Words("en"))) == (key is not None)


def leaking_redis(folder: Path) -> Judged:
    results = leak_phase([300.0] + [700.0] * 13)
    for result, leaks in zip(results, leak_phase(LEAKING), strict=True):
        result.memory["redis"] = leaks.memory["worker"]
    return judged(folder, with_holdings(results, lambda cycle: grown(cycle, large_mb=60.0, base=NATIVE), "redis"))


def test_the_sentence_of_redis_is_its_own(tmp_path: Path) -> None:
    run = leaking_redis(tmp_path)
    assert conclusion(run) == "grew_redis"
    assert [step.command for step in run.diagnosis.commands] == ["redis-cli --bigkeys"]


def test_a_healthy_service_has_no_line_more_and_a_report_that_says_so(tmp_path: Path) -> None:
    run = judged(tmp_path, with_holdings(healthy(), grown))
    assert run.verdict == "pass"
    assert (run.diagnosis.first, run.diagnosis.grown, len(three_sentences(run, Words("en")))) == (None, {}, 3)
    assert "No kind of memory of any process changed" in markdown.report(run, None, {}, [], Words("en"))


def test_growth_that_is_cleared_has_no_sentence_about_its_kind(tmp_path: Path) -> None:
    """Of a service that does not leak the kinds may shift, or grow by what the tolerance allows."""
    run = judged(tmp_path, with_holdings(healthy(), lambda cycle: grown(cycle, arenas_mb=3.0, large_mb=-2.0)))
    assert run.diagnosis.first is None
    assert "worker" in run.diagnosis.grown


def test_an_older_record_and_one_without_kinds_have_no_diagnosis(tmp_path: Path) -> None:
    run = judged(tmp_path, healthy())
    assert (run.diagnosis.first, run.diagnosis.read, run.diagnosis.grown) == (None, False, {})
    assert "What kind of memory grew" not in markdown.report(run, None, {}, [], Words("en"))


def test_lines_written_before_kinds_were_recorded_can_be_read(tmp_path: Path) -> None:
    path = record(tmp_path, healthy())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for memory in line["memory"].values():
            for process in memory["processes"]:
                del process["holdings"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(path, None)
    assert not run.skipped
    assert len(run.results) == len(lines)


@pytest.mark.parametrize("missing", ["large_mb", "tuned"])
def test_a_kind_that_was_lost_is_not_taken_for_nothing(missing: str, tmp_path: Path) -> None:
    path = record(tmp_path, with_holdings(healthy(), grown))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    held = next(p["holdings"] for line in lines for m in line["memory"].values() for p in m["processes"]
                if p["holdings"])
    del held["kinds"][missing]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run(path, None).skipped.total() == 1


def some_of_everything(folder: Path) -> Iterator[Judged]:
    """Runs of which, together, all is said that can be said of a diagnosis."""
    rows = [row.values[0] for row in GROWN]
    yield from (leaking(folder, tools=["gdb", "memray"], **grows) for grows in rows)  # type: ignore[arg-type]
    yield leaking(folder, base=dataclasses.replace(NATIVE, allocator="jemalloc"), large_mb=60.0)
    yield leaking_redis(folder)
    for holds in (grown, maps, lambda c: grown(c, threads=30 * c, files=30 * c), lambda c: grown(
            c, files=30 * c, sockets=30 * c), lambda c: Holdings(5, None, None, None, None)):
        yield judged(folder, with_holdings(healthy(), holds))
    yield judged(folder, with_holdings(healthy(), lambda cycle: grown(cycle, mapped_mb=83.0)))


def runs_with_another_allocator(folder: Path) -> Iterator[Judged]:
    """One before it, with the allocator as it is, and three after it."""
    yield judged(folder, with_holdings(leak_phase(LEAKING), grown))
    for readings in (FLAT, LEAKING, HALF):
        yield judged(folder, with_holdings(leak_phase(readings), lambda cycle: grown(cycle, base=TUNED)))


# ---------------------------------------------------------------------------------------- threads and files that rise


@pytest.mark.parametrize(("threads", "rises"), [
    pytest.param(lambda c: 5 + 24 * c, True, id="12 per task"),
    pytest.param(lambda c: 5 + 2 * c, True, id="one per task"),
    pytest.param(lambda c: 5 + c // 2, False, id="in some cycles"),
    pytest.param(lambda c: 5 + c, False, id="a few in all"),
    pytest.param(lambda c: 5 + min(2 * c, 12), False, id="a pool that is full"),
    pytest.param(lambda c: 5 + 30 * (c % 2), False, id="they come and go"),
    pytest.param(lambda c: 5 + 40 * (c > 6), False, id="once"),
    pytest.param(lambda c: 500 - 30 * c, False, id="fewer and fewer"),
    pytest.param(lambda c: 5 + 3 * c - (c == 5), True, id="one that ended by chance"),
])
def test_threads_that_rise_with_the_tasks_are_a_finding(threads: Callable[[int], int], rises: bool,
                                                        tmp_path: Path) -> None:
    run = judged(tmp_path, with_holdings(healthy(), lambda cycle: grown(cycle, threads=threads(cycle))))
    assert bool(run.diagnosis.rising) is rises
    assert (conclusion(run) == "threads") is rises
    assert run.verdict == "pass", "it withholds nothing"


def test_rising_threads_are_on_the_first_screen_with_their_figures(tmp_path: Path) -> None:
    run = judged(tmp_path, with_holdings(healthy(), lambda cycle: grown(cycle, threads=5 + 24 * cycle)))
    assert run.diagnosis.rising == [Rising("threads", "worker", 100, 29, 245, 24.0, 12.0, False, None)]
    _, _, line, advice = three_sentences(run, Words("en"))
    assert "rise with the tasks, from 29 to 245, by 12.0 per task" in line
    assert "what leaves threads behind in the worker" in advice


def test_open_files_are_counted_down_to_their_limit(tmp_path: Path) -> None:
    run = judged(tmp_path, with_holdings(healthy(), lambda c: grown(c, files=24 + 6 * c, sockets=6 * c, limit=100)))
    (rising,) = run.diagnosis.rising
    assert (rising.what, rising.per_task, rising.sockets, rising.tasks_left) == ("files", 3.0, True, 5)
    said = extra_sentence(run, Words("en"))[0]
    assert "most of them sockets" in said
    assert "After about 5 more tasks process 100 may open no more" in said
    unlimited = judged(tmp_path, with_holdings(healthy(), lambda c: grown(c, files=24 + 6 * c, limit=None)))
    assert unlimited.diagnosis.rising[0].tasks_left is None
    assert extra_sentence(unlimited, Words("en"))[0].endswith("not closed.")


def test_threads_of_workers_that_take_turns_are_counted_together(tmp_path: Path) -> None:
    """Each gets the long clip, and its threads, in every other cycle only."""
    results = healthy()
    for result in (r for r in results if r.cycle):
        memory, cycle = result.memory["worker"], result.cycle or 0
        first, = memory.processes
        both = [dataclasses.replace(first, pid=pid, holdings=grown(cycle, threads=5 + 12 * ((cycle + turn) // 2)))
                for turn, pid in enumerate((100, 101))]
        result.memory["worker"] = dataclasses.replace(memory, processes=both)
    (rising,) = judged(tmp_path, results).diagnosis.rising
    assert (rising.per_cycle, rising.first, rising.last) == (12.0, 22, 130)


@pytest.mark.parametrize(("replaced", "expected"), [(4, (4, 10)), (6, (6, 10)), (8, (1, 7))])
def test_of_replaced_processes_the_longest_life_counts_the_later_of_two(replaced: int, expected: tuple[int, int],
                                                                        tmp_path: Path) -> None:
    results = with_holdings(healthy(), lambda cycle: grown(cycle, threads=24 * cycle, large_mb=9.0))
    for result in (r for r in results if (r.cycle or 0) >= replaced):
        first, = result.memory["worker"].processes
        result.memory["worker"].processes[0] = dataclasses.replace(first, pid=101)
    found = judged(tmp_path, results).diagnosis
    assert found.cycles == expected
    assert [rising.per_cycle for rising in found.rising] == [24.0] * (expected[1] - expected[0] >= 5)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_counts_that_waver_are_never_taken_for_a_rise(noise: list[int]) -> None:
    held = [Holdings(10 + more, 10, 0, 99, None) for more in noise]
    assert rise("threads", [Kept("worker", 1, list(range(1, 13)), held)], 2) is None


def test_counts_that_were_not_read_are_no_counts(tmp_path: Path) -> None:
    run = judged(tmp_path, with_holdings(healthy(), lambda cycle: Holdings(5, None, None, None, None)))
    assert (run.diagnosis.rising, run.diagnosis.hidden) == ([], ["worker"])
    said = markdown.report(run, None, {}, [], Words("en"))
    assert "could not be read: worker. Of other users' processes only they and root can" in said
    partly = with_holdings(healthy(), lambda cycle: grown(cycle, files=30 * cycle))
    assert judged(tmp_path, partly).diagnosis.rising
    for result in (r for r in partly if r.cycle == 7):
        process, = result.memory["worker"].processes
        lost = dataclasses.replace(process.holdings or grown(1), files=None)
        result.memory["worker"].processes[0] = dataclasses.replace(process, holdings=lost)
    assert judged(tmp_path, partly).diagnosis.rising == []


def test_loaded_cycles_alone_are_diagnosed_too(tmp_path: Path) -> None:
    results = loaded_phase(LEAKING)
    for result in results:
        result.settings = result.settings | {"phase": "loaded"}
    run = judged(tmp_path, with_holdings(results, lambda cycle: grown(cycle, shared_mb=60.0)))
    assert conclusion(run) == "grew_shared"


def test_a_leak_that_only_loaded_cycles_show_is_diagnosed_by_them(tmp_path: Path) -> None:
    def run(readings: Sequence[float], under_load: Sequence[float]) -> Judged:
        leak = with_holdings(leak_phase(readings), lambda cycle: grown(cycle, large_mb=60.0))
        return judged(tmp_path, leak + with_holdings(loaded_phase(under_load), lambda c: grown(c, shared_mb=60.0)))

    assert conclusion(run([300.0] + [700.0] * 13, LEAKING)) == "grew_shared"
    assert conclusion(run(LEAKING, LEAKING)) == "grew_large_python"
    assert conclusion(run([300.0] + [700.0] * 13, [700.0] * 14)) is None


# -------------------------------------------------------------------------------------------------------- mapped files


def maps(cycle: int, rate: float = 83.0, stop: int = 99) -> Holdings:
    mb = (min(cycle, stop) - 1) * rate
    files = START.mapped_files | {MODEL: 80.0 + mb}
    return grown(cycle, base=dataclasses.replace(START, mapped_mb=90.0 + mb, mapped_files=files))


@pytest.mark.parametrize(("how", "said"), [
    pytest.param({}, True, id="83 MB with each cycle"), pytest.param({"rate": 9.0}, False, id="within the tolerance"),
    pytest.param({"stop": 5}, False, id="first use of a large model"),
    pytest.param({"rate": -20.0}, False, id="fewer and fewer")])
def test_mapped_files_that_grow_are_said_with_their_names(how: dict[str, Any], said: bool, tmp_path: Path) -> None:
    run = judged(tmp_path, with_holdings(healthy(), lambda cycle: maps(cycle, **how)))
    assert (conclusion(run) == "grew_mapped") is said
    assert run.roles["worker"].growth.verdict == "NO LEAK"
    if said:
        assert f"grew by 83.0 MB per cycle ({MODEL})" in extra_sentence(run, Words("en"))[0]


def test_a_mapped_file_that_was_not_among_the_largest_is_named_when_it_is(tmp_path: Path) -> None:
    def held(cycle: int) -> Holdings:
        found = maps(cycle)
        assert found.kinds
        files = {"/tmp/copy": found.kinds.mapped_mb} if cycle > 1 else START.mapped_files
        return dataclasses.replace(found, kinds=dataclasses.replace(found.kinds, mapped_files=files))

    run = judged(tmp_path, with_holdings(healthy(), held))
    assert "(/tmp/copy)" in extra_sentence(run, Words("en"))[0]


# ----------------------------------------------------------------------------------------------------------- the report


@pytest.mark.parametrize("read", [0, 1], ids=["mappings never read", "mappings read once"])
def test_a_leak_whose_kinds_are_not_known_is_reported_with_its_threads(read: int, tmp_path: Path) -> None:
    def holdings(cycle: int) -> Holdings:
        return dataclasses.replace(grown(cycle, threads=5 + cycle % 2), **{} if cycle <= read else {"kinds": None})

    run = judged(tmp_path, with_holdings(leak_phase(LEAKING), holdings))
    assert run.roles["worker"].growth.verdict == "LEAK"
    assert [step.command for step in run.diagnosis.commands][:1] == (["memray attach 100"] if read else [])
    report = markdown.report(run, None, {}, [], Words("en"))
    check_markdown(report)
    assert "after cycle 1, MB | after cycle 12, MB" in report
    assert "threads" in report


@pytest.mark.parametrize("name", ["threads", "files", "sockets"])
@pytest.mark.parametrize("count", [-1, 10**400])
def test_a_count_that_no_process_can_have_makes_a_bad_line(name: str, count: int, tmp_path: Path) -> None:
    path = record(tmp_path, with_holdings(leak_phase(), grown))
    lines = path.read_text().splitlines()
    broken = json.loads(lines[7])
    broken["memory"]["worker"]["processes"][0]["holdings"][name] = count
    path.write_text("\n".join([*lines[:7], json.dumps(broken), *lines[8:]]) + "\n")
    assert read_run(path, None).skipped.total() == 1


def test_the_report_shows_what_grew_and_the_commands_that_fit(tmp_path: Path) -> None:
    run = leaking(tmp_path, tools=["gdb", "memray"], large_mb=60.0, arenas=1, threads=9)
    for language in ("en", "zh-CN"):
        report = markdown.report(run, None, {}, [], Words(language))
        check_markdown(report)
        assert "memray attach 100" in report
    assert "| worker | 100 | large blocks | 500.0 | 1,160.0 | +660.0 | +60.0 |" in markdown.report(
        run, None, {}, [], Words("en"))
    assert [(step.tool, step.installed) for step in run.diagnosis.commands] == [("memray", True), (None, True)]
    figures = summary(run, Words("en"))["kinds"]["worker"]
    assert (figures["pid"], figures["cycles"], figures["grown_mb"]["large"]) == (100, 11, 660.0)


@pytest.mark.parametrize(("grows", "tools"), [
    ({"heap_mb": 60.0, "base": NATIVE}, [None, "heaptrack", "gdb"]), ({"large_mb": 60.0, "base": GO}, ["go"]),
    ({"large_mb": 60.0, "base": dataclasses.replace(JEMALLOC, runtime="native")}, ["heaptrack", "gdb", "jeprof"]),
    ({"arenas_mb": 60.0, "threads": 9}, [None, "memray", None])])
def test_commands_fit_the_language_and_the_allocator(grows: dict[str, Any], tools: list[str | None],
                                                     tmp_path: Path) -> None:
    run = leaking(tmp_path, **grows)
    assert [step.tool for step in run.diagnosis.commands] == tools
    assert all(step.installed is (step.tool is None) for step in run.diagnosis.commands)
    assert all(step.installed is None for step in leaking(tmp_path, tools=None, **grows).diagnosis.commands)


# --------------------------------------------------------------------------------------------------------- two runs


def test_the_same_setting_of_the_allocator_in_both_runs_explains_nothing(tmp_path: Path) -> None:
    leaks, tuned = tmp_path / "leaks", list(runs_with_another_allocator(tmp_path))
    leaks.mkdir()
    before = judged(leaks, with_holdings(leak_phase(LEAKING), lambda cycle: grown(cycle, base=TUNED)))
    assert compare(before, tuned[1])[0].key == "fix_shown"


@pytest.mark.parametrize(("readings", "tuned", "key"), [
    pytest.param(FLAT, ARENA, "fix_allocator", id="it was"),
    pytest.param(LEAKING, ARENA, "fix_not_allocator", id="it was not"),
    pytest.param(HALF, ARENA, "fix_part_allocator", id="in part"),
    pytest.param(FLAT, {}, "fix_shown", id="no other setting"),
    pytest.param(LEAKING, {}, "fix_not_shown", id="still there, no other setting")])
def test_a_run_with_another_setting_of_the_allocator_says_whether_it_was_the_allocator(
    readings: list[float], tuned: dict[str, str], key: str, tmp_path: Path
) -> None:
    kinds = dataclasses.replace(START, tuned=tuned)
    sides = []
    for name, series, base in (("before", LEAKING, START), ("after", readings, kinds)):
        (tmp_path / name).mkdir()
        results = with_holdings(leak_phase(series), lambda cycle, base=base: grown(cycle, base=base))  # type: ignore[misc]
        sides.append(judged(tmp_path / name, results))
    fix, _, _ = compare(*sides)
    assert fix.key == key
    if tuned:
        assert "MALLOC_ARENA_MAX=2" in Words("en").note(fix)
    (tmp_path / "unknown").mkdir()
    assert "allocator" not in compare(judged(tmp_path / "unknown", leak_phase(LEAKING)), sides[1])[0].key


# ------------------------------------------------------------------------------------- processes of a known truth


def watched(folder: Path, order: str, cycles: int = 11, **environment: str) -> Judged:
    """A worker that carries out an order in each cycle, read, recorded and judged as in a test; tolerance 2 MB."""
    results = []
    (folder / "run").mkdir(parents=True, exist_ok=True)
    with a_child(folder, **environment) as worker:
        worker.do("pool 14 0")
        process = psutil.Process(worker.popen.pid)
        sample = read_memory(process)
        for cycle in range(cycles + 1):
            before = sample
            worker.do(order)
            sample = read_memory(process)
            assert sample
            assert before
            held = read_holdings(process.pid, with_kinds=cycle in (1, cycles // 2, cycles)) if cycle else None
            seen = ProcessMemory(process.pid, BORN, "python", sample.rss, False, True, True, sample.private, held)
            memory = RoleMemory(before.rss, sample.rss, before.private, sample.private, sample.rss, [seen])
            results.append(task(30 * cycle + 30, "leak", "long", {"worker": memory}, cycle=cycle))
    for result in results:
        result.settings = result.settings | {"phase": "leak", "tolerance_mb": 2.0}
    return judged(folder / "run", results)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/PID/smaps")
@pytest.mark.parametrize(("order", "verdict", "key"), [
    pytest.param("threads 12 0", "NO LEAK", "threads", id="12 threads with each task"),
    pytest.param("files 3 0", "NO LEAK", "files", id="3 files with each task"),
    pytest.param("large 1 12", "LEAK", "grew_large_python", id="large blocks"),
    pytest.param("heap 1 12", "LEAK", "grew_heap", id="small blocks"),
    pytest.param("shared 1 12", "LEAK", "grew_shared", id="shared memory"),
    pytest.param("map 0 12", "NO LEAK", "grew_mapped", id="mapped files"),
    pytest.param("heap 0 0", "NO LEAK", None, id="nothing")])
def test_what_is_said_of_a_real_process(order: str, verdict: str, key: str | None, tmp_path: Path) -> None:
    run = watched(tmp_path, order)
    found = next((rising for rising in run.diagnosis.rising if key in ("threads", "files")), None)
    assert run.roles["worker"].growth.verdict == verdict
    assert conclusion(run) == key
    if key == "threads":
        assert found
        assert found.per_task == 12.0
    if key == "grew_mapped":
        assert f"({tmp_path}/model" in extra_sentence(run, Words("en"))[0]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/PID/smaps")
@pytest.mark.parametrize(("verb", "fix"), [("fragments", "fix_allocator"), ("arenas", "fix_not_allocator")])
def test_a_second_run_tells_fragmented_arenas_from_a_leak_in_them(verb: str, fix: str, tmp_path: Path) -> None:
    """Both grow alike, and the first run says what tells them apart: the environment of the second one."""
    before = watched(tmp_path / "before", f"{verb} 1 12", MALLOC_ARENA_MAX="64")
    found = before.diagnosis.first
    assert isinstance(found, Note)
    assert (before.roles["worker"].growth.verdict, found.key) == ("LEAK", "grew_arenas")
    variables = dict(pair.split("=") for pair in found.facts["test"].split())
    after = watched(tmp_path / "after", f"{verb} 1 12", **variables)
    assert compare(before, after)[0].key == fix
