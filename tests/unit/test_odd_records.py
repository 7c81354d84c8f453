"""Records in which a reading, a host, a line or a clock is not as it should be: what the reader makes of them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import analyze_stress_test as reader
from memory_leak_stress_test import EXIT_PASS, LevelFacts, ProcessMemory, RoleMemory, TaskResult
from stress_report.hosts import compare_clocks, read_readings
from stress_report.judging import Judged, judge
from stress_report.recording import Samples, read_run
from unit.host_records import MadeUp, Process, moment_s, unwatched, windows, worker
from unit.reader_runs import (
    BORN,
    CSV_HEAD,
    LEAKING,
    confirmed,
    healthy,
    judged,
    leak_phase,
    level,
    memory,
    moment,
    numbered,
    ramp,
    record,
    statuses,
    task,
    with_settings,
)

TASKS = unwatched(14)
WORK = windows(TASKS)
END = WORK[-1][1] + 20.0


def flat(_: float) -> float:
    return 700.0


def idle(*more: Process) -> MadeUp:
    return MadeUp("asr-1", [Process("worker", 100, flat), *more], END)


def verdict(found: Judged, role: str = "worker") -> tuple[str, str]:
    return found.roles[role].growth.verdict, found.roles[role].growth.reason


# -------------------------------------------------------------------------------------------- false NO LEAK, false pass


def lost_at_rises(rises: int, size: float, tail: int, *, failed: bool = False) -> list[TaskResult]:
    """Memory rises every third cycle, and each time the reading after it is not there; then it is calm."""
    held = [300.0, 700.0, 700.0, 700.0, 700.0]
    for _ in range(rises):
        held += [held[-1] + size] * 3
    held += [held[-1]] * tail
    results = leak_phase(held)
    for r in results:
        if r.audio_file == "long.wav" and r.cycle and held[r.cycle + 1] > held[r.cycle]:
            r.memory = {"worker": dataclasses.replace(r.memory["worker"], after_mb=None, private_after_mb=None)}
            r.worker_rss_after_mb = r.worker_rss_delta_mb = None
        if failed and r.cycle == len(held) - 1 - tail:
            r.status, r.error_kind, r.rtf = "failed", "submit_refused", None
    return with_settings(results, phase="leak")


@pytest.mark.parametrize(("rises", "size", "tail", "failed"), [(4, 60.0, 10, False), (4, 200.0, 12, False),
                                                               (1, 200.0, 12, True), (2, 60.0, 12, True)])
def test_growth_in_cycles_without_a_reading_is_not_cleared(rises: int, size: float, tail: int, failed: bool,
                                                           tmp_path: Path) -> None:
    found = judged(tmp_path, lost_at_rises(rises, size, tail, failed=failed))
    assert verdict(found)[0] == "INCONCLUSIVE"


def test_one_task_that_failed_does_not_make_an_idle_process_the_one_that_works(tmp_path: Path) -> None:
    tasks = [dataclasses.replace(r, status="failed", error_kind="submit_refused", error="queue is full", rtf=None)
             if n == 4 else r for n, r in enumerate(TASKS)]
    found = judge(read_run(record(tmp_path, tasks), [idle().write(tmp_path, "1")]))
    assert verdict(found) == ("NOT MEASURED", "no_work")


def test_one_child_does_not_make_an_idle_process_the_one_that_works(tmp_path: Path) -> None:
    at = WORK[6][0]
    csv = idle(Process("worker", 555, lambda _: 50.0, begin=at + 1, end=at + 4)).write(tmp_path, "1")
    lines = csv.with_name("host_1.jsonl").read_text().splitlines()
    stretches = [json.loads(line) for line in lines[1:]]
    for process in (p for s in stretches for p in s["memory"]["worker"]["processes"] if p["pid"] == 555):
        process["root"] = process["resident"] = False
    csv.with_name("host_1.jsonl").write_text("\n".join([lines[0], *map(json.dumps, stretches)]) + "\n")
    found = judge(read_run(record(tmp_path, TASKS), [csv]))
    assert verdict(found) == ("NOT MEASURED", "no_work")


def ramp_from_elsewhere() -> list[TaskResult]:
    results: list[TaskResult] = []
    for place, (size, number) in enumerate(((1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (3, 2), (3, 3))):
        results += [task(40.0 + 16 * place, "concurrency", "short", {}, concurrency=size, level_run=number,
                         processing_time=2.0, settled=None, sample_gap_s=None, level=LevelFacts(
                             stop_reason="max_concurrency" if size == 3 else None)) for _ in range(size)]
    return numbered(with_settings(results, no_watch=True, phase="concurrency"))


@pytest.mark.parametrize("role", ["worker", "redis"])
def test_a_host_whose_monitor_ended_early_crashed_nothing_and_passes_nothing(role: str, tmp_path: Path) -> None:
    tasks = ramp_from_elsewhere()
    work = windows(tasks)
    csvs = [MadeUp("asr-1", [Process("worker", 100, flat, work)], 180.0).write(tmp_path, "1"),
            MadeUp("asr-2", [Process(role, 200, flat, work)], 90.0).write(tmp_path, "2")]
    found = judge(read_run(record(tmp_path, tasks), csvs))
    assert found.crashes == []
    assert found.verdict == "inconclusive"


# -------------------------------------------------------------------------------------------------------- missing LEAK


def test_an_idle_host_does_not_hide_the_leak_of_the_load_s_own_machine(tmp_path: Path) -> None:
    results = with_settings(leak_phase(LEAKING), phase="leak")
    csv = MadeUp("asr-2", [Process("worker", 900, flat)], moment_s(results[-1].timestamp) + 40).write(tmp_path, "2")
    found = judge(read_run(record(tmp_path, results), [csv]))
    assert verdict(found)[0] == "LEAK"


def test_a_redis_that_leaks_is_accused_in_a_record_of_schema_1(tmp_path: Path) -> None:
    results = with_settings(leak_phase(), phase="leak")
    for r in results:
        process = ProcessMemory(300, BORN, "redis-server", 1.0, False, resident=True, root=True, held_mb=1.0)
        mb = [LEAKING[(r.cycle or 0) + n] for n in ((0, 0) if r.audio_file == "short.wav" else (0, 1))]
        r.memory = r.memory | {"redis": RoleMemory(mb[0], mb[1], mb[0], mb[1], mb[1], [process])}
    path = record(tmp_path, results, csv=CSV_HEAD + "".join(
        f"{moment(s)},{s}.0,{name},{pid},{cpu},700.0,1.0\n" for s in range(30 * len(results) + 30)
        for name, pid, cpu in (("rq", 100, 90.0 if s % 30 in range(6, 16) else 0.2), ("redis-server", 300, 0.2))))
    lines = [json.loads(line) | {"schema": 1} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(
        {k: v for k, v in line.items() if k not in ("batch", "end", "machine", "deaths")}) + "\n" for line in lines))
    assert verdict(judge(read_run(path, None)), "redis")[0] == "LEAK"


# ------------------------------------------------------------------------------------------------------- wrong numbers


def test_samples_given_twice_count_once(tmp_path: Path) -> None:
    csv = MadeUp("asr-1", [worker(WORK, 3.0)], END).write(tmp_path, "1")
    found = judge(read_run(record(tmp_path, TASKS), [csv, csv]))
    assert found.roles["worker"].growth.mb_per_cycle == pytest.approx(6.0, abs=0.1)


def test_a_monitor_on_the_machine_that_the_test_watches_does_not_count_twice(tmp_path: Path) -> None:
    results = with_settings(leak_phase([300.0, *(700.0 + 6 * cycle for cycle in range(15))]), phase="leak")
    host = MadeUp("h", [worker(windows(results), 3.0)], moment_s(results[-1].timestamp) + 40)
    found = judge(read_run(record(tmp_path, results), [host.write(tmp_path, "2")]))
    assert verdict(found)[0] == "NO LEAK"
    assert found.roles["worker"].growth.mb_per_cycle == pytest.approx(6.0)
    assert [note.key for note in found.run.notes] == ["host_own"]


def test_a_lost_line_does_not_hide_levels_that_were_doubled(tmp_path: Path) -> None:
    results = with_settings(leak_phase() + confirmed(*(level(size) for size in (1, 2, 4, 8))), step="x2")
    assert judged(tmp_path, results, drop=[5]).ramp.max_stable == 8


@pytest.mark.parametrize("size", [1, 4])
def test_the_tasks_of_a_recycled_worker_are_tasks_and_not_batches(size: int, tmp_path: Path) -> None:
    results, pid = [], 100
    for number in range(1, 51):
        now = memory(700.0, 700.0, pid)
        now.processes = [dataclasses.replace(now.processes[0], started=moment(pid))]
        if number % 6 == 0:
            pid += 1
            now.processes = [dataclasses.replace(now.processes[0], ended=True), dataclasses.replace(
                now.processes[0], pid=pid, started=moment(pid), resident=False)]
        clip = "long" if number % 2 == 0 else "short"
        results += [task(30 * number + 15, "leak", clip, {"worker": now}, cycle=(number - 1) // 2, concurrency=size)
                    for _ in range(size)]
    found = judged(tmp_path, with_settings(results, phase="leak")).roles["worker"].growth
    assert (found.reason, found.facts["tasks"]) == ("recycled_calm", 6 * size)


@pytest.mark.parametrize("interval", [1, 5, 10])
def test_a_monitor_that_samples_less_often_has_no_holes(interval: int, tmp_path: Path) -> None:
    csv = MadeUp("asr-1", [worker(WORK, 0.0)], END).write(tmp_path, "1")
    head, *rows = csv.read_text().splitlines(keepends=True)
    csv.write_text(head + "".join(rows[::interval]))
    assert verdict(judge(read_run(record(tmp_path, TASKS), [csv]))) == ("NO LEAK", "no_growth")


def test_all_clips_of_a_folder_of_long_ones_count(tmp_path: Path) -> None:
    results = leak_phase()
    for n, r in enumerate(results):
        r.audio_path = f"clips/long{r.cycle}.wav" if n % 2 else "short.wav"
        r.audio_file = Path(r.audio_path).name
    found = judged(tmp_path, with_settings(results, phase="leak", long_audio="clips", short_audio="short.wav"))
    assert statuses(found)["long_audio_delta"] == "pass"
    assert found.criteria[0].text.facts["tasks"] == 10


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_is_set_does_not_change_growth_per_hour(seconds: float, tmp_path: Path) -> None:
    results = leak_phase(LEAKING)
    for r in results[14:]:
        r.timestamp = moment(moment_s(r.timestamp) + seconds)
    rates = judged(tmp_path, with_settings(results, phase="leak")).roles["worker"].rates
    assert rates is not None
    assert rates.per_hour == pytest.approx(3600.0)


# ----------------------------------------------------------------------------------------------------------- odd files


@pytest.mark.parametrize("begin", [0.0, 0.5, 1.9])
def test_psrecord_begins_at_once(begin: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.log"
    path.write_text("# Elapsed time   CPU (%)     Real (MB)   Virtual (MB)\n" + "".join(
        f"{begin + n:12.3f} {60.0:12.3f} {700.0:12.3f} {900.0:12.3f}\n" for n in range(4000)))
    assert reader.main([str(path), "--no-charts"]) == EXIT_PASS
    assert "fault of this tool" not in capsys.readouterr().err


def test_a_day_that_never_was_in_a_log_of_docker_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "docker.csv"
    path.write_text("".join(f"2026-{month}-02T09:00:0{n},asr,1.0%,100MiB / 2GiB\n"
                            for n, month in enumerate(("03", "13", "03"))))
    samples = read_run(path, None).samples[0]
    assert (samples.rows, samples.skipped) == (2, 1)


def test_a_stray_line_does_not_make_a_run_one_of_the_older_tool(tmp_path: Path) -> None:
    unconfirmed = leak_phase() + ramp(*(level(size) for size in range(1, 6)))
    found = judged(tmp_path, unconfirmed, more='{"test_id": "x"}\n')
    assert not found.run.legacy
    assert statuses(found)["min_concurrency"] == "inconclusive"


def test_a_run_is_read_from_a_pipe(tmp_path: Path) -> None:
    path, pipe = record(tmp_path, healthy()), tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    with subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'w').write(open({str(path)!r}).read())"]):
        assert judge(read_run(pipe, None)).verdict == "pass"


def test_clocks_are_compared_without_a_second_look_at_all_samples_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, interval = [0], Samples.interval

    def counted(samples: Samples) -> float | None:
        looks[0] += 1
        seen: float | None = interval.__get__(samples)
        return seen

    csv = MadeUp("asr-1", [Process("worker", 100, flat, WORK)], 600.0).write(tmp_path, "1")
    run = read_run(record(tmp_path, TASKS), [csv])
    readings = read_readings(run.samples[0])
    roles = {pid: role for pid, (role, _) in readings.processes.items()}
    monkeypatch.setattr(Samples, "interval", property(counted))
    compare_clocks(run, dataclasses.replace(run.samples[0], roles=roles), readings)
    assert 0 < looks[0] < 100
