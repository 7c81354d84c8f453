"""The sampler against real processes that take and give back memory of a known size on command."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    CSV_COLUMNS,
    MemorySample,
    ProcessTable,
    Reading,
    Sampler,
    Watched,
    cpu_percent,
    is_flat,
    middle,
    read_memory,
    role_sums,
)

NEVER = threading.Event()

CHILD = '''
import mmap, os, subprocess, sys, time
MIB, held, maps, children = 1024 * 1024, [], [], []

def take(mb):
    block = bytearray(int(float(mb) * MIB))
    block[::4096] = b"x" * len(range(0, len(block), 4096))
    return block

for line in sys.stdin:
    verb, *args = line.split()
    if verb == "keep":
        held.append(take(args[0]))
    elif verb == "free":
        held.clear()
    elif verb == "spike":  # MB, seconds
        block = take(args[0])
        time.sleep(float(args[1]))
        del block
    elif verb == "map":  # file
        with open(args[0], "rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        sum(maps[-1][at] for at in range(0, len(maps[-1]), 4096))
    elif verb == "share":  # MB in shared memory of no file, as /dev/shm
        maps.append(mmap.mmap(-1, int(args[0]) * MIB))
        for at in range(0, len(maps[-1]), 4096):
            maps[-1][at] = 1
    elif verb == "burn":  # seconds of CPU
        end = time.process_time() + float(args[0])
        while time.process_time() < end:
            pass
    elif verb == "fork":  # a child that spikes at its birth, keeps MB and lives until its standard input ends
        # Its memory stands still while it waits, and does not move in its last moments: no read-ahead, no clean-up.
        program = ("import os; a = bytearray(b'x') * (%s << 20); del a; b = bytearray(b'x') * (%s << 20); "
                   "print(flush=True); os.read(0, 1); os._exit(0)")
        children.append(subprocess.Popen([sys.executable, "-c", program % tuple(args)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        children[-1].stdout.readline()
    elif verb == "end":  # the child
        children[-1].stdin.close()
        children.pop().wait()
    elif verb == "zombie":  # the child ends and nobody asks
        children[-1].stdin.close()
        while open("/proc/%d/stat" % children[-1].pid).read().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
    print(children[-1].pid if children else 0, flush=True)
'''


class Child:
    """A process under test; every command has been carried out when say() returns."""

    def __init__(self) -> None:
        gives_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what it frees goes back to the system at once
        self.popen = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True, env=gives_back)
        self.pid = self.popen.pid
        self.say("ready")

    def order(self, command: str) -> None:
        assert self.popen.stdin
        print(command, file=self.popen.stdin, flush=True)

    def say(self, command: str) -> int:
        """Carry out a command; the pid of its youngest child, 0 without."""
        assert self.popen.stdout
        self.order(command)
        return int(self.popen.stdout.readline())

    def memory(self) -> MemorySample:
        sample = read_memory(psutil.Process(self.pid))
        assert sample
        return sample

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe
                pipe.close()


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.end()


def table_of(**pids: int) -> ProcessTable:
    table = ProcessTable({}, {role: (pid,) for role, pid in pids.items()}, set())
    table.scan()
    return table


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)


def close_to(mb: float) -> object:
    return pytest.approx(mb, abs=1.5)


def standing_still(pid: int) -> MemorySample:
    """The memory of a process that has nothing left to do: it sleeps, and looks a moment apart see the same."""
    process, seen = psutil.Process(pid), []

    def twice_the_same() -> bool:
        seen.append((process.status(), read_memory(process)))
        time.sleep(0.05)
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3] and seen[-1][0] == psutil.STATUS_SLEEPING

    until(twice_the_same)
    assert seen[-1][1]
    return seen[-1][1]


def next_look(sampler: Sampler) -> Reading:
    """The sampler's first reading that was begun after this call."""
    begin = time.monotonic()
    until(lambda: (looked := sampler.latest()) and looked.at > begin)
    looked = sampler.latest()
    assert looked
    return looked


def before_each_look(table: ProcessTable, do: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen between any two looks of the sampler, however fast or slow these follow each other."""
    read = table.read

    def after_that(**options: bool) -> list[Watched]:
        do()
        return read(**options)

    monkeypatch.setattr(table, "read", after_that)


# --------------------------------------------------------------------------------------- one process, one number


def test_memory_of_a_process_is_that_which_it_took(child: Child) -> None:
    before = child.memory()
    child.say("keep 40")
    after = child.memory()
    assert before.private is not None
    assert after.private is not None
    assert after.rss - before.rss == close_to(40)
    assert after.private - before.private == close_to(40)
    child.say("free")
    given_back = child.memory()
    assert given_back.rss == close_to(before.rss)
    assert given_back.high_water is not None
    assert given_back.high_water >= after.rss - 0.5


def test_a_mapped_file_moves_rss_and_not_private_memory(child: Child, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(b"\1" * (32 << 20))
    before = child.memory()
    child.say(f"map {model}")
    after = child.memory()
    assert before.private is not None
    assert after.rss - before.rss == close_to(32)
    assert after.private == close_to(before.private)


def test_shared_memory_without_a_file_is_private_memory_here(child: Child) -> None:
    """Nothing but the process's end gives it back: a leak may be made of it."""
    before = child.memory()
    child.say("share 24")
    after = child.memory()
    assert before.private is not None
    assert after.private is not None
    assert after.private - before.private == close_to(24)


def test_swapped_memory_counts_as_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swap cannot be had on every machine: the kernel's text is given instead."""
    status = (b"Name:\trq: VmRSS\nVmHWM:\t 9216 kB\nVmRSS:\t 4096 kB\nRssAnon:\t 2048 kB\nRssShmem:\t 1024 kB\n"
              b"VmSwap:\t 5120 kB\n")
    monkeypatch.setattr(Path, "read_bytes", lambda *_, **__: status)
    assert read_memory(psutil.Process()) == MemorySample(4.0, 8.0, 9.0)


def test_a_kernel_that_tells_no_private_memory_gives_none_and_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda *_, **__: b"VmRSS:\t 4096 kB\n")
    assert read_memory(psutil.Process()) == MemorySample(4.0, None, None)


def test_without_proc_rss_comes_from_psutil(monkeypatch: pytest.MonkeyPatch, child: Child) -> None:
    expected = child.memory().rss
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(Path, "read_bytes", raising(FileNotFoundError()))
    sample = read_memory(psutil.Process(child.pid))
    assert sample
    assert sample.rss == close_to(expected)
    assert (sample.private, sample.high_water) == (None, None)


def raising(error: Exception) -> Callable[..., None]:
    def function(*_: object, **__: object) -> None:
        raise error

    return function


def test_a_zombie_has_no_memory_and_has_ended(child: Child) -> None:
    born = child.say("fork 1 1")
    table = table_of(worker=child.pid)
    assert set(table.alive) == {child.pid, born}
    child.say("zombie")
    assert read_memory(psutil.Process(born)) is None
    assert [w.process.pid for w in table.read()] == [born]
    assert set(table.alive) == {child.pid}


def test_a_vanished_process_is_dropped_and_the_rest_kept(child: Child) -> None:
    other = Child()
    process = psutil.Process(other.pid)
    table = table_of(worker=child.pid, api=other.pid)
    other.end()
    assert read_memory(process) is None
    [gone] = table.read()
    assert (gone.process.pid, gone.role, gone.ended) == (other.pid, "api", True)
    assert set(table.alive) == {child.pid}
    assert table.read() == []


# ----------------------------------------------------------------------------------------- trees and their peaks


def test_descendants_of_any_depth_are_found() -> None:
    nested = ("import subprocess, sys, time; n = int(sys.argv[2]); "
              "n and subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[1], str(n - 1)]); time.sleep(60)")
    root = subprocess.Popen([sys.executable, "-c", nested, nested, "3"])
    found: list[int] = []
    try:
        until(lambda: len(psutil.Process(root.pid).children(recursive=True)) == 3)
        table = table_of(worker=root.pid)
        found = list(table.alive)
        assert len(found) == 4
        assert [w.root for w in table.alive.values()].count(True) == 1
        assert [w.serves for w in table.alive.values()].count(True) == 1
    finally:
        for pid in {root.pid, *found}:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        root.wait()


def test_a_new_child_is_noticed_and_does_not_serve(child: Child) -> None:
    table = table_of(worker=child.pid)
    born = child.say("fork 1 1")
    table.follow()
    assert set(table.alive) == {child.pid, born}
    assert not table.alive[born].serves
    assert not table.alive[born].root
    assert table.alive[born].role == "worker"


def test_grandchildren_are_taken_in_whatever_the_order_of_pids(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(worker=child.pid)
    parents = {7001: 7002, 7002: 7003, 7003: child.pid, 7004: 1}  # pids have wrapped: the oldest has the highest
    taken: list[int] = []

    def add(role: str, pid: int, parent: Watched) -> Watched:
        taken.append(pid)
        table.alive[pid] = parent
        return parent

    monkeypatch.setattr(psutil, "pids", lambda: [*table.known, *parents])
    monkeypatch.setattr(instrument, "parent_of", parents.get)
    monkeypatch.setattr(table, "_add", add)
    table.follow()
    assert taken == [7003, 7002, 7001]


def test_a_peak_between_two_looks_is_caught(child: Child) -> None:
    table = table_of(worker=child.pid)
    table.read()
    watched = table.alive[child.pid]
    base = watched.sample.rss
    child.say("spike 60 0.25")
    table.read()
    assert watched.sample.rss == close_to(base)
    assert watched.tick_peak == close_to(base + 60)
    assert watched.peak == close_to(base + 60)
    table.read()
    assert watched.tick_peak == close_to(base)  # one look later it is over, but the window remembers
    assert watched.peak == close_to(base + 60)


def test_a_peak_at_the_birth_of_a_process_is_caught(child: Child) -> None:
    table = table_of(worker=child.pid)
    born = child.say("fork 50 2")
    table.follow()
    watched = table.alive[born]
    table.read()
    assert watched.sample.rss < watched.peak - 40
    assert role_sums([watched])[2]["worker"] == watched.peak


def test_peaks_start_anew_with_each_window(child: Child) -> None:
    with Sampler(table_of(worker=child.pid), None, 1.0) as sampler:
        sampler.open_window()
        base = child.memory().rss
        child.say("spike 50 0.25")
        until(lambda: sampler.observed().peaks["worker"] > base + 48)
        [process] = sampler.observed().processes["worker"]
        assert process.peak_mb == close_to(base + 50)
        sampler.open_window()
        next_look(sampler)
        window = sampler.observed()
        assert window.peaks["worker"] == close_to(base)
        assert window.processes["worker"][0].peak_mb == close_to(base)
        child.say("spike 30 0.01")  # below the peak of the window before
        until(lambda: sampler.observed().peaks["worker"] > base + 28)


def test_a_childs_last_held_memory_and_peak_outlive_it(child: Child) -> None:
    with Sampler(table_of(worker=child.pid), None, 1.0) as sampler:
        sampler.open_window()
        born = child.say("fork 60 30")
        until(lambda: born in {w.pid for w in sampler.watched()})
        held = standing_still(born)
        next_look(sampler)
        child.say("end")
        until(lambda: born not in {w.pid for w in sampler.watched()})
        ended, parent = sampler.observed().processes["worker"]
        assert (ended.pid, ended.ended, ended.resident, ended.root) == (born, True, False, False)
        assert ended.held_mb == pytest.approx(held.private, abs=0.001)
        assert ended.peak_mb is not None
        assert ended.peak_mb > held.rss + 25
        assert (parent.pid, parent.ended, parent.resident, parent.root) == (child.pid, False, True, True)
        assert sampler.endings() == ()  # a work-horse's end is no death
        sampler.open_window()
        assert [p.pid for p in sampler.observed().processes["worker"]] == [child.pid]


def test_sums_are_per_role_and_leave_out_what_is_unknown() -> None:
    def watched(role: str, rss: float, private: float | None, peak: float) -> Watched:
        sample = MemorySample(rss, private, None)
        return Watched(psutil.Process(), role, "x", 0.0, "", True, True, sample, peak, 0.0, peak)

    processes = [watched("worker", 10, 4, 20), watched("worker", 5, 2, 5), watched("api", 7, None, 8)]
    rss, private, peaks = role_sums(processes)
    assert rss == {"worker": 15, "api": 7}
    assert private == {"worker": 6}
    assert peaks == {"worker": 25, "api": 8}


# ------------------------------------------------------------------------------------------------ at rest


def reading(at: float = 0.0, pids: tuple[int, ...] = (1,), **mb: float) -> Reading:
    return Reading(at, mb, mb, frozenset(pids))


@pytest.mark.parametrize(("readings", "flat"), [
    ([reading(worker=100), reading(worker=105)], True),  # within SETTLE_MB
    ([reading(worker=100), reading(worker=105.1)], False),
    ([reading(worker=100), reading(worker=94), reading(worker=100)], False),  # a fall is no rest either
    ([reading(worker=100, api=50), reading(worker=100, api=60)], False),  # any role
    ([reading(worker=100), reading(pids=(1, 2), worker=100)], False),  # a process came
    ([reading(pids=(1,), worker=100), reading(pids=(2,), worker=100)], False),  # replaced
])
def test_memory_is_at_rest_when_flat_and_no_process_came_or_went(readings: list[Reading], flat: bool) -> None:
    assert is_flat(readings) is flat


def test_rest_is_judged_on_private_memory_where_known() -> None:
    """Mapping a model again moves RSS by hundreds of MB."""
    assert is_flat([Reading(0, {"worker": 100}, {"worker": 50}, frozenset({1})),
                    Reading(1, {"worker": 400}, {"worker": 51}, frozenset({1}))])
    assert not is_flat([Reading(0, {"worker": 100}, {}, frozenset({1})),
                        Reading(1, {"worker": 400}, {}, frozenset({1}))])


def test_a_reading_at_rest_is_taken_after_the_call_and_has_stood_still(child: Child) -> None:
    with Sampler(table_of(worker=child.pid), None, 1.0) as sampler:
        until(sampler.latest)
        child.say("keep 30")
        begin = time.monotonic()
        at_rest = sampler.at_rest(10, NEVER)
        assert at_rest.settled
        assert at_rest.at >= begin + instrument.SETTLE_S - 0.05
        assert at_rest.private["worker"] == close_to(child.memory().private or 0)
        assert at_rest.pids == {child.pid}


def test_memory_that_does_not_come_to_rest_is_marked_so(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "SETTLE_S", 0.6)
    stop, turns = threading.Event(), itertools.cycle(("keep 12", "free"))
    table = table_of(worker=child.pid)
    before_each_look(table, lambda: stop.is_set() or child.say(next(turns)), monkeypatch)
    with Sampler(table, None, 1.0) as sampler:
        unrest = sampler.at_rest(2, NEVER)
        assert not unrest.settled
        assert unrest.rss["worker"] > 5
        stop.set()
        assert sampler.at_rest(10, NEVER).settled


def test_memory_that_never_rests_is_read_by_its_middle() -> None:
    """Where it happens to be at the time-out says less than where it usually is; a role that has gone is left out."""
    swings = [Reading(at, {"worker": mb, "api": 50.0}, {"worker": mb - 1}, frozenset({1}))
              for at, mb in enumerate([100.0, 160.0, 110.0, 100.0, 160.0])]
    gone = dataclasses.replace(swings[-1], rss={"worker": 160.0})
    usual = dataclasses.replace(swings[-1], rss={"worker": 110.0, "api": 50.0}, private={"worker": 109.0})
    assert middle(swings) == usual
    assert middle([*swings[:-1], gone]).rss == {"worker": 110.0}
    assert not middle(swings).settled


def test_one_sample_after_a_hole_is_no_rest(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starved sampler: two looks farther apart than memory must stand still."""
    monkeypatch.setattr(instrument, "SETTLE_S", 0.3)
    table = table_of(worker=child.pid)
    before_each_look(table, lambda: time.sleep(0.4), monkeypatch)
    with Sampler(table, None, 1.0) as sampler:
        until(sampler.latest)
        assert not sampler.at_rest(2, NEVER).settled


def test_a_reading_at_rest_holds_no_process_that_has_just_ended(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    """A work-horse that still winds up when its task is done: the reading waits until it is gone."""
    monkeypatch.setattr(instrument, "SETTLE_S", 0.8)
    born = child.say("fork 1 20")
    table, asked, looks = table_of(worker=child.pid), threading.Event(), itertools.count(1)
    before_each_look(table, lambda: asked.is_set() and next(looks) == 3 and child.say("end"), monkeypatch)
    with Sampler(table, None, 1.0) as sampler:
        until(lambda: len(sampler.watched()) == 2)
        asked.set()
        at_rest = sampler.at_rest(10, NEVER)
        assert at_rest.settled
        assert born not in at_rest.pids
        assert at_rest.private["worker"] == close_to(child.memory().private or 0)


@pytest.mark.parametrize(("role", "there_before", "counts"), [
    ("api", True, True), ("api", False, False), ("worker", True, False)])
def test_the_end_of_one_of_a_servers_process_pool_is_not_missed(
        role: str, there_before: bool, counts: bool, child: Child) -> None:
    """It does not listen, but was there before the task; a child for one request was not, and work-horses come and go.
    """
    born = child.say("fork 1 20")
    with Sampler(table_of(**{role: child.pid}), None, 1.0) as sampler:
        until(lambda: len(sampler.watched()) == 2)
        if there_before:
            sampler.open_window()
        child.say("end")
        until(lambda: len(sampler.watched()) == 1)
        assert [(e.pid, e.root) for e in sampler.endings()] == [(born, False)] * counts


def test_an_interruption_ends_the_wait(child: Child) -> None:
    aborted = threading.Event()
    aborted.set()
    with Sampler(table_of(worker=child.pid), None, 1.0) as sampler:
        begin = time.monotonic()
        assert not sampler.at_rest(60, aborted).settled
        assert time.monotonic() - begin < 5


# ------------------------------------------------------------------------------------------- deaths and idleness


def test_the_end_of_a_serving_process_is_a_death_of_this_window_only(child: Child) -> None:
    other = Child()
    with Sampler(table_of(worker=other.pid, api=child.pid), None, 1.0) as sampler:
        sampler.open_window()
        assert sampler.serving() == 1
        begin, clock = datetime.now(), time.monotonic()
        other.end()
        until(sampler.endings)
        [ending] = sampler.endings()
        assert (ending.role, ending.pid) == ("worker", other.pid)
        assert ending.name.startswith("python")
        assert (ending.root, ending.left_work) == (True, False)
        assert clock - 0.25 <= ending.at <= time.monotonic()  # the moment at which the look that missed it began
        death = ending.as_death(2, False, None)
        assert begin - timedelta(milliseconds=5) <= datetime.fromisoformat(death.at) <= datetime.now()
        assert (death.role, death.pid, death.unfinished, death.replaced) == ("worker", other.pid, 2, False)
        assert sampler.serving() == 0
        seen = sampler.observed()
        assert seen.endings == (ending,)
        assert seen.not_replaced == {"worker"}
        assert [p.ended for p in seen.processes["worker"]] == [True]
        sampler.open_window()
        assert sampler.endings() == ()


def test_a_death_between_the_last_look_and_a_new_window_is_not_lost(child: Child) -> None:
    sampler = Sampler(table_of(worker=child.pid), None, 1.0)  # not started: nobody looks but open_window()
    child.end()
    sampler.open_window()
    assert [d.role for d in sampler.endings()] == ["worker"]
    assert sampler.observed().not_replaced == {"worker"}
    [gone] = sampler.observed().processes["worker"]
    assert (gone.ended, gone.resident, gone.root) == (True, True, True)


def test_a_death_after_a_windows_report_is_reported_with_the_next_window(child: Child) -> None:
    with Sampler(table_of(worker=child.pid), None, 1.0) as sampler:
        sampler.open_window()
        assert sampler.observed().endings == ()
        child.end()
        until(sampler.endings)
        sampler.open_window()
        assert [d.pid for d in sampler.observed().endings] == [child.pid]
        assert sampler.observed().not_replaced == {"worker"}
        sampler.open_window()
        assert sampler.observed().endings == ()


def test_what_was_observed_does_not_change_any_more(child: Child) -> None:
    with Sampler(table_of(worker=child.pid), None, 1.0) as sampler:
        sampler.open_window()
        seen = sampler.observed()
        before = dataclasses.asdict(seen)
        child.say("keep 50")
        until(lambda: sampler.observed().peaks["worker"] > seen.peaks["worker"] + 40)
        child.end()
        until(sampler.endings)
        assert dataclasses.asdict(seen) == before


def test_idle_seconds_grow_while_workers_sleep_and_start_again_with_work(child: Child,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "SCAN_S", 0.4)
    with Sampler(table_of(worker=child.pid), None, 1.0) as sampler:
        sampler.open_window()
        until(lambda: sampler.idle_seconds() > 0.9)
        child.say("burn 0.3")
        until(lambda: sampler.idle_seconds() < 0.6)
        until(lambda: sampler.idle_seconds() > 0.9)
        child.say("fork 1 1")  # a task's child that only sleeps has hung like a worker that does
        idle = sampler.idle_seconds()
        until(lambda: sampler.idle_seconds() > idle + 1.5)


def test_an_api_at_work_does_not_make_the_workers_busy(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "SCAN_S", 0.4)
    with Sampler(table_of(api=child.pid), None, 1.0) as sampler:
        sampler.open_window()
        child.order("burn 60")  # longer than is waited for below
        until(lambda: sampler.idle_seconds() > 0.9)


def test_a_window_tells_of_a_hole_between_two_looks(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    table, waits = table_of(worker=child.pid), iter([0.0, 0.0, 0.7])
    before_each_look(table, lambda: time.sleep(next(waits, 0.0)), monkeypatch)
    with Sampler(table, None, 1.0) as sampler:
        until(lambda: next_look(sampler) and sampler.observed().longest_gap >= 0.7)


# ------------------------------------------------------------------------------------------------ the CSV


def test_the_csv_has_one_row_per_process_and_sample_on_a_fixed_schedule(child: Child, tmp_path: Path) -> None:
    path = tmp_path / "resources.csv"
    other = Child()
    child.say("keep 20")
    with Sampler(table_of(worker=child.pid, api=other.pid), path, 0.25):
        until(lambda: len(path.read_text().splitlines()) >= 1 + 2 * 8)  # every sample is on disk at once
    other.end()
    text = path.read_text()
    assert text.splitlines()[0] == "timestamp,elapsed_seconds,process_name,pid,cpu_percent,memory_rss_mb,memory_percent"
    assert text.splitlines()[0] == ",".join(CSV_COLUMNS)
    rows = list(csv.DictReader(text.splitlines()))
    samples: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        samples.setdefault(row["elapsed_seconds"], []).append(row)
    assert all(sorted(int(r["pid"]) for r in sample) == sorted((child.pid, other.pid)) for sample in samples.values())
    # No drift: each sample belongs to another quarter of a second, and is not late by more than a busy host makes it.
    slots = [math.floor(float(elapsed) / 0.25 + 0.01) for elapsed in samples]
    assert slots == sorted(set(slots))
    assert slots[0] == 0
    assert slots[-1] < len(slots) + 4
    first, last = (datetime.fromisoformat(rows[at]["timestamp"]) for at in (0, -1))
    elapsed = float(rows[-1]["elapsed_seconds"]) - float(rows[0]["elapsed_seconds"])
    assert (last - first).total_seconds() == pytest.approx(elapsed, abs=0.2)
    mine = next(row for row in rows if int(row["pid"]) == child.pid)
    total = psutil.virtual_memory().total / instrument.MIB
    assert mine["process_name"].startswith("python")
    assert float(mine["memory_rss_mb"]) == pytest.approx(child.memory().rss, abs=1.5)
    assert float(mine["memory_percent"]) == pytest.approx(100 * child.memory().rss / total, abs=0.02)
    assert float(mine["cpu_percent"]) >= 0


def test_the_first_cpu_reading_is_over_the_age_of_the_process_and_the_next_since_then(child: Child) -> None:
    child.say("burn 0.3")
    times = psutil.Process(child.pid).cpu_times()
    ages = [0.0, 1.0]
    while ages[1] - ages[0] > 0.01 * ages[1]:  # not while this test itself was held up in between
        watched = table_of(worker=child.pid).alive[child.pid]
        ages[0] = time.time() - watched.started
        first = cpu_percent(watched, time.monotonic())
        ages[1] = time.time() - watched.started
    assert first == pytest.approx(100 * (times.user + times.system) / ages[0], rel=0.1)
    assert first > 0
    begin = time.monotonic()
    child.say("burn 0.2")
    now = begin + 0.4  # as if the next sample came 0.4 s later
    watched.last_row = (begin, watched.last_row[1] if watched.last_row else 0.0)
    assert cpu_percent(watched, now) == pytest.approx(50, abs=12)


def test_the_record_says_which_process_used_the_cpu(child: Child) -> None:
    other = Child()
    with Sampler(table_of(worker=child.pid, api=other.pid), None, 1.0) as sampler:
        until(sampler.latest)
        sampler.open_window()
        looks = [sampler.cpu_usage()]
        child.say("burn 0.5")
        born = child.say("fork 1 1")
        until(lambda: born in {view.pid for view in sampler.watched()})
        looks += [sampler.cpu_usage(), sampler.cpu_usage()]
        reading = sampler.latest()
        assert reading
        memory = instrument.role_memory(reading, reading, sampler.observed(), looks)
    other.end()
    used = {p.pid: p.used_cpu_s for each in memory.values() for p in each.processes}
    assert (used[child.pid] or 0.0) >= 0.3 > (used[other.pid] or 0.0)
    assert used[born] is None, "it was not there all the time"
    assert instrument.used_cpu(child.pid, [looks[1], looks[0]]) is None, "what has fallen is another process's"


def test_a_process_that_ends_before_its_row_loses_only_its_own_row(child: Child, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resources.csv"
    other = Child()
    table = table_of(worker=other.pid, api=child.pid)
    read = table.read

    def and_then_it_ends(**options: bool) -> list[Watched]:
        gone = read(**options)
        other.end()
        return gone

    monkeypatch.setattr(table, "read", and_then_it_ends)
    with Sampler(table, path, 1.0) as sampler:
        until(lambda: path.read_text().count("\n") > 1)
        assert sampler.failure is None
    assert {int(row["pid"]) for row in csv.DictReader(path.read_text().splitlines())} == {child.pid}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_and_memory_is_measured_all_the_same(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrument, "create", lambda *_: os.open("/dev/full", os.O_WRONLY))  # a file on a full disk
    with Sampler(table_of(worker=child.pid), tmp_path / "system_resources.csv", 0.2) as sampler:
        until(lambda: sampler.failure)
        assert "the CSV ends early" in str(sampler.failure)
        assert "No space left" in str(sampler.failure)
        child.say("keep 20")
        at_rest = sampler.at_rest(10, NEVER)
        assert at_rest.settled
        assert at_rest.private["worker"] == close_to(child.memory().private or 0)


def test_where_sampling_stops_nothing_passes_for_a_measurement(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sampler(table_of(worker=child.pid), None, 0.2) as sampler:
        sampler.open_window()
        monkeypatch.setattr(sampler.table, "read", raising(OSError(24, "Too many open files")))
        until(lambda: sampler.failure)
        assert "sampling stopped" in str(sampler.failure)
        assert "Too many open files" in str(sampler.failure)
        begin = time.monotonic()
        stopped = sampler.at_rest(60, NEVER)
        assert time.monotonic() - begin < 5
        assert (stopped.settled, dict(stopped.rss), dict(stopped.private)) == (False, {}, {})
        assert sampler.observed().peaks == {}
        assert sampler.machine() is None, "nor do all processes count as others"
        assert sampler.idle_seconds() == 0.0  # nobody looked: no worker may be called idle


# ------------------------------------------------------------------------------------------------ self-check


def test_the_self_check_fails_where_a_leak_is_not_seen(monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(instrument, "SETTLE_S", 0.2)
    monkeypatch.setattr(instrument, "TICK_S", 0.05)
    monkeypatch.setattr(instrument, "PLANTED", instrument.PLANTED.replace("kept.append(block)", "pass"))
    assert instrument.self_check() == instrument.EXIT_FAIL
    words = capsys.readouterr().out
    assert "self-check FAILED" in words
    assert "do not trust" in words
