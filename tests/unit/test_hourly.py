"""Recordings without tasks: growth per hour of series with a known truth, other tools' files, what may pass."""

from __future__ import annotations

import json
import math
import random
from array import array
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import analyze_stress_test as reader
from memory_leak_stress_test import EXIT_FAIL
from stress_report import markdown
from stress_report.comparison import compare
from stress_report.hourly import BLOCKS, Hourly, Track, conclude, judge_hours
from stress_report.judging import judge
from stress_report.memory import RoleSeries
from stress_report.recording import Process, Samples, Unreadable, read_run
from stress_report.saying import Words
from unit.host_records import MadeUp
from unit.host_records import Process as Watched
from unit.reader_checks import check_markdown
from unit.reader_runs import BEGIN, CSV_HEAD

NIGHT_H = 8.0
STEP_S = 30.0
SERIES = 30  # per scenario

Level = Callable[[float], float]  # MB at rest at an hour
Levels = Callable[[random.Random], Level]


def judged(mb: list[float], *, cpu: list[float] | None = None, step_s: float = STEP_S,
           processes: list[Process] | None = None) -> Hourly:
    """What is found of one role, recorded every so many seconds."""
    times = [step_s * n for n in range(len(mb))]
    samples = Samples(Path("x.csv"), elapsed=array("d", times), clock=[(0.0, 0.0)])
    at = array("I", range(len(mb)))
    series = RoleSeries("worker", processes or [Process("rq", 1, at)], at, mb, cpu or [50.0] * len(mb))
    return judge_hours(Track("worker", times, mb, "rss"), series, samples)


def night(level: Level, rng: random.Random, *, sd: float = 3.0, hours_alike: float = 1 / 6, busy: float = 0.3,
          by_day: bool = False) -> list[float]:
    """Memory of a service at work: its level at rest, noise that stays alike for a while, tasks that come and go."""
    kept, noise, task, mb = math.exp(-STEP_S / 3600 / hours_alike), 0.0, False, []
    for number in range(int(NIGHT_H * 3600 / STEP_S)):
        hour = number * STEP_S / 3600
        noise = kept * noise + rng.gauss(0, sd * math.sqrt(1 - kept * kept))
        load = busy * (0.5 + 0.5 * math.sin(2 * math.pi * hour / NIGHT_H)) if by_day else busy
        task = rng.random() > STEP_S / 60 if task else rng.random() < STEP_S / 60 * load / (1 - load)
        mb.append(level(hour) + noise + (rng.uniform(90, 150) if task else 0.0))
    return mb


def steady(mb_per_hour: float) -> Levels:
    return lambda rng: lambda hour: 700 + mb_per_hour * hour


def warm_up(mb: float, tau_h: float) -> Levels:
    return lambda rng: lambda hour: 700 + mb * (1 - math.exp(-hour / tau_h))


def one_step(mb: float) -> Levels:
    def levels(rng: random.Random) -> Level:
        at = rng.uniform(0, NIGHT_H)
        return lambda hour: 700 + mb * (hour >= at)
    return levels


def saw_tooth(mb: float, period_h: float) -> Levels:
    def levels(rng: random.Random) -> Level:
        phase = rng.uniform(0, period_h)
        return lambda hour: 700 + mb * ((hour + phase) % period_h) / period_h
    return levels


def full_cache(mb: float, full_h: float) -> Levels:
    return lambda rng: lambda hour: 700 + mb * min(1.0, hour / full_h)


def late(mb_per_hour: float) -> Levels:
    return lambda rng: lambda hour: 700 + mb_per_hour * max(0.0, hour - NIGHT_H / 2)


class Scenario(NamedTuple):
    name: str
    levels: Levels
    how: dict[str, Any]
    fails: tuple[float, float]  # percent of nights that may (and must) be said to grow more than they may
    passes: tuple[float, float]  # percent that may (and must) be said to be flat, or to grow by less


NEVER, RARELY, ALMOST, ANY = (0, 0), (0, 5), (93, 100), (0, 100)
SCENARIOS = [  # limits lie beside what 400 nights each gave: status by status
    Scenario("flat", steady(0), {}, NEVER, ALMOST),
    Scenario("flat, noise of 10 MB that stays alike for 10 min", steady(0), {"sd": 10}, NEVER, (75, 100)),
    Scenario("flat, noise of 5 MB that stays alike for 3 h", steady(0), {"sd": 5, "hours_alike": 3}, NEVER, (80, 100)),
    Scenario("flat, load by day", steady(0), {"by_day": True}, NEVER, ALMOST),
    Scenario("one step of 150", one_step(150), {}, NEVER, (0, 40)),
    Scenario("warm-up of 300, half an hour", warm_up(300, 0.5), {}, NEVER, ALMOST),
    Scenario("warm-up of 300, 2 h", warm_up(300, 2), {}, NEVER, ANY),
    Scenario("saw-tooth of 100 each hour", saw_tooth(100, 1), {}, NEVER, ANY),
    Scenario("saw-tooth of 100 in 3 h", saw_tooth(100, 3), {}, NEVER, ANY),
    Scenario("saw-tooth of 100 in 6 h", saw_tooth(100, 6), {}, NEVER, ANY),
    Scenario("a cache of 200, full after 3 h", full_cache(200, 3), {}, NEVER, ALMOST),
    Scenario("leak of 3 per hour", steady(3), {}, NEVER, (80, 100)),
    Scenario("leak of 12 per hour", steady(12), {}, ALMOST, NEVER),
    Scenario("leak of 30 per hour", steady(30), {}, ALMOST, NEVER),
    Scenario("leak of 30 per hour, noise of 10 MB", steady(30), {"sd": 10}, (90, 100), NEVER),
    Scenario("leak of 50 per hour from the middle on", late(50), {}, ALMOST, NEVER),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nights_of_every_kind_are_judged_as_often_right_as_said(scenario: Scenario) -> None:
    rng, seen = random.Random(scenario.name), Counter[str]()
    for _ in range(SERIES):
        seen[judged(night(scenario.levels(rng), rng, **scenario.how)).status] += 1
    for status, (low, high) in (("fail", scenario.fails), ("pass", scenario.passes)):
        assert low <= 100 * seen[status] / SERIES <= high, seen


@pytest.mark.parametrize("how", [{}, {"sd": 10}, {"sd": 5, "hours_alike": 3}], ids=str)
def test_flat_memory_is_seldom_said_to_grow_surely(how: dict[str, Any]) -> None:
    """The bound of 99 % holds though neighbouring blocks resemble each other; without that in mind 24 % were wrong."""
    rng = random.Random(7)
    lows = [found.at_least for _ in range(4 * SERIES) if (found := judged(night(steady(0)(rng), rng, **how)))]
    assert sum(low is not None and low > 0 for low in lows) <= 0.05 * len(lows)


@pytest.mark.parametrize("rate", [3.0, 12.0, 50.0])
def test_the_rate_lies_between_its_bounds(rate: float) -> None:
    rng = random.Random(int(rate))
    found = [judged(night(steady(rate)(rng), rng)) for _ in range(SERIES)]
    right = sum((f.at_least or 0.0) <= rate <= (f.at_most or 0.0) for f in found if f.mb_per_hour is not None)
    assert right >= 0.93 * SERIES


# ------------------------------------------------------------------------------------------------ what it is judged by

HOURS = [n / 3 for n in range(BLOCKS)]
KNOWN = {"role": "worker", "replaced": 0, "measure": "rss", "tolerance": 200 / 24, "hours": 8.0}
REASONS: list[tuple[str, list[float]]] = [  # of the lowest levels of 24 blocks in 8 h
    ("grew", [700 + 30 * hour for hour in HOURS]),
    ("grew_slowly", [700 + 3 * hour for hour in HOURS]),
    ("flat", [700.0 + number % 2 for number in range(BLOCKS)]),
    ("fell", [700 - 20 * hour for hour in HOURS]),
    ("too_noisy", [700.0 + 60 * (number % 2) for number in range(BLOCKS)]),
    ("one_jump", [700.0 + 150 * (number > 20) for number in range(BLOCKS)]),
    ("swings", [700.0 + 20 * (number % 9) for number in range(BLOCKS)]),
    ("slowing_down", [700 + 300 * (1 - math.exp(-hour / 3)) for hour in HOURS]),
    ("unconfirmed", [700 + 20 * max(0.0, number - 19) + 2 * (number % 3) for number in range(BLOCKS)]),
    ("rises_not_over", [700.0 + 150 * (number > 13) for number in range(BLOCKS)]),
]


def concluded(levels: list[float], worked: float = 1.0) -> Hourly:
    return conclude("worker", levels, 8.0, worked, KNOWN)


@pytest.mark.parametrize(("reason", "levels"), REASONS, ids=[reason for reason, _ in REASONS])
def test_a_recording_is_judged_for_the_right_reason(reason: str, levels: list[float]) -> None:
    assert concluded(levels).reason == reason


def flat(samples: int = 1440) -> list[float]:
    return [700.0 + number % 2 for number in range(samples)]


def test_a_service_at_rest_proves_nothing() -> None:
    found = judged(flat(), cpu=[0.2] * 1440)
    assert (found.verdict, found.status) == ("FLAT", "inconclusive")


def test_a_recording_of_minutes_is_too_short() -> None:
    assert judged(flat(300), step_s=1.0).reason == "too_short"
    assert judged(flat(100)).reason == "too_few_samples"
    assert judged(flat(1800), step_s=1.0).reason == "too_short", "flat for half an hour proves nothing of a night"
    assert judged([700.0 + n / 10 for n in range(1800)], step_s=1.0).status == "fail"


def test_a_replaced_process_begins_anew() -> None:
    mb = [700.0 + 0.1 * number for number in range(400)] + [300.0 + 0.1 * number for number in range(1040)]
    first, second = Process("rq", 1, array("I", range(400))), Process("rq", 2, array("I", range(400, 1440)))
    found = judged(mb, processes=[first, second])
    assert (found.reason, found.facts["replaced"]) == ("grew", 2)
    assert found.hours == pytest.approx(1038 * STEP_S / 3600, abs=0.03)
    assert found.mb_per_hour == pytest.approx(0.1 * 3600 / STEP_S, rel=0.02)


def test_a_dip_of_one_sample_is_no_level() -> None:
    found = judged([300.0 if number % 97 == 0 and number > 700 else mb for number, mb in enumerate(flat())])
    assert (found.verdict, round(found.mb_per_hour or 0.0)) == ("FLAT", 0)


def test_work_horses_that_come_and_go_are_no_break() -> None:
    horses = [Process("rq", 10 + n, array("I", range(4 * n, 4 * n + 2))) for n in range(360)]
    found = judged(flat(), processes=[Process("rq", 1, array("I", range(1440))), *horses])
    assert (found.verdict, found.facts["replaced"]) == ("FLAT", 0)


def pool(each: int, of: int = 1440, mb: float = 700.0) -> list[Process]:
    """Processes one after the other, each for so many samples."""
    return [Process("rq", 100 + n, array("I", range(at, min(at + each, of))), array("d", [mb] * min(each, of - at)))
            for n, at in enumerate(range(0, of, each))]


@pytest.mark.parametrize(("each", "held", "reason"), [
    (60, 700.0, "recycled"),  # 30 min of 12 h
    (60, 100.0, "flat"),  # beside a process that holds more and lives on
    (4, 700.0, "flat")])  # 90 s: work-horses
def test_what_recycled_processes_keep_is_not_called_flat(each: int, held: float, reason: str) -> None:
    lasting = Process("rq", 1, array("I", range(1440)), array("d", [700.0 - held] * 1440))
    found = judged(flat(), processes=[lasting, *pool(each, mb=held)])
    assert (found.reason, found.status) == (reason, "inconclusive" if reason == "recycled" else "pass")
    assert reason != "recycled" or (found.facts["count"], round(found.facts["life"])) == (24, 30)


# ---------------------------------------------------------------------------------------------------- files, statuses


def csv_of(path: Path, level: Level, cpu: float = 60.0) -> Path:
    rows = [f"{(BEGIN + timedelta(seconds=20 * n)).isoformat()},{20 * n}.0,rq,100,{cpu},{level(n / 180):.2f},1.0\n"
            for n in range(1440)]
    path.write_text(CSV_HEAD + "".join(rows))
    return path


def psrecord_of(path: Path, level: Level, cpu: float = 60.0) -> Path:
    rows = [f"{20.0 * n:12.3f} {cpu:12.3f} {level(n / 180):12.3f} {2 * level(n / 180):12.3f}\n" for n in range(1440)]
    path.write_text("# Elapsed time   CPU (%)     Real (MB)   Virtual (MB)\n" + "".join(rows))
    return path


def docker_of(path: Path, level: Level, cpu: float = 60.0) -> Path:
    rows = [f"{(BEGIN + timedelta(seconds=20 * n)).isoformat()},{name},{cpu}%,{size} / 15.5GiB\n" for n in range(1440)
            for name, size in (("asr-worker-1", f"{level(n / 180):.4g}MiB"), ("redis", "12.25MiB"))]
    path.write_text("".join(rows))
    return path


OF = {"x.csv": "worker", "activity.txt": "psrecord", "docker_stats.csv": "asr-worker-1"}
WRITERS = {"x.csv": csv_of, "activity.txt": psrecord_of, "docker_stats.csv": docker_of}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("rate", "cpu", "status", "verdict", "said"), [
    (30.0, 60.0, 1, "GROWS", "grew 30.0 MB per hour (at least 29"),
    (3.0, 60.0, 0, "GROWS", "grew 3.0 MB per hour (at least 2."),
    (0.0, 60.0, 0, "FLAT", "flat within 0."),
    (0.0, 0.1, 3, "FLAT", "but it worked in 0 % of the time only"),
])
def test_each_kind_of_recording_says_so_and_ends_with_the_status(
    name: str, rate: float, cpu: float, status: int, verdict: str, said: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str]
) -> None:
    path = WRITERS[name](tmp_path / name, lambda hour: 700.0 + rate * hour, cpu)
    assert reader.main([str(path), "--json"]) == status
    content = json.loads(capsys.readouterr().out)
    found = content["recording"][OF[name]]
    assert found["verdict"] == verdict
    assert said in found["reason"]
    assert found["hours"] == pytest.approx(8.0, abs=0.01)
    assert content["criteria"][0]["id"] == "growth_per_hour"


def test_the_terminal_shows_one_row_and_the_report_says_that_it_is_less_sure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv_of(tmp_path / "x.csv", lambda hour: 700.0 + 30.0 * hour)
    assert reader.main([str(path), "--no-charts"]) == EXIT_FAIL
    out = " ".join(capsys.readouterr().out.split())
    assert "FAILED – Memory grows in worker" in out
    assert "growth per hour +30.0 MB below 8.3 MB FAILED" in out
    assert "growth per long task" not in out
    report = path.with_suffix(".md").read_text()
    assert "this is less sure than a test" in report
    check_markdown(markdown.report(judge(read_run(path, None)), None, {}, [], Words("zh-CN")))


def test_the_monitors_own_recording_is_judged_by_private_memory(tmp_path: Path) -> None:
    truth = Watched("worker", 100, lambda t: 700.0 + t / 120, [(n, n + 5.0) for n in range(0, 3600, 10)])
    path = MadeUp("asr-1", [truth], 3600.0).write(tmp_path, "20260303_090000")
    (found,) = judge(read_run(path, None)).hourly
    assert (found.verdict, found.facts["measure"]) == ("GROWS", "private")
    assert found.mb_per_hour == pytest.approx(30.0, abs=0.5)


def test_what_another_tool_left_broken_is_counted(tmp_path: Path) -> None:
    path = psrecord_of(tmp_path / "a.log", lambda hour: 700.0)
    path.write_text(path.read_text() + "nonsense\n  1.0 x 3\n" + "  30000.0   1.0")
    run = read_run(path, None)
    assert (run.samples[0].rows, run.samples[0].skipped) == (1440, 3)


def test_a_recording_without_dates_has_no_day_and_no_order(tmp_path: Path) -> None:
    (tmp_path / "now").mkdir()
    before, now = (judge(read_run(psrecord_of(folder / "a.log", lambda hour: 700.0), None))
                   for folder in (tmp_path, tmp_path / "now"))
    report = markdown.report(now, before, {}, [], Words("en"))
    assert "| when | not recorded |" in report
    assert "1970" not in report
    dated = judge(read_run(csv_of(tmp_path / "x.csv", lambda hour: 700.0), None))
    assert compare(dated, now)[2] == []


def test_two_recordings_are_compared_by_growth_per_hour(tmp_path: Path) -> None:
    before = judge(read_run(csv_of(tmp_path / "before.csv", lambda hour: 700.0 + 60.0 * hour), None))
    now = judge(read_run(csv_of(tmp_path / "now.csv", lambda hour: 700.0), None))
    fix, changes, _ = compare(before, now)
    assert (fix.key, "grew 60.0 MB per hour" in Words("en").note(fix)) == ("fix_hours", True)
    assert [c.before for c in changes if c.what.key == "rate_per_hour"] == [before.hourly[0].mb_per_hour]


def test_a_recording_does_not_pass_without_one_that_was_named(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text(CSV_HEAD)
    run = judge(read_run(csv_of(tmp_path / "x.csv", lambda hour: 700.0), [tmp_path / "empty.csv"]))
    assert (run.verdict, [note.key for note in run.run.notes]) == ("inconclusive", ["csv_empty"])


def test_a_file_of_nothing_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello\n")
    with pytest.raises(Unreadable):
        read_run(tmp_path / "x.txt", None)
