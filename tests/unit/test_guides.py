"""The guides say what the programs do: each test reads both guides and compares them with the programs' source.

What the commands in them do is tested in e2e/test_guides.py.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import analyze_stress_test as reader
import load_machines
import memory_leak_stress_test as instrument
from memory_leak_stress_test import LevelFacts, ProcessMemory, RoleMemory, TaskResult
from stress_report import findings, hosts, hourly
from stress_report.concurrency import KNEE_LEVELS, KNEE_SHARE, STOPS, judge_ramp
from stress_report.judging import DELTA_BAD_MB, GOOD_LEVEL, NEEDED_LEVEL, judge
from stress_report.recording import OF_A_BATCH, read_run, result_from_json
from stress_report.saying import Words
from stress_report.words import LANGUAGES, WORDS
from support import guides, make_examples
from support.guides import CHINESE, ENGLISH, GUIDES, README, ROOT, Section
from unit.test_growth_simulation import SCENARIOS

both = pytest.mark.parametrize("guide", GUIDES, ids=["en", "zh-CN"])

# Sections by their place, which is the same in both guides: numbers of headings in the document, the title is 0.
(TITLE, PURPOSE, BEFORE, WATCHED, RUNNING, PHASES, LEAK, RAMP, LOADED, RULE, UPLOADS, SEVERAL, READING, CRITERIA,
 REPORT, COMPARING, HOSTS, TROUBLE, NO_START, USAGE, MEANWHILE, INCONCLUSIVE, OTHER, STATUSES, FILES, RESULTS, KINDS,
 COLUMNS, CRASH, SUMMARY, OF_BOTH, OPTIONS, READER_OPTIONS, APIS, DESCRIPTION) = PLACES = range(35)


LOAD_MACHINES = ast.parse(Path(load_machines.__file__).read_text(encoding="utf-8"))


def section(guide: Path, place: int) -> Section:
    return guides.sections(guide)[place]


def sources() -> list[ast.Module]:
    rooms = sorted(Path(reader.__file__).with_name("stress_report").glob("*.py"))
    return [ast.parse(path.read_text(encoding="utf-8")) for path in (Path(instrument.__file__), *rooms,
                                                                     Path(reader.__file__))]


# ------------------------------------------------------------------------------------------- the two guides


def test_both_guides_have_the_same_sections() -> None:
    english, chinese = (guides.sections(guide) for guide in GUIDES)
    assert [s.level for s in english] == [s.level for s in chinese]
    assert len(english) == len(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_both_guides_name_the_same_options_fields_and_files(place: int) -> None:
    english, chinese = (Counter(section(guide, place).spans) for guide in GUIDES)
    assert english - chinese == Counter() == chinese - english


@pytest.mark.parametrize("place", PLACES)
def test_both_guides_give_the_same_numbers(place: int) -> None:
    def numbers(guide: Path) -> list[str]:
        prose = re.sub(r"\]\(.+?\)", "]", guides.SPAN.sub("", section(guide, place).text))
        return sorted(re.findall(r"\d+(?:\.\d+)?", prose))

    assert numbers(ENGLISH) == numbers(CHINESE)


@pytest.mark.parametrize("place", PLACES)
def test_both_guides_show_the_same_blocks_and_table_rows(place: int) -> None:
    english, chinese = (section(guide, place) for guide in GUIDES)
    assert english.blocks == chinese.blocks
    assert len(english.rows) == len(chinese.rows)
    assert [len(row) for row in english.rows] == [len(row) for row in chinese.rows]


@pytest.mark.parametrize("path", [README, *GUIDES], ids=lambda path: path.name)
def test_every_row_of_a_table_has_a_cell_for_each_column(path: Path) -> None:
    """Else GitHub drops what is too much, and shows an empty cell for what is missing."""
    tables = re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.M)
    assert len(tables) > 0
    for table in tables:
        head, *rows = [line.count("|") for line in table.splitlines()]
        assert rows == [head] * len(rows), table


def test_each_guide_leads_to_the_other_at_its_top() -> None:
    for guide, other in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        assert f"]({other.name})" in "\n".join(guide.read_text(encoding="utf-8").splitlines()[:5])


@pytest.mark.parametrize("path", [README, *GUIDES], ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    anchors = {anchor(s.title) for s in guides.sections(path)}
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        assert target.lstrip("#") in anchors if target.startswith("#") else (ROOT / target).is_file(), target


def anchor(title: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_readme_and_both_guides_lead_to_the_examples() -> None:
    links = {path: path.read_text(encoding="utf-8") for path in (README, *GUIDES)}
    for name in make_examples.LEAK_MB:
        assert f"(tests/examples/{name}.md)" in links[README]
        assert f"(tests/examples/{name}.zh-CN.md)" in links[README]
        assert f"(tests/examples/{name}.md)" in links[ENGLISH]
        assert f"(tests/examples/{name}.zh-CN.md)" in links[CHINESE]


# ----------------------------------------------------------------------------------------- options, commands


def options_of(module: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a command with their defaults, from its own parser."""
    caught: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, *_: object) -> None:
        caught.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", catch)
    with pytest.raises(SystemExit):
        module.parse_command_line([])
    return {action.option_strings[-1]: action.default for action in caught[0]._actions
            if action.option_strings and action.dest != "help"}


@both
@pytest.mark.parametrize(("module", "place"), [(instrument, OPTIONS), (reader, READER_OPTIONS)], ids=["test", "reader"])
def test_every_option_is_explained_with_its_default(
    guide: Path, module: Any, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASR_URL", raising=False)
    options = options_of(module, monkeypatch)
    explained = {row[0].strip("`"): row[1].strip("`") for row in section(guide, place).rows}
    assert set(explained) == set(options)
    for option, default in explained.items():
        meant = options[option]
        meant = meant.name if isinstance(meant, instrument.ApiDescription) else meant
        shown = "" if meant is None or isinstance(meant, (bool, list)) or meant == argparse.SUPPRESS else (
            f"{meant:g}" if isinstance(meant, float) else str(meant))
        assert default == shown, option


@pytest.mark.parametrize("path", [README, *GUIDES], ids=lambda path: path.name)
def test_every_option_named_anywhere_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {*options_of(instrument, monkeypatch), *options_of(reader, monkeypatch)}
    foreign = {"--help", "--host", "--port", "--workers",  # argparse's own; uvicorn's, and the embedded service's
               "--max-jobs", "--max-requests", "--max-tasks-per-child",  # of rq, gunicorn and celery
               "--headless", "--processes", "--master", "--master-host", "--worker", "--expect-workers",  # Locust's
               "--include-children", "--log", "--no-stream", "--format",  # of psrecord and docker
               "--network", "--ulimit"}  # of docker
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", path.read_text(encoding="utf-8"))) - known <= foreign


def test_every_call_of_the_two_commands_can_be_parsed() -> None:
    calls = guides.every_call("memory_leak_stress_test.py")
    assert len(calls) > 15
    for arguments in calls:
        instrument.parse_command_line(arguments)
    calls = guides.every_call("analyze_stress_test.py")
    assert len(calls) > 10
    for arguments in calls:
        assert reader.parse_command_line(arguments).run


DOCKER = """#!/bin/sh
echo "$4" | sed 's/{{.Name}}/asr-worker-1/; s/{{.CPUPerc}}/12.50%/; s:{{.MemUsage}}:812.4MiB / 15.5GiB:'
"""


def test_the_loop_over_docker_stats_writes_what_the_reader_reads(tmp_path: Path) -> None:
    ((_, loop),) = [block for block in section(ENGLISH, HOSTS).blocks if block[0] == "bash"]
    for name, script in (("docker", DOCKER), ("sleep", "#!/bin/sh\n[ ! -e ended ] && touch ended\n")):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    subprocess.run(["bash", "-c", loop], cwd=tmp_path, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
                   timeout=30, check=False)
    (process,) = read_run(tmp_path / "docker_stats.csv", None).samples[0].processes
    assert (process.name, list(process.rss), list(process.cpu)) == ("asr-worker-1", [812.4], [12.5])


# -------------------------------------------------------------------------------------------- files and fields


def field_names(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


@both
def test_every_field_of_the_results_is_explained_and_no_other(guide: Path) -> None:
    written = [*field_names(TaskResult), *field_names(RoleMemory), *field_names(ProcessMemory),
               *field_names(LevelFacts)]
    explained = section(guide, RESULTS).names
    assert Counter(explained) == Counter(written) - Counter(["peak_mb"])  # of a role and of a process: one row for both


@both
def test_every_recorded_setting_is_an_option_and_every_host_fact_is_named(guide: Path) -> None:
    """The guide says so instead of a list of them."""
    options = {name.removeprefix("--").replace("-", "_") for name in section(guide, OPTIONS).keys}
    assert set(instrument.Settings().for_record()) <= options
    assert guides.SPAN.findall(paragraph(guide, "settings")) == ["settings", "short_audio", "--short-audio"]
    assert set(guides.SPAN.findall(paragraph(guide, "host"))) - {"host"} == set(instrument.host_facts())


@both
def test_every_field_of_a_death_and_of_the_busiest_other_process_is_named(guide: Path) -> None:
    assert set(guides.SPAN.findall(paragraph(guide, "deaths"))) - {"deaths"} == set(field_names(instrument.Death))
    busiest = next(row for row in section(guide, RESULTS).rows if row[0] == "`busiest_other`")
    assert guides.SPAN.findall(busiest[-1]) == field_names(instrument.Busy)


@both
def test_every_field_of_the_machines_memory_is_named(guide: Path) -> None:
    fields = {name for kind in (instrument.MachineMemory, instrument.OtherProcesses, instrument.Container)
              for name in field_names(kind)}
    assert set(guides.SPAN.findall(paragraph(guide, "machine"))) - {"machine"} == fields


def paragraph(guide: Path, title: str) -> str:
    """The paragraph of the fields of a line that begins with this name."""
    return next(p for p in section(guide, RESULTS).text.split("\n\n") if p.strip().startswith(f"`{title}`"))


@both
def test_the_fields_known_only_at_rest_are_named_by_the_first_and_the_last_of_them(guide: Path) -> None:
    of_a_batch = field_names(TaskResult)[field_names(TaskResult).index("worker_rss_after_mb") :]
    assert tuple(of_a_batch[: of_a_batch.index("machine") + 1]) == OF_A_BATCH
    assert "`worker_rss_after_mb` to `machine`" in section(ENGLISH, RESULTS).text
    assert "`worker_rss_after_mb` 到 `machine`" in section(CHINESE, RESULTS).text
    assert f" {instrument.SCHEMA}" in next(row for row in section(guide, RESULTS).rows if row[0] == "`schema`")[-1]


@both
def test_every_known_api_is_explained_with_what_it_takes(guide: Path) -> None:
    assert section(guide, APIS).keys == list(instrument.APIS)
    for api, row in zip(instrument.APIS.values(), section(guide, APIS).rows, strict=True):
        assert f"{api.method} {api.submit}" in row[2]
        assert f"`{api.file_field}`" in row[2]
        assert (f"`{api.poll}`" in row[3]) is (api.poll is not None)
        assert (f"`{api.health}`" == row[4]) is (api.health is not None)
    assert f" {instrument.PROBE_S:g} " in section(guide, APIS).text


@both
def test_every_field_of_a_description_is_explained_with_its_default(guide: Path) -> None:
    rows = {field: row for row in section(guide, DESCRIPTION).rows for field in guides.SPAN.findall(row[0])}
    assert list(rows) == [name for name in field_names(instrument.ApiDescription) if name != "name"]
    for field in dataclasses.fields(instrument.ApiDescription):
        if isinstance(field.default, str) and field.default:
            assert rows[field.name][2] == f"`{field.default}`"


@both
def test_the_descriptions_shown_are_those_of_the_files(guide: Path) -> None:
    text = section(guide, DESCRIPTION).text
    files = [ROOT / name for name in re.findall(r"`(tests/api_examples/[\w-]+\.json)`", text)]
    assert sorted(files) == sorted((ROOT / "tests/api_examples").iterdir())
    shown = [json.loads(body) for kind, body in guides.FENCED.findall(text) if kind == "json"]
    assert shown == [json.loads(path.read_text(encoding="utf-8")) for path in files]


@both
def test_every_way_to_upload_is_explained(guide: Path) -> None:
    ways = [instrument.DISTINCT, instrument.IDENTICAL, instrument.REPEAT]
    assert re.findall(r"^- `(\w+)`", section(guide, UPLOADS).text, re.M) == ways


@both
def test_every_role_is_explained_and_the_reasons_shown_are_those_of_the_program(guide: Path) -> None:
    roles = [key for key in section(guide, WATCHED).keys if key in instrument.ROLES]
    assert sorted(roles) == sorted(instrument.ROLES)
    (_, listed), = section(guide, WATCHED).blocks
    reasons = [re.escape(text).replace(r"\{about\}", ".+?") for text in instrument.REASONS.values()]
    for line in (line for line in listed.splitlines() if line.startswith("  ")):
        assert any(re.search(f": {reason}$", line) for reason in reasons), line


@both
def test_every_column_of_the_csvs_is_explained_in_order(guide: Path) -> None:
    assert tuple(section(guide, COLUMNS).keys) == instrument.CSV_COLUMNS
    last = section(guide, COLUMNS).text.strip().split("\n\n")[-1]
    assert tuple(guides.SPAN.findall(last)) == instrument.GPU_CSV_COLUMNS


@both
def test_what_a_process_holds_and_a_role_on_gpus_is_named_field_by_field(guide: Path) -> None:
    named = {row[0].strip("`"): guides.SPAN.findall(row[-1]) for row in section(guide, RESULTS).rows}
    assert set(named["holdings"]) == set(field_names(instrument.Holdings))
    assert set(named["gpu"]) == set(field_names(instrument.GpuMemory))
    assert set(guides.SPAN.findall(paragraph(guide, "kinds"))) - {"kinds"} == set(field_names(instrument.Kinds))


@both
def test_every_kind_of_failure_is_explained(guide: Path) -> None:
    kinds = {kind for tree in (sources()[0], LOAD_MACHINES) for kind in error_kinds(tree)}
    assert instrument.TOOL_FAULT in kinds
    assert set(section(guide, KINDS).keys) == kinds
    assert all(Words("en").kind(kind) != kind for kind in kinds), "a report says what each means"


@both
def test_every_fact_of_a_failure_is_named_with_its_kind(guide: Path) -> None:
    named = {kind: set(guides.SPAN.findall(row[-1])) for kind, row in zip(section(guide, KINDS).keys,
                                                                         section(guide, KINDS).rows, strict=True)}
    written: dict[str, set[str]] = {kind: set() for kind in named}
    for node in (*ast.walk(sources()[0]), *ast.walk(LOAD_MACHINES)):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("TaskError", "outcome.failed"):
            for kind in strings(node.args[0]):
                written[kind] |= set(facts_given(node))
    assert named == written


def facts_given(node: ast.Call) -> Iterator[str]:
    """Names of the facts of TaskError("stalled", idle_s=…) or outcome.failed("stalled", facts={"idle_s": …})."""
    for keyword in node.keywords:
        if isinstance(keyword.value, ast.Dict):
            yield from (str(ast.literal_eval(key)) for key in keyword.value.keys if key)
        elif keyword.arg == "field":
            continue  # of the first task, which is in no result
        elif keyword.arg:
            yield keyword.arg
        elif isinstance(keyword.value, ast.Call):  # **answer.facts()
            yield from dict_keys(ast.unparse(keyword.value.func).rpartition(".")[2])


def dict_keys(function: str) -> Iterator[str]:
    """Names in the records that this function of the instrument returns."""
    for node in ast.walk(sources()[0]):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            yield from (str(ast.literal_eval(key)) for part in ast.walk(node) if isinstance(part, ast.Dict)
                        for key in part.keys if key)


def error_kinds(tree: ast.Module) -> Iterator[str]:
    """What the instrument can write as error_kind: what failures are made with, or a kind is set to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = {"TaskError": node.args[:1], "outcome.failed": node.args[:1]}.get(ast.unparse(node.func), [])
        elif isinstance(node, ast.Assign):
            given = [value for name, value in assignments(node) if re.fullmatch(r"(.*\.)?(error_)?kind", name)]
        else:
            continue
        for value in given:
            yield from strings(value)


def assignments(node: ast.Assign) -> Iterator[tuple[str, ast.expr]]:
    """(name, value), also of `a, b = x, y`."""
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from ((ast.unparse(t), v) for t, v in zip(target.elts, value.elts, strict=True))
    else:
        yield ast.unparse(target), value


def strings(node: ast.AST) -> Iterator[str]:
    """The strings an expression can be; what an f-string puts in is written <code>."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and node.id.isupper():  # a constant of the instrument
        yield str(getattr(instrument, node.id))
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body)
        yield from strings(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "<code>" for part in node.values)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "kind_by_words":
        yield from (*strings(node.args[0]), "gpu_oom", "out_of_memory")


@both
def test_names_of_the_files_are_those_written(guide: Path, tmp_path: Path) -> None:
    jsonl, csv = instrument.new_files(tmp_path)
    log = instrument.ResultLog(jsonl)
    log.close()
    written = (jsonl, log.pending, csv, instrument.host_file(csv), instrument.gpu_file(csv), jsonl.with_suffix(".md"))
    patterns = [re.sub(r"\d{8}_\d{6}", "TIME", path.name) for path in written]
    charts = [f"memory_leak_stress_test_TIME.{name}.svg" for name in ("memory", "machine", "concurrency")]
    named = [re.sub(r"\d{8}_\d{6}", "TIME", key) for key in section(guide, FILES).keys]
    assert named == patterns + charts


# ---------------------------------------------------------------------------------- verdicts, criteria, numbers


@both
def test_every_verdict_is_explained(guide: Path) -> None:
    keys = section(guide, READING).keys
    column = LANGUAGES.index("en" if guide == ENGLISH else "zh-CN")
    for name in ("pass", "fail", "inconclusive"):
        assert WORDS[f"verdict_{name}"][0] in keys
        assert WORDS[f"verdict_{name}"][column] in section(guide, READING).text
    for name in ("LEAK", "NO LEAK", "INCONCLUSIVE", "NOT MEASURED"):
        assert name in keys
        assert WORDS[f"leak_{name}"][column] in section(guide, READING).text


@both
def test_every_criterion_is_explained_in_the_checklist(guide: Path) -> None:
    explained = re.findall(r"^- \[ \] `(\w+)`[:：]", section(guide, CRITERIA).text, re.M)
    assert tuple(explained) == findings.CRITERIA


@both
def test_every_stop_reason_is_explained(guide: Path) -> None:
    assert section(guide, RAMP).keys == list(STOPS)


@both
def test_every_exit_status_is_explained(guide: Path) -> None:
    statuses = {value for name, value in vars(instrument).items() if name.startswith("EXIT_")}
    assert {int(key) for key in section(guide, STATUSES).keys} == statuses


@both
def test_every_field_of_the_summary_is_explained(
    guide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(tmp_path)
    reader.main([str(run), "--json", "--baseline", str(run)])
    content = json.loads(capsys.readouterr().out)
    rows = {row[0].strip("`"): set(guides.SPAN.findall(row[1])) for row in section(guide, SUMMARY).rows}
    assert set(rows) == {*content, "first_breach", "levels"}
    assert set(content["criteria"][0]) <= rows["criteria"]
    assert set(content["leak"]["worker"]) == rows["leak"]
    assert f" {content['version']}" in next(row for row in section(guide, SUMMARY).rows if row[0] == "`version`")[1]
    assert set(content["concurrency"]) | {"found", "too_few_levels", "runs_differ", "slow_polls"} == rows["concurrency"]
    assert set(content["concurrency"]["first_breach"]) == rows["first_breach"]
    assert set(content["concurrency"]["levels"][0]) == rows["levels"]
    assert set(content["comparison"]) | {"--baseline"} == rows["comparison"]
    assert rows["machine"] == {"parts", "limit_reached", "containers"}


def recorded(folder: Path) -> Path:
    """A run of a few lines, enough for every part of a summary."""
    def line(number: int, **fields: Any) -> str:
        memory = {"worker": RoleMemory(100.0, 100.0, 90.0, 90.0, 120.0, [])}
        given: dict[str, Any] = {"status": "success", "rtf": 0.1, "processing_time": 3.0, "memory": memory,
                                 "settled": True, "batch": number, **fields}
        return TaskResult(f"a_c1_{number:04d}", timestamp="2025-12-09T23:30:15", audio_file="a.wav", audio_size_mb=1.0,
                          audio_seconds=30.0, concurrency=1, **given).to_json()

    failed = {"status": "failed", "error_kind": "task_failed", "error": "no", "rtf": None, "processing_time": None}
    lines = [line(n, phase="leak", cycle=n) for n in range(8)]
    lines += [line(8, phase="concurrency", level_run=1, level=LevelFacts()),
              line(9, phase="concurrency", level_run=2, **failed)]
    path = folder / "memory_leak_stress_test_20251209_233015.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


CONSTANTS = [  # what the guides' sentences quote, and where
    (LEAK, f"{instrument.MOST_WARM_UP}", ("at most {}", "最多 {}")),
    (LEAK, f"{instrument.SETTLE_MB:g}", ("within {} MB", "不超过 {} MB")),
    (LEAK, f"{instrument.SETTLE_S:g}", ("for {} s", "在 {} 秒内")),
    (LEAK, f"{instrument.GIVE_UP_CYCLES}", ("after {} cycles in a row", "连续 {} 轮")),
    (RULE, f"{instrument.LEAK_CYCLES}", ("**from {} cycles on**", "**{} 轮起**")),
    (RULE, f"{instrument.MIN_CYCLES}", ("**from {} cycles on** (or `--min-cycles`", "**{} 轮起**（`--min-cycles`")),
    (RULE, f"{instrument.SURE_TOLERANCES}", ("surely by {} times the tolerance", "容差的 {} 倍")),
    (RULE, f"{100 * instrument.CALM_SHARE:g}", ("over the last {} % of the readings", "最近 {}% 的读数")),
    (RESULTS, f"{instrument.SETTLE_S:g}", ("over the last {} s before", "最后 {} 秒内")),
    (RAMP, f"{instrument.BASE_RUNS}", ("1 task {} times", "跑 {} 次单任务")),
    (RAMP, f"{instrument.CONFIRM_RUNS}", ("until it has {} runs", "补足 {} 次")),
    (HOSTS, f"{hosts.MOST_OFFSET_S:g}", ("by up to {} s", "最多修正 {} 秒")),
    (HOSTS, f"{hourly.BLOCKS}", ("cut into {} blocks", "分成 {} 段")),
    (HOSTS, f"{hourly.TOLERANCE_MB_PER_DAY / 24:.1f}", ("more than {} (", "超过 {}（")),
    (HOSTS, f"{hourly.TOLERANCE_MB_PER_DAY:g}", ("({} MB a day)", "（每天 {} MB）")),
    (HOSTS, f"{60 * hourly.LEAST_HOURS:g}", ("takes {} minutes", "增长需要 {} 分钟")),
    (HOSTS, f"{hourly.CALM_HOURS:g}", ("flat memory {} hour", "平稳需要 {} 小时")),
    (FILES, f"{instrument.STRETCH_S:g}", ("every {} s", "每 {} 秒")),
    (CRITERIA, f"{NEEDED_LEVEL}", ("at least {} concurrent tasks", "至少 {} 个任务")),
    (CRITERIA, f"{GOOD_LEVEL}", ("({} is good)", "（{} 个为良好）")),
    (CRITERIA, f"{instrument.Settings.delta_limit_mb:g}", ("is within {} MB", "相差不到 {} MB")),
    (CRITERIA, f"{DELTA_BAD_MB:g}", ("above {} MB bad", "超过 {} MB 严重")),
    (CRITERIA, f"{instrument.Settings.delta_limit_mb:g}", ("under {} MB is good", "低于 {} MB 良好")),
    (READING, f"{100 * KNEE_SHARE:g}", ("with {} % of", "吞吐量 {}%")),
    (READING, f"{KNEE_LEVELS}", ("none among fewer than {}", "不足 {} 级")),
    (KINDS, f"{instrument.SUBMIT_TIMEOUT_S:g}", ("({} s)", "（{} 秒）")),
    (KINDS, f"{instrument.LOST_AFTER}", ("{} times in a row", "连续 {} 次")),
    (OPTIONS, f"{instrument.Settings.max_cycles}", ("without it {}, or", "不写时为 {}，若")),
    (OTHER, f"{100 * instrument.CLIENT_SPREAD:g}", ("than {} % of their median", "中位数的 {}%")),
    (OTHER, f"{1000 * instrument.SPREAD_FLOOR_S:g}", ("than {} ms", "超过 {} 毫秒")),
    (OTHER, f"{instrument.CLIENT_CPU:g}", ("more than {} % of a core", "单核的 {}%")),
    (MEANWHILE, f"{instrument.GIVE_UP_CYCLES}", ("succeeded in {} cycles", "连续 {} 轮")),
]


@pytest.mark.parametrize(("place", "number", "phrases"), CONSTANTS, ids=lambda value: str(value)[:40])
def test_numbers_quoted_are_those_of_the_program(place: int, number: str, phrases: tuple[str, str]) -> None:
    for guide, phrase in zip(GUIDES, phrases, strict=True):
        assert phrase.format(number) in section(guide, place).text


RATES = {  # the guide's rows of simulated series, and the scenario whose limits the simulation is held to
    "flat, noise 30 MB": "flat, sd 30",
    "a warm-up of 300 MB that slows down over 8 tasks": "warm-up 300, tau 8 tasks",
    "leak of 12 MB per cycle": "leak 12, sd 10",
    "leak of 20 MB per cycle, noise 30 MB": "leak 20, sd 30",
    "leak of 58 MB in one cycle of 3.5, by chance": "58 by chance, one in 3.5",
    "leak of 200 MB in one cycle of 5, by chance": "200 by chance, one in 5",
    "a heap growing by 60 MB per cycle, collected every 12":
        "heap of 60 x 12: one in four is not collected in time",
}


@pytest.mark.parametrize("row", section(ENGLISH, RULE).rows, ids=lambda row: row[0])
def test_the_error_rates_shown_are_those_the_rule_is_held_to(row: list[str]) -> None:
    scenario = next(each for each in SCENARIOS if each.name == RATES[row[0]])
    leak, no_leak, inconclusive, cycles = map(float, row[1:])
    assert scenario.leak[0] <= leak <= scenario.leak[1]
    assert scenario.no_leak[0] <= no_leak <= scenario.no_leak[1]
    assert leak + no_leak + inconclusive == 100
    assert instrument.MIN_CYCLES <= cycles <= instrument.Settings.max_cycles


def test_every_error_rate_is_shown_in_both_guides() -> None:
    assert [row[0] for row in section(ENGLISH, RULE).rows] == list(RATES)
    english, chinese = ([row[1:] for row in section(guide, RULE).rows] for guide in GUIDES)
    assert english == chinese


# --------------------------------------------------------------------------------------------- after a crash

FIRST, SECOND = (
    TaskResult(f"a_c2_{number:04d}", "concurrency", "2025-12-09T23:30:15", "a.wav", 1.0, 30.0, 2, "success", batch=1,
               level_run=1, processing_time=3.0, rtf=0.1,
               settings=instrument.Settings(no_watch=True).for_record()).to_json() + "\n" for number in (1, 2))
AT_REST = dataclasses.replace(result_from_json(SECOND), level=LevelFacts()).to_json() + "\n"


@pytest.mark.parametrize(("row", "english", "chinese", "lines", "pending", "results", "skipped"), [
    (0, "there is no line", "没有这一行", FIRST, None, 1, 0),
    (1, "skipped and counted", "跳过并计数", FIRST + SECOND[:90], None, 1, 1),
    (2, "the pending result counts", "采用 pending 中的结果", FIRST, SECOND, 2, 0),
    (3, "the torn line is dropped", "丢弃残缺的行", FIRST + SECOND[:90], SECOND, 2, 0),
    (4, "the line of the JSONL counts", "以 JSONL 的行为准", FIRST + AT_REST, SECOND.replace("3.0", "4.0"), 2, 0),
])
def test_what_the_guides_say_of_a_crash_is_what_the_reader_makes_of_it(
    row: int, english: str, chinese: str, lines: str, pending: str | None, results: int, skipped: int, tmp_path: Path
) -> None:
    path = tmp_path / "memory_leak_stress_test_20251209_233015.jsonl"
    path.write_text(lines, encoding="utf-8")
    if pending:
        path.with_suffix(".pending.json").write_text(pending, encoding="utf-8")
    run = read_run(path, None)
    assert [result.processing_time for result in run.results] == [3.0] * results
    assert run.skipped.total() == skipped
    assert judge_ramp(run).levels[0].complete is (row == 4)  # else it ended before what is known at rest was written
    assert judge(run).verdict == "inconclusive"  # its end is not there
    for guide, words in zip(GUIDES, (english, chinese), strict=True):
        assert words in section(guide, CRASH).rows[row][1]


@both
def test_the_table_of_crashes_also_names_a_full_disk(guide: Path) -> None:
    rows = [row for row in section(guide, CRASH).rows if len(row) == 2]
    assert len(rows) == 6
    assert f" {instrument.EXIT_INCONCLUSIVE} " in rows[-1][1]  # that the log is cut back is tested with the log


def test_both_guides_say_the_same_of_what_was_tried() -> None:
    tables = [[row for row in section(guide, CRASH).rows if len(row) == 3] for guide in GUIDES]
    assert len(tables[0]) > 5
    assert [row[1] for row in tables[0]] == [row[1] for row in tables[1]]
    lost = [[row[2] not in ("nothing", "无") for row in table] for table in tables]
    assert lost[0] == lost[1]


# ------------------------------------------------------------------------------------------------- messages


def template(node: ast.AST) -> str:
    """A message's text, … for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    return "…"


def called(call: ast.Call) -> str:
    """Only a name, or one with a dot; ast.unparse() takes seconds for all of them."""
    inner = call.func.value if isinstance(call.func, ast.Attribute) else None
    outer = f"{inner.id}." if isinstance(inner, ast.Name) else "… "
    if isinstance(call.func, ast.Attribute):
        return outer + call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def messages() -> Iterator[tuple[int, str]]:
    """(place in the guides, text) of everything that a user may have to look up."""
    places = {"CannotStart": NO_START, "Unreadable": USAGE, "CannotRecord": MEANWHILE, "EndsEarly": MEANWHILE,
              "CannotSend": MEANWHILE, "argparse.ArgumentTypeError": USAGE, "p.error": USAGE}
    for tree in sources():
        pieces = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (place := places.get(called(node))) is not None and node.args:
                text = template(node.args[0])  # of the reader, a key of its words
                yield place, re.sub(r"\{.*?\}", "…", WORDS[text][0]) if text in WORDS else text
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.failure":
                yield MEANWHILE, template(node.value)
            elif isinstance(node, (ast.JoinedStr, ast.Constant)) and node not in pieces and is_warning(template(node)):
                yield MEANWHILE, template(node)


def is_warning(text: str) -> bool:
    """Whether a person at the terminal is told of trouble; a whole sentence, not a piece of one."""
    begins = ("WARNING ", "GPU memory is not", "ramp ends", "after the ramp", "the answer is not confirmed",
              "Recorded but not judged", "The report cannot be made", "The report was not finished",
              "This is a fault of this tool", "self-check FAILED")
    holds = ("(--memory-reserve)", "kept connections", "is flaky", " ended while ", " phase ends: ")
    return text.startswith(begins) or any(part in text for part in holds)


MESSAGES = sorted({(place, text.removeprefix("WARNING ")) for place, text in messages()} - {(MEANWHILE, "…")})


def test_the_messages_are_found() -> None:
    """Else the test below would be content with none."""
    by_place = Counter(place for place, _ in MESSAGES)
    assert by_place[NO_START] >= 10
    assert by_place[USAGE] >= 9
    assert by_place[MEANWHILE] >= 10


@both
@pytest.mark.parametrize(("place", "message"), MESSAGES, ids=lambda value: str(value)[:50])
def test_every_message_can_be_found_in_the_troubleshooting(guide: Path, place: int, message: str) -> None:
    assert any(names(key, message) for key in section(guide, place).names), f"no row of {guide.name} names: {message}"


@both
@pytest.mark.parametrize("place", [NO_START, USAGE, MEANWHILE])
def test_the_troubleshooting_names_no_message_that_does_not_exist(guide: Path, place: int) -> None:
    known = [text for where, text in MESSAGES if where == place]
    assert [key for key in section(guide, place).names if not any(names(key, text) for text in known)] == []


def names(key: str, message: str) -> bool:
    """Whether a row's key is the beginning of this message; … stands for anything."""
    return bool(re.match(".+".join(re.escape(part) for part in key.split("…")), message))


@both
def test_every_reason_for_no_verdict_is_explained(guide: Path) -> None:
    rows = section(guide, INCONCLUSIVE).rows
    english = section(guide, INCONCLUSIVE).names
    chinese = [words for row in rows for words in re.findall("「(.+?)」", row[0])]
    reasons = {key: tuple(re.sub(r"\{\w+:\|.*?\|(.*?)\}", r"\1", text) for text in texts)  # of many
               for key, texts in WORDS.items() if key.startswith("reason_")}
    decided = {"reason_" + key for key in ("steady_growth", "fast_growth", "horses_leak", "no_growth", "small_growth",
                                           "fork_per_job", "recycled_leak", "recycled_calm", "ramp_leak")}
    for key, (in_english, in_chinese) in reasons.items():
        if key in decided:
            continue
        assert any(phrase in in_english for phrase in english), key
        assert guide == ENGLISH or any(phrase in in_chinese for phrase in chinese), key
    for place, phrases in enumerate((english, chinese)):
        for phrase in phrases:
            assert any(phrase in texts[place] for key, texts in reasons.items() if key not in decided), phrase


@both
@pytest.mark.parametrize("role", instrument.ROLES)
def test_the_hint_of_the_program_is_the_command_of_the_guide(guide: Path, role: str) -> None:
    hint = instrument.START_HINT[role].partition("start it with: ")[2].partition(" (or")[0]
    assert hint in section(guide, BEFORE).text


# --------------------------------------------------------------------------------------------- the examples


def test_the_readmes_excerpt_is_the_first_screen_of_the_example() -> None:
    readme = README.read_text(encoding="utf-8")
    report = (make_examples.EXAMPLES / make_examples.EXCERPT_OF).read_text(encoding="utf-8")
    assert "FAILED" in make_examples.first_screen(report)
    assert readme == make_examples.with_excerpt(readme, report)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "verdict", "leak"), [("healthy", "pass", "NO LEAK"), ("leaking", "fail", "LEAK")])
def test_the_examples_show_what_they_are_named_for(language: str, name: str, verdict: str, leak: str) -> None:
    report = make_examples.EXAMPLES / f"{name}{make_examples.LANGUAGES[language]}"
    text = report.read_text(encoding="utf-8")
    say = Words(language)
    assert say(f"verdict_{verdict}") in text.splitlines()[2]
    assert f"| worker | {say('leak_' + leak)} |" in text
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert len(pictures) == 3  # memory, the whole machine, concurrency
    for picture in pictures:
        assert "<svg" in (report.parent / picture).read_text(encoding="utf-8")
    assert "| example |" in text  # the host's name


def test_the_examples_hold_no_path_of_the_machine_that_made_them() -> None:
    for path in make_examples.EXAMPLES.iterdir():
        assert not re.search(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|srv)/", path.read_text(encoding="utf-8")), path
