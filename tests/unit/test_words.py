"""The word table: every language whole, every word said by some run and none missing, Chinese that is Chinese."""

from __future__ import annotations

import dataclasses
import functools
import json
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import GrowthVerdict, LoadHost, ProcessMemory, TaskResult
from stress_report import markdown
from stress_report.charts import write_charts
from stress_report.findings import Note
from stress_report.hourly import why
from stress_report.judging import Judged, judge
from stress_report.recording import Unreadable, read_run
from stress_report.saying import Words, reason
from stress_report.summary import summary
from stress_report.terminal import print_summary
from stress_report.words import LANGUAGES, WORDS
from unit import (
    test_cases,
    test_diagnosis,
    test_gpu,
    test_growth_rule,
    test_hosts,
    test_hourly,
    test_judging,
    test_legacy,
    test_machine,
    test_proof,
    test_recording,
    test_saying,
)
from unit.host_records import MadeUp, Process, worker
from unit.reader_checks import recorded, without
from unit.reader_runs import (
    CSV_HEAD,
    FLAT,
    LEAKING,
    healthy,
    judged,
    leak_phase,
    level,
    loaded_phase,
    memory,
    moment,
    ramp,
    record,
    sample_rows,
    with_long_delta,
    with_settings,
)


def fields(text: str) -> set[str]:
    """The facts a text shows."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_language_has_every_word_with_the_same_facts() -> None:
    for key, texts in WORDS.items():
        assert len(texts) == len(LANGUAGES), key
        assert all(texts) or key == "space", key
        assert len({frozenset(fields(text)) for text in texts}) == 1, key


def test_chinese_words_are_chinese() -> None:
    same = {key for key, (english, chinese) in WORDS.items() if english == chinese}
    assert same == {"none", "growth_text", "stable_failed", "python", "api", "col_rtf",
                    "key_real_time", "fact_problem"} & set(WORDS)
    half_width = {key for key, (_, text) in WORDS.items()
                  if any(a > "\u3000" and b in ",;:()" for a, b in zip(text, text[1:], strict=False))}
    assert not half_width, "Chinese text takes full-width punctuation"
    unpaired = {key for key, (_, text) in WORDS.items() if text.count("（") != text.count("）")}
    assert not unpaired, "a bracket that is opened is closed by one of its width"


# ------------------------------------------------------------------------------------------------ every word is said


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The keys of all that is said; one that is not in the table ends the test where it is said."""
    keys: set[str] = set()
    say = Words.__call__

    def listen(self: Words, key: str, **facts: Any) -> str:
        keys.add(key)
        return say(self, key, **facts)

    monkeypatch.setattr(Words, "__call__", listen)
    return keys


def tell(run: Judged, folder: Path, before: Judged | None = None, *, language: str = "en",
         drawn: bool = False) -> None:
    """All that is said of a run anywhere."""
    say = Words(language)
    charts, notes = write_charts(run, folder, "run", say) if drawn else ({}, [])
    markdown.report(run, before, charts, notes, say)
    summary(run, say)
    print_summary(run, before, say, folder / "run.md")


def changed(results: Sequence[TaskResult], **fields: Any) -> list[TaskResult]:
    return [dataclasses.replace(result, **fields) for result in results]


def failed(kind: str, **facts: Any) -> list[TaskResult]:
    """A ramp of one level whose task failed so."""
    return ramp(changed(level(1), status="failed", error_kind=kind, error_facts=facts, rtf=None), stop="failure")


def flaky() -> list[TaskResult]:
    cut = changed(level(4, 2), status="failed", error_kind="interrupted", error_facts={"sent": False})
    return ramp(changed(level(1), rtf=1.2), level(2), level(3, failed=1), level(3, 2), cut, stop=None)


def with_helpers() -> list[TaskResult]:
    """Two processes of one role, long tables, jobs of a work-horse each."""
    results = leak_phase([300.0, 700.0] + [700.0] * 40)
    for number, result in enumerate(results):
        horse = ProcessMemory(500 + number, moment(number), "rq", 900.0, True, held_mb=400.0)
        result.memory["worker"].processes += [horse]
    return results


RUNS: dict[str, Callable[[], list[TaskResult]]] = {
    "only the ramp": lambda: with_settings(ramp(level(1), level(2)), phase="concurrency"),
    "only the leak phase": lambda: with_settings(leak_phase(), phase="leak"),
    "loaded cycles": lambda: with_settings(leak_phase(), phase="loaded"),
    "loaded cycles that end too early": lambda: test_judging.under_load(FLAT[:5]),
    "unwatched": lambda: changed(with_settings(healthy(), no_watch=True), memory={}),
    "a level that failed first and then passed": flaky,
    "nothing is stable": lambda: ramp(level(4, failed=1), stop="failure"),
    "not even one": lambda: ramp(level(1, failed=1), stop="failure"),
    "no RTF": lambda: ramp(changed(level(1), rtf=None), stop="client_limited"),
    "slow from the first": lambda: changed(ramp(level(1), level(2), level(3)), rtf=1.5),
    "slow later": lambda: ramp(level(1), level(2), level(3), changed(level(4), rtf=1.5), level(5)),
    "one after another": lambda: ramp(*(level(n, processing_time=2.0 * n) for n in range(1, 5))),
    "one after another, two levels": lambda: ramp(*(level(n, processing_time=2.0 * n) for n in (1, 2))),
    "beyond the knee": lambda: ramp(*(level(n, processing_time=1.0 * max(2, n)) for n in range(1, 9))),
    "no level at all": lambda: ramp(level(1, 0), stop="memory_reserve"),
    "no level 1": lambda: ramp(level(2), level(3)),
    "RSS alone": lambda: [dataclasses.replace(r, memory={"worker": dataclasses.replace(
        r.memory["worker"], private_before_mb=None, private_after_mb=None)}) for r in leak_phase()],
    "kept 600 MB per long task": lambda: with_long_delta(600.0),
    "no reading": lambda: [dataclasses.replace(r, memory={}) for r in leak_phase()],
    "a reading missing": lambda: [dataclasses.replace(r, memory={} if r.cycle == 5 else r.memory)
                                  for r in leak_phase()],
    "both clips": lambda: [dataclasses.replace(r, memory={"worker": memory(700.0 + 30 * n, 730.0 + 30 * n)})
                           for n, r in enumerate(leak_phase())],
    "replaced between tasks, and both roles have more to say": lambda: test_judging.replaced_worker(
        leak_phase(LEAKING, [50.0] * 14)),
    "grows by the clock": lambda: test_proof.with_drift(2.0),
    "small growth": lambda: leak_phase([700.0 + 4 * n for n in range(-1, 14)]),
    "small growth in two roles": lambda: leak_phase(*[[700.0 + 4 * n for n in range(-1, 14)]] * 2),
    "decided, and held open": lambda: leak_phase([300.0] + [700.0 + 60 * n for n in range(14)] + [1480.0] * 2),
    "decided, and contradicted": lambda: leak_phase([300.0] + [700.0 + 60 * n for n in range(14)] + [1480.0] * 60),
    "work-horses": with_helpers,
    "an API never read": lambda: [dataclasses.replace(r, memory=r.memory | {"api": memory(None, None, 200)})
                                  for r in leak_phase()],
    "a cache, and identical uploads": lambda: [
        dataclasses.replace(r, upload="identical" if r.cycle else "repeat", processing_time=2.0 if r.cycle else 0.1)
        for r in leak_phase()],
    "less memory than the reserve": lambda: ramp(level(1), level(2, facts={
        "host_available_min_mb": 900.0, "reserve_mb": 1600.0}), stop="memory_reserve"),
    "runs of a level that differ": lambda: ramp(
        *(level(1, number, processing_time=taken) for number, taken in enumerate((1.0, 4.0, 4.0), 1)), level(2),
        level(3, processing_time=3.0)),
    "killed for lack of memory": lambda: ramp(level(1), level(2, failed=1, facts={"oom_kills": 1}), stop="failure"),
    "a work-horse died": lambda: failed("worker_died", pid=7, name="rq", workers_left=0),
    "a worker died and nothing moved": lambda: failed("worker_died", pid=7, name="rq", idle_s=9),
    "stalled": lambda: failed("stalled", idle_s=9),
    "busy": lambda: failed("submit_http_503", retry_after_s=30.0),
    "timed out": lambda: failed("task_timeout", limit_s=9.0, last_seen="queued"),
    "never came back": lambda: failed("task_timeout", limit_s=9.0, exchange_ended=False),
    "lost": lambda: failed("task_lost", task_id="a1"),
    "interrupted": lambda: failed("interrupted", sent=True),
    "a fault of the tool": lambda: failed("tool_fault"),
    "a load machine was lost": lambda: failed("load_host_lost", why="lost"),
    "a load machine had no user": lambda: failed("load_host_lost", why="no_user"),
    "from several machines": lambda: ramp(level(1), level(2, facts={"client_limited": True, "load_hosts": [
        LoadHost("a#1", 1, clock_error_ms=0.2, clock_offset_ms=3000.0),
        *(LoadHost(f"b#{n}", 1, limit=limit) for n, limit in enumerate(("lost", "late", "overloaded")))]})),
    "without a reason": lambda: failed("task_failed"),
    "the kernel keeps memory": lambda: test_machine.on_machine(leak_phase(), kernel=test_machine.STEADY),
    "a leak on a machine without limits": lambda: test_machine.on_machine(leak_phase(LEAKING)),
    "many names, read in part": lambda: test_machine.on_machine(
        leak_phase(), others=test_machine.JOBS, missing={"others": "Permission denied"}),
    "shared memory of no known place": lambda: test_machine.on_machine(
        leak_phase(), shared=test_machine.STEADY, tmpfs=False),
    "one process grows, another by itself": lambda: test_machine.on_machine(
        leak_phase(), others={"redis-server": test_machine.STEADY}, at_rest=1.0),
} | {kind: functools.partial(failed, kind) for kind in (
        "submit_timeout", "submit_reset", "submit_http_503", "gpu_oom", "out_of_memory")} | {
    f"an answer: {problem}": functools.partial(failed, "bad_response", problem=problem)
    for problem in ("not JSON", "not a JSON object", "empty answer", "cannot be decoded", "HTTP 500")}
LINES_OF_NO_USE = ("{", "[1]", "null", "9" * 5000, '{"phase": "leak", "test_id": "a"}')
BAD_FIELDS: tuple[dict[str, Any], ...] = ({"status": 1}, {"phase": "x"}, {"cycle": -1}, {"processing_time": 0},
                                        {"test_id": "short_c1_0001", "rtf": 0.5})
CSVS = ("", CSV_HEAD + sample_rows(range(90_000, 90_009), ("rq", 100, 1.0)),
        CSV_HEAD + sample_rows(range(9), ("rq", 100, 1.0)),
        CSV_HEAD + sample_rows(range(2200), ("rq", 100, 1.0)) + "x\n",
        CSV_HEAD + sample_rows([*range(9), *range(40, 2200)], ("rq", 100, 1.0), ("rq", 101, 1.0)),
        CSV_HEAD + sample_rows(range(40), ("rq", 100, 1.0)) + "".join(
            f"{moment(second + 999)},{second:.2f},rq,100,1.0,1.0,1.0\n" for second in range(40, 60)),
        CSV_HEAD + "".join(sample_rows(range(3 * n, 3 * n + 2), ("rq", 100 + n, 1.0)) for n in range(20)),
        CSV_HEAD + sample_rows(range(0, 20_000, 2), ("rq", 100, 1.0)))


def runs_of_others(folder: Path) -> Iterator[Judged]:
    """The runs that other tests are about."""
    yield from (judged(folder, results) for _, results in test_saying.ADVISED)
    yield from (judged(folder, make(), **how) for _, make, how, _, _ in test_judging.MISSING)
    yield from (judged(folder, make(), **how) for _, make, how, *_ in test_proof.ROWS)
    yield from test_cases.all_cases()
    yield from test_diagnosis.some_of_everything(folder)
    yield from (test_gpu.leaking_gpu(folder), test_gpu.leaking_gpu(folder, whole=True), test_gpu.unknown_gpu(folder))
    yield test_proof.some_nameless(folder)
    yield from (judge(test_recording.read(folder, text, pending)) for _, text, pending, *_ in test_recording.CRASHES)
    (folder / test_recording.NAME).with_suffix(".pending.json").unlink(missing_ok=True)


def runs_of_hosts(folder: Path) -> Iterator[Judged]:
    """Hosts of which one leaks, whose clocks are compared in every way, and whose records are not whole."""
    zone, kept = test_hosts.WITH_ZONE, {"synchronised": True, "max_error_s": 0.01}
    both = zone | {"clock": {"utc_offset_s": 0.0, **kept}}
    leaks, work, host = worker(test_hosts.WORK[::2], 30.0), test_hosts.WORK, test_hosts.host
    unkept = host("b", clock={"synchronised": False})
    yield test_hosts.joined(folder, host("a", leaks, zone_s=3600.0), unkept, host=zone)
    yield test_hosts.joined(folder, host("a", clock=kept), host("b", ahead=9.0, zone_s=36000.0), host=both)
    yield test_hosts.joined(folder, host(ahead=2.0), host("c", Process("api", 7, lambda _: 50.0)), lines=[True, False])
    yield test_hosts.joined(folder, host("a", worker(work, 0.0)), host("b", zone_s=36000.0))
    yield test_hosts.joined(folder, MadeUp("a", [worker(work, 0.0)], 100.0))
    results = with_settings(leak_phase(), phase="leak")
    csv = MadeUp("h", [worker(work, 0.0)], 600.0).write(folder, "20260304_090000")
    yield judge(read_run(record(folder, results), [csv]))
    yield test_hosts.without_a_pause(folder)
    (odd := folder / "odd.csv").write_text(CSV_HEAD + sample_rows(range(400), ("celery", 300, 500.0)))
    yield judge(read_run(record(folder, test_hosts.TASKS), [host().write(folder, "20260303_090000"), odd]))
    ramp_alone = test_hosts.ramp_tasks()
    leaks_too = MadeUp("a", test_hosts.in_ramp(ramp_alone, 20.0), 140.0)
    yield test_hosts.joined(folder, leaks_too, tasks=ramp_alone)
    csv = host().write(folder, "20260303_090000")
    csv.with_name("gpu_20260303_090000.csv").touch()
    with csv.with_name("host_20260303_090000.jsonl").open("a") as lines:
        lines.write("{")
    yield judge(read_run(record(folder, test_hosts.TASKS), [csv]))


def recordings_alone(folder: Path, say: Words) -> Iterator[Judged]:
    """Samples without tasks: judged for every reason."""
    for _, levels in test_hourly.REASONS:
        for worked in (0.0, 1.0):
            for note in why(test_hourly.concluded(levels, worked)):
                say.note(note)
    say.note(why(test_hourly.judged(test_hourly.flat(100)))[0])
    say.note(why(test_hourly.judged(test_hourly.flat(), processes=test_hourly.pool(60)))[0])
    say.note(Note("hourly_part", {"replaced": 2}))
    path = folder / "x.csv"
    for rate, cpu in ((0.0, 60.0), (0.0, 0.1), (30.0, 60.0)):
        yield judge(read_run(test_hourly.csv_of(path, lambda hour, rate=rate: 700 + rate * hour, cpu), None))  # type: ignore[misc]


def runs_of_an_older_tool(folder: Path) -> Iterator[Judged]:
    zero = [each | {"worker_rss_before_mb": 0.0, "worker_rss_after_mb": 0.0} for each in test_legacy.LINES]
    flat = [test_legacy.line(f"{clip}_c1_{n}", 10 + 30 * n, 12.9, 12.9) for n in range(15) for clip in ("a", "b")]
    no_match = sample_rows(range(500), ("rq", 100, 60.0)), sample_rows(range(500), ("rq", 100, 6000.0))
    for lines, rows in ((test_legacy.LINES, test_legacy.WRONG_PROCESS), (test_legacy.LINES, no_match[0]), (zero, None),
                        (test_legacy.LINES, no_match[1]), (flat, test_legacy.RIGHT_PROCESS)):
        yield test_legacy.old_run(folder, lines, rows)
        (folder / "system_resources_20260302_090000.csv").unlink(missing_ok=True)


def bad_input(folder: Path, say: Words) -> None:
    """What cannot be read, in whole and in part."""
    path = record(folder, healthy())
    lines = path.read_text().splitlines(keepends=True)
    bad = [json.dumps(json.loads(lines[0]) | {"test_id": "x"} | change) for change in BAD_FIELDS]
    for more in (bad, LINES_OF_NO_USE):
        path.write_text("".join([*lines, lines[3], *(line + "\n" for line in more)]))
        tell(judge(read_run(path, None)), folder)
    tell(judge(test_recording.read(folder, "".join(test_recording.LINES[1:]))), folder)
    for name, text in (("no.csv", CSV_HEAD), ("none.jsonl", ""), ("other.jsonl", "hello\n"), ("", "")):
        if name:
            (folder / name).write_text(text)
        with pytest.raises(Unreadable) as refused:
            read_run(folder / name, None)
        say.note(refused.value.why)


def test_every_word_of_the_table_is_said_by_some_run_and_no_other(
    tmp_path: Path, heard: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say = Words("en")
    for run in runs_of_others(tmp_path):
        tell(run, tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    for name, make in RUNS.items():
        tell(judged(alone, make()), alone, drawn=name in ("nothing is stable", "the kernel keeps memory"))
    for run in (*runs_of_hosts(tmp_path), *recordings_alone(tmp_path, say)):
        tell(run, tmp_path)
    for csv in CSVS:
        tell(judged(tmp_path, healthy(), csv=csv), tmp_path, drawn=True)
    bare = tmp_path / "system_resources_20260302_090001.csv"
    bare.write_text(CSV_HEAD + sample_rows(range(9), ("rq", 100, 1.0)))
    tell(judge(read_run(bare, None)), tmp_path)
    bad_input(tmp_path, say)
    compared(tmp_path)
    for run in runs_of_an_older_tool(tmp_path):
        tell(run, tmp_path, recorded("leaking"))
    for growth in growths():
        reason(growth, say)
    for key in ("chart_off", "cannot_write"):  # said by the command alone
        say.note(Note(key, {"file": "f", "why": "w"}))
    monkeypatch.setattr("stress_report.charts.CHINESE_FONTS", ())
    tell(recorded("healthy"), tmp_path, language="zh-CN", drawn=True)
    without("matplotlib", monkeypatch)
    tell(recorded("healthy"), tmp_path, drawn=True)
    unsaid = sorted(set(WORDS) - heard)
    assert unsaid == []


def compared(folder: Path) -> None:
    """Every pair of runs that leak, do not, or leave it open."""
    api = [50.0] * 14, [50.0 + 60 * n for n in range(14)]
    runs = [leak_phase(LEAKING), leak_phase(FLAT), leak_phase(FLAT[:5]), leak_phase(LEAKING, api[0]),
            leak_phase(FLAT, api[1]), test_saying.held_after_the_ramp()]
    sides = [judged(folder, results) for results in runs]
    for before in sides:
        for after in sides:
            tell(after, folder, before)
    tell(judged(folder, changed(leak_phase(FLAT), empty_text=None)), folder, sides[0])
    tell(judged(folder, changed(leak_phase(FLAT), audio_seconds=20.0)), folder, sides[0])
    slow = judged(folder, leak_phase([300.0, 700.0] + [700.0 + 8 * n for n in range(1, 13)]))
    tell(slow, folder, judged(folder, leak_phase([300.0, 700.0] + [700.0 + 15 * n for n in range(1, 15)])))
    tell(judged(folder, with_settings(loaded_phase(FLAT), phase="loaded")), folder, sides[0])
    host = test_hosts.host
    before = test_hosts.joined(folder, host("a"), host("b", worker(test_hosts.WORK, 30.0)))
    tell(test_hosts.joined(folder, host("a")), folder, before)
    recordings = [judge(read_run(test_hourly.csv_of(folder / "x.csv", lambda hour: 700.0), None)) for _ in range(2)]
    tell(recordings[0], folder, recordings[1])
    first, *tuned = test_diagnosis.runs_with_another_allocator(folder)
    for after in tuned:
        tell(after, folder, first)
    noisy = dataclasses.replace(sides[1].roles["worker"].growth, upper_bound_mb_per_cycle=61.0)
    sides[1].roles["worker"] = dataclasses.replace(sides[1].roles["worker"], growth=noisy)
    tell(sides[1], folder, sides[0])
    other = with_settings(changed(leak_phase(), host={"name": "x", "cpus": 8}, audio_seconds=9.0), tolerance_mb=99.0)
    tell(judged(folder, other), folder, sides[1])


def growths() -> Iterator[GrowthVerdict]:
    """Verdicts of the growth rule for every reason."""
    tables = (*test_growth_rule.MUST_ACCUSE, *test_growth_rule.MUST_CLEAR, *test_growth_rule.MUST_NOT_DECIDE)
    yield from (test_growth_rule.decided(row[1]) for row in tables)
    for cycles, more in ((10, 0.0), (10, 25.0), (13, 25.0)):
        make = test_growth_rule.forking(lambda cycle, more=more: 600.0 + more * cycle)  # type: ignore[misc]
        yield test_growth_rule.worker(test_growth_rule.leak_run([30.0] * cycles, make=make)).growth
    yield GrowthVerdict("INCONCLUSIVE", "missing_growth", {"slope": 20.0, "cycle": 9}, 20.0, None, 12)
    for facts in ({"pid": None, "name": None}, {"pid": 7, "name": "sleep"}):
        yield GrowthVerdict("NOT MEASURED", "no_work", {"tasks": 20, "worked": 1, **facts}, None, None, 0)
