"""Hosts that were watched for themselves, joined with a run whose load came from elsewhere: made up, truth known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import analyze_stress_test as reader
from memory_leak_stress_test import GpuMemory, RoleMemory, TaskResult
from stress_report import markdown
from stress_report.comparison import compare
from stress_report.judging import Judged, judge
from stress_report.recording import read_run
from stress_report.saying import Words, headline, next_sentence
from stress_report.summary import summary
from unit.host_records import (
    FIRST_S,
    PAUSE_S,
    MadeUp,
    Process,
    keeps,
    moment_s,
    unwatched,
    windows,
    worker,
)
from unit.reader_checks import check_markdown
from unit.reader_runs import CSV_HEAD, healthy, numbered, record, sample_rows, statuses, task, with_settings

TASKS = unwatched(13)
WORK = windows(TASKS)
END = WORK[-1][1] + 20.0
WITH_ZONE = {"name": "load", "cpus": 2, "clock": {"utc_offset_s": 0.0, "synchronised": None, "max_error_s": None}}


def joined(folder: Path, *hosts: MadeUp, tasks: Sequence[TaskResult] = TASKS, lines: Sequence[bool] = (),
           **changes: Any) -> Judged:
    """The run judged with these hosts; `lines`: which of them have more than their CSV."""
    csvs = [host.write(folder, f"2026030{place + 3}_090000", lines=place >= len(lines) or lines[place])
            for place, host in enumerate(hosts)]
    results = [dataclasses.replace(result, **changes) for result in tasks]
    return judge(read_run(record(folder, results), csvs))


def host(name: str = "asr-1", *processes: Process, **odd: Any) -> MadeUp:
    return MadeUp(name, processes or [worker(WORK, 0.0)], END, **odd)


def growth(judged: Judged, role: str = "worker") -> tuple[str, str]:
    return judged.roles[role].growth.verdict, judged.roles[role].growth.reason


# -------------------------------------------------------------------------------------------------- the same verdicts


def test_a_leak_is_found_at_its_rate_though_the_load_came_from_elsewhere(tmp_path: Path) -> None:
    found = joined(tmp_path, host("asr-1", worker(WORK, 30.0)))
    assert growth(found) == ("LEAK", "steady_growth")
    assert found.roles["worker"].growth.mb_per_cycle == pytest.approx(60.0, abs=1.0)
    assert found.roles["worker"].first_use_growth_mb == pytest.approx(460.0)
    assert found.roles["worker"].pid == 100
    assert statuses(found)["no_cumulative_growth"] == "fail"


def test_a_service_that_keeps_nothing_passes(tmp_path: Path) -> None:
    found = joined(tmp_path, host())
    assert growth(found) == ("NO LEAK", "no_growth")
    assert found.verdict == "pass"
    memory = found.run.results[3].memory["worker"]
    assert (memory.before_mb, memory.after_mb, memory.private_after_mb) == (730.0, 730.0, 700.0)
    assert found.run.results[3].settled


def test_the_host_that_leaks_is_named_beside_the_one_that_does_not(tmp_path: Path) -> None:
    found = joined(tmp_path, host("asr-1", worker(WORK[::2], 0.0)), host("asr-2", worker(WORK[1::2], 30.0)),
                   host("api-1", Process("api", 50, lambda _: 80.0, WORK, name="uvicorn")))
    assert {role: growth(found, role)[0] for role in found.roles} == {
        "worker": "LEAK", "worker@asr-1": "NO LEAK", "worker@asr-2": "LEAK", "api": "NO LEAK"}
    assert found.roles["worker@asr-2"].growth.mb_per_cycle == pytest.approx(30.0, abs=1.0)
    assert found.run.results[4].memory["worker"].after_mb == pytest.approx(730.0 + 730.0 + 60.0)
    content = summary(found, Words("en"))
    assert content["leak"]["worker@asr-2"]["verdict"] == "LEAK"
    assert content["hosts"]["api-1"]["roles"] == ["api"]


@pytest.mark.parametrize("rows", ["", sample_rows(range(int(END)), ("celery", 300, 500.0))],
                         ids=["an empty file", "processes of no known role"])
def test_a_host_that_was_named_and_cannot_be_joined_is_never_left_out_in_silence(rows: str, tmp_path: Path) -> None:
    (other := tmp_path / "other.csv").write_text(CSV_HEAD + rows)
    csv = host().write(tmp_path, "20260303_090000")
    found = judge(read_run(record(tmp_path, TASKS), [csv, other]))
    assert (found.verdict, found.cut_short and found.cut_short.key) == ("inconclusive", "cut_host")
    assert any("other.csv" in Words("en").note(note) for note in found.run.notes)
    assert "--resources" in next_sentence(found, Words("en"))


def test_a_fix_is_not_shown_without_the_host_that_leaked(tmp_path: Path) -> None:
    before = joined(tmp_path, host("a"), host("b", worker(WORK, 30.0)))
    fix, _, unlike = compare(before, joined(tmp_path, host("a")))
    assert (fix.key, fix.facts["why"].key, unlike[0].key) == ("fix_doubt", "fix_fewer_hosts", "differs")


def test_a_host_s_name_is_no_markup_at_the_beginning_of_a_line(tmp_path: Path) -> None:
    check_markdown(markdown.report(joined(tmp_path, host("# a")), None, {}, [], Words("en")))


def test_hosts_of_one_name_are_told_apart(tmp_path: Path) -> None:
    found = joined(tmp_path, host("asr", worker(WORK[::2], 0.0)), host("asr", worker(WORK[1::2], 0.0)))
    assert [each.name for each in found.hosts] == ["asr", "asr#2"]
    assert set(found.roles) == {"worker", "worker@asr", "worker@asr#2"}


# ------------------------------------------------------------------------------------------------ a ramp without cycles


def ramp_tasks(sizes: Sequence[int] = (1, 1, 1, 2, 3, 4, 4, 4, 5, 5)) -> list[TaskResult]:
    """A ramp whose load came from elsewhere: level 1 three times, the highest stable one three times, pauses between.
    """
    results, at = [], FIRST_S
    for place, size in enumerate(sizes):
        at += 4.0
        results += [task(at, "concurrency", "short", {}, concurrency=size, level_run=sizes[:place].count(size) + 1,
                         processing_time=4.0, settled=None, sample_gap_s=None) for _ in range(size)]
        at += PAUSE_S
    return numbered(with_settings(results, no_watch=True, phase="concurrency"))


def in_ramp(tasks: Sequence[TaskResult], keeps_mb: float, mark_mb: float = 0.0, one_in: int = 1) -> list[Process]:
    """A worker that keeps so much of one task in so many, and of every concurrent one what it needed at most."""
    ends = [(moment_s(r.timestamp), r.concurrency) for r in tasks]

    def level(t: float) -> float:
        done = [size for end, size in ends if end <= t]
        return 300.0 + keeps_mb * (len(done) // one_in) + mark_mb * max(done, default=0)

    return [Process("worker", 100, level, windows(tasks))]


def test_a_ramp_shows_a_leak_by_what_its_repeats_add(tmp_path: Path) -> None:
    tasks = ramp_tasks()
    found = joined(tmp_path, MadeUp("asr-1", in_ramp(tasks, 20.0, 50.0), 140.0), tasks=tasks)
    assert growth(found) == ("LEAK", "ramp_leak")
    assert found.roles["worker"].growth.facts["per_task"] == pytest.approx(20.0, abs=0.5)
    assert (found.verdict, statuses(found)["no_cumulative_growth"]) == ("fail", "fail")
    assert "around short.wav" in next_sentence(found, Words("en"))


def test_a_ramp_shows_the_leak_of_one_of_two_workers(tmp_path: Path) -> None:
    tasks = ramp_tasks()
    found = joined(tmp_path, MadeUp("asr-1", in_ramp(tasks, 40.0, one_in=2), 140.0), tasks=tasks)
    assert growth(found) == ("LEAK", "ramp_leak")
    assert found.roles["worker"].growth.facts["per_task"] == pytest.approx(20.0, abs=2.0)


@pytest.mark.parametrize(("keeps_mb", "mark_mb"), [(0.0, 0.0), (0.0, 150.0), (2.0, 0.0)])
def test_a_high_water_mark_of_a_ramp_is_no_leak(keeps_mb: float, mark_mb: float, tmp_path: Path) -> None:
    tasks = ramp_tasks()
    found = joined(tmp_path, MadeUp("asr-1", in_ramp(tasks, keeps_mb, mark_mb), 140.0), tasks=tasks)
    assert found.roles == {}
    assert statuses(found)["no_cumulative_growth"] == "not_measured"


def test_a_ramp_that_ends_at_two_tasks_shows_no_leak_yet(tmp_path: Path) -> None:
    tasks = ramp_tasks((1, 1, 1, 2, 2, 2))
    assert joined(tmp_path, MadeUp("asr-1", in_ramp(tasks, 60.0), 140.0), tasks=tasks).roles == {}


def test_a_ramp_names_the_host_that_leaks(tmp_path: Path) -> None:
    tasks = ramp_tasks()
    found = joined(tmp_path, MadeUp("asr-1", in_ramp(tasks, 20.0), 140.0), MadeUp("asr-2", in_ramp(tasks, 0.0), 140.0),
                   tasks=tasks)
    assert set(found.roles) == {"worker", "worker@asr-1"}
    assert "Memory leaks in the worker@asr-1" in headline(found, Words("en"))


# ------------------------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize("ahead", [2.0, -3.25, 40.0])
def test_a_clock_that_is_off_is_seen_by_the_work_and_allowed_for(ahead: float, tmp_path: Path) -> None:
    found = joined(tmp_path, host("asr-1", worker(WORK, 30.0), ahead=ahead))
    clock = found.hosts[0].clock
    assert clock.how == "work"
    assert clock.offset_s == pytest.approx(ahead, abs=clock.error_s)
    assert clock.error_s is not None
    assert clock.error_s < 1.0
    assert found.roles["worker"].growth.mb_per_cycle == pytest.approx(60.0, abs=1.0)
    assert found.roles["worker"].first_use_growth_mb == pytest.approx(460.0)


def test_another_time_zone_is_no_fault_of_the_clock(tmp_path: Path) -> None:
    found = joined(tmp_path, host("asr-1", worker(WORK, 30.0), zone_s=8 * 3600.0), host=WITH_ZONE)
    assert (found.hosts[0].clock.zone_s, found.hosts[0].clock.offset_s) == (8 * 3600.0, 0.0)
    assert growth(found) == ("LEAK", "steady_growth")


def test_a_host_whose_times_do_not_fit_is_left_out_and_nothing_passes(tmp_path: Path) -> None:
    found = joined(tmp_path, host(), host("asr-2", zone_s=8 * 3600.0))  # the results do not say their zone
    assert "host_other_run" in [note.key for note in found.run.notes]
    assert found.cut_short is not None
    assert (found.verdict, found.cut_short.key) == ("inconclusive", "cut_host")


def test_clocks_that_ntp_keeps_are_taken_as_they_are(tmp_path: Path) -> None:
    kept = {"synchronised": True, "max_error_s": 0.02}
    load = WITH_ZONE | {"clock": {"utc_offset_s": 0.0, **kept}}
    late = [(begin + 2.0, end + 2.0) for begin, end in WORK]  # it goes on for a while after each task
    found = joined(tmp_path, host("asr-1", worker(late, 0.0), clock=kept), host=load)
    assert found.hosts[0].clock.how == "ntp"
    assert found.hosts[0].clock.error_s == pytest.approx(0.04)


def test_without_work_clocks_cannot_be_compared(tmp_path: Path) -> None:
    found = joined(tmp_path, host("redis-1", Process("redis", 7, lambda _: 50.0, name="redis-server")))
    assert (found.hosts[0].clock.how, found.hosts[0].clock.error_s) == ("unknown", None)


# ------------------------------------------------------------------------------------------ what may not be cleared


def test_a_hole_in_the_sampling_is_no_calm(tmp_path: Path) -> None:
    begin = WORK[12][0] + 1.0
    assert growth(joined(tmp_path, host(holes=[(begin, begin + 5.0)]))) == ("INCONCLUSIVE", "sampler_gap")


def test_a_pause_of_the_sampler_that_only_the_lines_tell_is_none_either(tmp_path: Path) -> None:
    path = host().write(tmp_path, "20260303_090000").with_name("host_20260303_090000.jsonl")
    path.write_text(path.read_text().replace('"sample_gap_s": 0.2', '"sample_gap_s": 8.0'))
    found = judge(read_run(record(tmp_path, TASKS), [tmp_path / "system_resources_20260303_090000.csv"]))
    assert growth(found) == ("INCONCLUSIVE", "sampler_gap")


def test_a_monitor_that_began_late_has_not_seen_the_first_cycles(tmp_path: Path) -> None:
    found = joined(tmp_path, host(begin=WORK[10][0]))
    assert growth(found)[0] == "INCONCLUSIVE"
    assert found.verdict == "inconclusive"


def test_a_worker_that_is_replaced_on_one_host_is_a_break_there(tmp_path: Path) -> None:
    at = WORK[11][1] + 2.0
    first = Process("worker", 100, keeps(WORK, 0.0), WORK[:12], end=at)
    second = Process("worker", 101, keeps(WORK[12:], 0.0), WORK[12:], begin=at + 1.0)
    found = joined(tmp_path, host("asr-1", first, second), host("asr-2", worker(WORK, 0.0)))
    assert found.roles["worker@asr-1"].breaks == [(5, "replaced")]
    assert found.roles["worker@asr-2"].breaks == []
    assert growth(found, "worker@asr-2") == ("NO LEAK", "no_growth")
    assert growth(found, "worker@asr-1")[1] in ("recycled_calm", "replaced")


def test_a_worker_that_does_not_work_proves_nothing(tmp_path: Path) -> None:
    found = joined(tmp_path, host("asr-1", worker([], 0.0)), host("asr-2", worker(WORK, 0.0)))
    assert growth(found, "worker@asr-1") == ("NOT MEASURED", "no_work")
    assert growth(found, "worker@asr-2")[0] == "NO LEAK"
    assert statuses(found)["no_cumulative_growth"] == "inconclusive"


def without_a_pause(folder: Path) -> Judged:
    tasks = unwatched(13, pause_s=0.2)
    work = windows(tasks)
    return joined(folder, MadeUp("asr-1", [worker(work, 0.0)], work[-1][0] + 5.0, begin=19.0), tasks=tasks)


def test_tasks_without_a_pause_leave_no_reading_at_rest(tmp_path: Path) -> None:
    found = without_a_pause(tmp_path)
    assert growth(found) == ("NOT MEASURED", "no_rest")
    assert found.verdict == "inconclusive"


def test_memory_that_moves_between_tasks_is_not_settled(tmp_path: Path) -> None:
    restless = Process("worker", 100, lambda t: 700.0 + 20.0 * (int(t) % 2), WORK)
    assert growth(joined(tmp_path, host("asr-1", restless))) == ("INCONCLUSIVE", "unsettled")


# ------------------------------------------------------------------------------------------ records that are not whole


def test_a_host_without_its_lines_is_judged_by_rss(tmp_path: Path) -> None:
    found = joined(tmp_path, host("asr-1", worker(WORK, 30.0)), lines=[False])
    assert growth(found) == ("LEAK", "steady_growth")
    assert found.roles["worker"].growth.facts["measure"] == "rss"
    assert "without host_20260303_090000.jsonl only RSS is known" in markdown.report(found, None, {}, [], Words("en"))


@pytest.mark.parametrize("damage", ["{", "[1]", '{"at": [1e9]}', "null", "9" * 5000])
def test_lines_that_cannot_be_read_are_counted_and_the_others_count(damage: str, tmp_path: Path) -> None:
    made = host("asr-1", worker(WORK, 30.0))
    path = made.write(tmp_path, "20260303_090000").with_name("host_20260303_090000.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:12], damage + "\n", *lines[12:], lines[-1][:50]]))
    found = judge(read_run(record(tmp_path, TASKS), [tmp_path / "system_resources_20260303_090000.csv"]))
    assert growth(found) == ("LEAK", "steady_growth")
    assert [note.facts["count"] for note in found.run.notes if note.key == "host_skipped"] == [2]


@pytest.mark.parametrize(("name", "value"), [
    ("at", [5.0, 4.0]), ("rss_mb", {"worker": [1.0]}), ("private_mb", {"worker": [-1.0] * 10}), ("at", ["x"] * 10),
    ("private_mb", {"worker": [1e300] * 10})])
def test_readings_that_cannot_be_are_left_out(name: str, value: Any, tmp_path: Path) -> None:
    path = host().write(tmp_path, "20260303_090000").with_name("host_20260303_090000.jsonl")
    lines = path.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {name: value})
    path.write_text("\n".join(lines) + "\n")
    found = judge(read_run(record(tmp_path, TASKS), [tmp_path / "system_resources_20260303_090000.csv"]))
    assert found.hosts[0].readings.skipped == 1


@pytest.mark.parametrize("value", [1.5, [1], {"a": 1}, None, "x" * 5000, -1])
def test_a_size_of_the_machine_that_is_no_number_is_shown_as_it_is(value: Any, tmp_path: Path) -> None:
    csv = host().write(tmp_path, "20260303_090000")
    path = csv.with_name("host_20260303_090000.jsonl")
    head, *lines = path.read_text().splitlines()
    odd = json.loads(head)
    odd["host"]["memory_mb"] = value
    path.write_text("\n".join([json.dumps(odd), *lines]) + "\n")
    found = judge(read_run(record(tmp_path, TASKS), [csv]))
    check_markdown(markdown.report(found, None, {}, [], Words("en")))


def test_names_from_another_machine_are_shown_as_they_are(tmp_path: Path) -> None:
    nasty = "<b>|`x`\x1b[31m"
    found = joined(tmp_path, host(nasty, worker(WORK[::2], 0.0)), host("asr-2", worker(WORK[1::2], 0.0)))
    for language in ("en", "zh-CN"):
        check_markdown(markdown.report(found, None, {}, [], Words(language)))
    assert "\x1b" not in json.dumps(summary(found, Words("en")), ensure_ascii=False)


def test_a_run_that_was_watched_where_it_ran_takes_a_second_csv_as_before(tmp_path: Path) -> None:
    csv = host().write(tmp_path, "20260303_090000", lines=False)
    found = judge(read_run(record(tmp_path, healthy()), [csv]))
    assert (found.hosts, found.verdict) == ([], "pass")


def test_a_death_between_tasks_on_a_host_is_reported(tmp_path: Path) -> None:
    made = host("asr-1", worker(WORK, 0.0), ahead=2.0)
    path = made.write(tmp_path, "20260303_090000").with_name("host_20260303_090000.jsonl")
    at = WORK[9][1] - 1.0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    place = next(n for n, line in enumerate(lines) if n and line["at"][-1] >= at)
    lines[place]["deaths"] = [{"role": "worker", "pid": 100, "name": "rq", "at": made.moment(at), "root": True,
                               "unfinished": 0, "left_work": False, "replaced": False, "oom_kill": False}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = judge(read_run(record(tmp_path, TASKS), [tmp_path / "system_resources_20260303_090000.csv"]))
    assert statuses(found)["no_worker_crash"] == "fail"
    (death,) = found.crashes
    assert getattr(death, "unfinished", None) == 1  # by the task's time, though the host's clock is ahead


def test_gpu_memory_of_the_load_s_own_machine_is_judged_beside_a_host(tmp_path: Path) -> None:
    """A leak there is one, though the worker of another host has no GPU in the record."""
    held = RoleMemory(700.0, 700.0, 700.0, 700.0, 700.0, [])
    own = [dataclasses.replace(task, settled=True, sample_gap_s=0.2, memory={"worker": dataclasses.replace(
        held, gpu=GpuMemory(2000.0 + 400 * n, 2400.0 + 400 * n, 2400.0 + 400 * n, False, None, None))})
        for n, task in enumerate(TASKS)]
    found = joined(tmp_path, host("asr-2"), tasks=own)
    assert growth(found, "worker GPU")[0] == "LEAK"
    assert found.verdict == "fail"


def test_gpus_that_a_monitor_recorded_and_nothing_judges_are_said(tmp_path: Path) -> None:
    (tmp_path / "gpu_20260303_090000.csv").write_text("timestamp\n")
    for run in (joined(tmp_path, host()), judge(read_run(tmp_path / "system_resources_20260303_090000.csv", None))):
        assert [n.facts["files"] for n in run.run.notes if n.key == "host_gpu"] == [("gpu_20260303_090000.csv",)]


@pytest.mark.parametrize("name", ["host_20260303_090000.jsonl", "gpu_20260302_090000.csv"])
def test_a_file_beside_that_cannot_be_read_is_said_in_one_sentence(name: str, tmp_path: Path,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    csv, run = host().write(tmp_path, "20260303_090000"), record(tmp_path, TASKS)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("/proc/self/mem")  # a file whose first read fails
    assert reader.main([str(run), "--resources", str(csv), "--no-charts"]) == 2
    assert capsys.readouterr().err.strip() == f"{tmp_path / name} cannot be read: Input/output error."
