"""Two runs: whether the fix is shown, and what makes them hard to compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from memory_leak_stress_test import TaskResult
from stress_report.comparison import compare
from stress_report.findings import Note
from stress_report.judging import judge
from stress_report.recording import read_run
from stress_report.saying import Words
from stress_report.words import LANGUAGES
from unit.reader_runs import (
    CSV_HEAD,
    FLAT,
    LEAKING,
    healthy,
    judged,
    leak_phase,
    loaded_phase,
    sample_rows,
    with_settings,
)
from unit.test_gpu import on_gpu, rises

BOTH = [50.0] * 14, [50.0 + 60 * n for n in range(14)]  # an API that does not leak, and one that does


@pytest.mark.parametrize(("before", "after", "key"), [
    (leak_phase(LEAKING), leak_phase(FLAT), "fix_shown"),
    (leak_phase(LEAKING), leak_phase(LEAKING), "fix_not_shown"),
    (leak_phase(FLAT), leak_phase(LEAKING), "fix_new_leak"),
    (leak_phase(FLAT), leak_phase(FLAT), "fix_both_clean"),
    (leak_phase(FLAT[:5]), leak_phase(FLAT), "fix_unproven"),
    (leak_phase(FLAT[:5]), leak_phase(LEAKING), "fix_still_leaks"),
    (leak_phase(LEAKING), leak_phase(FLAT[:5]), "fix_open"),
    (leak_phase(LEAKING, BOTH[0]), leak_phase(FLAT, BOTH[1]), "fix_other_leaks"),
    (leak_phase(FLAT, BOTH[1]), leak_phase(FLAT, BOTH[0]), "fix_shown")])
def test_comparison_says_whether_the_fix_is_shown(
    tmp_path: Path, before: list[TaskResult], after: list[TaskResult], key: str
) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    old, new = judged(folders[0], before), judged(folders[1], after)
    fix, changes, unlike = compare(old, new)
    assert fix.key == key
    assert changes[0].before == old.criteria[0].observed
    assert unlike == []
    assert all(Words(language).note(fix) for language in LANGUAGES)


def test_comparison_names_conditions_that_differ(tmp_path: Path) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    other = [dataclasses.replace(result, host={"name": "h", "cpus": 8}) for result in leak_phase()]
    _, _, unlike = compare(judged(folders[0], leak_phase()), judged(folders[1], other))
    assert [note.facts["what"].key for note in unlike] == ["cpus"]


def test_conditions_that_differ_are_said_with_units_and_the_separators_of_the_language(tmp_path: Path) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    runs = [[dataclasses.replace(result, host={"memory_mb": mb}) for result in leak_phase()] for mb in (24105, 48210)]
    for result in runs[1]:
        result.audio_seconds = 20.0
    _, _, unlike = compare(*(judged(*run) for run in zip(folders, runs, strict=True)))
    english, chinese = (" ".join(map(Words(language).note, unlike)) for language in LANGUAGES)
    assert "clip lengths (100 s, 20 s before; 20 s now)" in english
    assert "machine memory (24,105 MB before; 48,210 MB now)" in english
    assert "“音频时长”不同（之前 100 s、20 s，现在 20 s）" in chinese


def test_a_fix_is_not_shown_by_a_looser_tolerance(tmp_path: Path) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for folder in folders:
        folder.mkdir()
    new = judged(folders[1], with_settings(leak_phase(FLAT), tolerance_mb=500.0))
    loose = dataclasses.replace(new.roles["worker"].growth, upper_bound_mb_per_cycle=61.0)  # as of noisy readings
    new.roles["worker"] = dataclasses.replace(new.roles["worker"], growth=loose)
    fix, _, unlike = compare(judged(folders[0], leak_phase(LEAKING)), new)
    say = Words("en")
    assert fix.key == "fix_doubt"
    assert "60.0 before" in say.note(fix)
    assert [say.note(n) for n in unlike if "--tolerance-mb" in say.note(n)] == [
        "The runs differ in --tolerance-mb (10 before; 500 now): the change may be due to that."]
    assert "differs_order" in [note.key for note in compare(new, new)[2]]


def test_of_a_recording_without_tasks_no_conditions_are_known_that_could_differ(tmp_path: Path) -> None:
    csv = tmp_path / "system_resources_20260302_080000.csv"
    csv.write_text(CSV_HEAD + sample_rows(range(0, 7200, 10), ("rq", 100, 500.0)))
    recorded, run = judge(read_run(csv, None)), judged(tmp_path, leak_phase(FLAT))
    for pair in ((recorded, run), (run, recorded)):
        assert {note.key for note in compare(*pair)[2]} <= {"differs_order"}


def test_the_verdict_of_memory_on_gpus_is_compared_too(tmp_path: Path) -> None:
    for folder in ("before", "after"):
        (tmp_path / folder).mkdir()
    old = judged(tmp_path / "before", on_gpu(leak_phase(FLAT), rises(420.0)))
    new = judged(tmp_path / "after", on_gpu(leak_phase(FLAT), rises(0.0)))
    fix, changes, _ = compare(old, new)
    assert (fix.key, fix.facts["role"]) == ("fix_shown", "worker GPU")
    assert [(c.before, c.after) for c in changes if c.what == Note("leak_verdict", {"role": "worker GPU"})] == [
        (Note("leak_LEAK"), Note("leak_NO LEAK"))]


def pair(folder: Path, before: list[TaskResult], after: list[TaskResult]) -> tuple[Note, list[Note]]:
    for name in ("before", "after"):
        (folder / name).mkdir()
    fix, _, unlike = compare(judged(folder / "before", before), judged(folder / "after", after))
    return fix, unlike


@pytest.mark.parametrize(("before", "after", "key"), [
    ([*healthy(), *loaded_phase(LEAKING)], healthy(), "fix_open"),
    (healthy(), [*healthy(), *loaded_phase(LEAKING)], "fix_still_leaks"),
    ([*healthy(), *loaded_phase(LEAKING)], [*healthy(), *loaded_phase(FLAT)], "fix_shown")])
def test_a_leak_under_load_is_compared_with_loaded_cycles(
    tmp_path: Path, before: list[TaskResult], after: list[TaskResult], key: str
) -> None:
    assert pair(tmp_path, before, after)[0].key == key


def loaded(readings: list[float]) -> list[TaskResult]:
    return with_settings(loaded_phase(readings), phase="loaded", at_once=5)


def test_a_fix_is_not_shown_by_other_cycles(tmp_path: Path) -> None:
    fix, unlike = pair(tmp_path, with_settings(leak_phase(LEAKING), phase="leak"), loaded(FLAT))
    assert (fix.key, fix.facts["why"].key) == ("fix_doubt", "fix_other_cycles")
    assert "(--phase leak before; --phase loaded --at-once 5 now)" in Words("en").note(unlike[0])


@pytest.mark.parametrize(("rate", "key"), [(8.5, "fix_doubt"), (2.0, "fix_shown")])
def test_a_leak_that_only_grows_slower_is_not_fixed(rate: float, key: str, tmp_path: Path) -> None:
    slow = leak_phase([300.0, 700.0] + [700.0 + rate * n for n in range(1, 13)])
    fix, _ = pair(tmp_path, leak_phase([300.0, 700.0] + [700.0 + 12 * n for n in range(1, 15)]), slow)
    assert fix.key == key
    slower = "it surely still grows, by 8.5 MB per cycle (12.0 before): slower, though under the tolerance"
    assert (slower in Words("en").note(fix)) is (key == "fix_doubt")


def test_a_fix_is_not_shown_by_shorter_clips(tmp_path: Path) -> None:
    fix, _ = pair(tmp_path, leak_phase(LEAKING),
                  [dataclasses.replace(r, audio_seconds=20.0) for r in leak_phase(FLAT)])
    assert (fix.key, fix.facts["why"].key) == ("fix_doubt", "fix_shorter_clips")


def test_clips_of_unknown_length_are_not_called_shorter(tmp_path: Path) -> None:
    """Those of an older tool's record."""
    old, new = judged(tmp_path, leak_phase(LEAKING)), judged(tmp_path, leak_phase(FLAT))
    for result in new.run.results:
        result.audio_seconds = None
    assert compare(old, new)[0].key == "fix_shown"


def test_loaded_cycles_alone_say_nothing_of_long_tasks(tmp_path: Path) -> None:
    fix, _ = pair(tmp_path, loaded(LEAKING), loaded(FLAT))
    assert fix.key == "fix_shown"
    assert not any("–" in Words(language).note(fix) for language in LANGUAGES)


def test_a_fix_is_not_shown_by_a_service_that_does_no_work(tmp_path: Path) -> None:
    fix, _ = pair(tmp_path, leak_phase(LEAKING), [dataclasses.replace(r, empty_text=None) for r in leak_phase(FLAT)])
    assert (fix.key, fix.facts["why"].key) == ("fix_doubt", "fix_no_proof")
