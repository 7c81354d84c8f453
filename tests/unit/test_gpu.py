"""Memory on GPUs: what the driver says, by a library in its place; whose it is; how it is recorded and judged."""

from __future__ import annotations

import csv
import ctypes
import dataclasses
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    GpuLook,
    GpuMemory,
    GpuMeter,
    Nvml,
    ProcessTable,
    ProcessView,
    Reading,
    Settings,
    TaskResult,
    attribute,
    gpu_driver,
    judge_leak,
    look_at_gpus,
    used_gpu,
)
from stress_report import markdown
from stress_report.judging import Judged
from stress_report.recording import read_run
from stress_report.saying import Words, extra_sentence, three_sentences
from stress_report.summary import summary
from unit.reader_checks import check_markdown
from unit.reader_runs import FLAT, healthy, judged, leak_phase, numbered

STUB = Path(__file__).parent / "nvml" / "stub.c"
SONAME = "libnvidia-ml.so.1"
NOT_SUPPORTED, NO_PERMISSION, NOT_LOADED, LOST = 3, 4, 9, 15

Says = Callable[..., None]


def driver() -> Nvml:
    found, why = gpu_driver()
    assert found, why
    return found


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVML as far as it is asked, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("nvml") / SONAME
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", f"-Wl,-soname,{SONAME}", "-o", str(path),
                    str(STUB)], check=True)
    return path


@pytest.fixture
def says(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Let the driver say this from now on. Loaded before, it is the library of that name for everybody."""
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    state = tmp_path / "nvml.txt"
    monkeypatch.setenv("NVML_STUB", str(state))

    def say(*lines: str) -> None:
        new = state.with_suffix(".new")
        new.write_text("".join(line + "\n" for line in lines))
        new.replace(state)

    say()
    return say


# ------------------------------------------------------------------------------------------------ what the driver says


def test_memory_of_devices_and_processes(says: Says) -> None:
    says("gpu H100 81559 1500 30", "gpu A10 24000 3 0", "process 0 1 1100", "process 0 2 300", "drawing 0 3 5")
    assert driver().looks() == [
        GpuLook("0", "H100", 81559.0, 1500.0, 30.0, {1: 1100.0, 2: 300.0, 3: 5.0}),
        GpuLook("1", "A10", 24000.0, 3.0, 0.0, {})]


def test_instances_of_a_gpu_stand_in_its_place(says: Says) -> None:
    says("gpu A100 40000 900 0", "instance 0 MIG-1g 4800 500", "instance 0 MIG-2g 9600 20", "process 1 7 400")
    assert driver().looks() == [GpuLook("0:0", "MIG-1g", 4800.0, 500.0, None, {7: 400.0}),
                              GpuLook("0:1", "MIG-2g", 9600.0, 20.0, None, {})]


def test_what_the_driver_does_not_tell_is_not_known_and_never_0(says: Says) -> None:
    says("gpu T4 16000 900 5", "process 0 7 -1", f"fail DeviceGetUtilizationRates {NOT_SUPPORTED}",
         f"fail DeviceGetGraphicsRunningProcesses {NOT_SUPPORTED}")
    assert driver().looks() == [GpuLook("0", "T4", 16000.0, 900.0, None, {7: None})]
    says("gpu T4 16000 -1 5", f"fail DeviceGetComputeRunningProcesses {NO_PERMISSION}")
    assert driver().looks() == [GpuLook("0", "T4", None, None, 5.0, None)]


def test_a_lost_gpu_leaves_the_others_and_a_driver_that_goes_away_leaves_none(says: Says) -> None:
    watched = driver()
    says("gpu T4 16000 900 5", "gpu T4 16000 70 0", f"fail DeviceGetMemoryInfo {LOST} 0",
         f"fail DeviceGetComputeRunningProcesses {LOST} 0", f"fail DeviceGetUtilizationRates {LOST} 0")
    lost, other = watched.looks()
    assert (lost.used, lost.processes, other.used, other.processes) == (None, None, 70.0, {})
    says(f"fail DeviceGetCount {NOT_LOADED}")
    assert watched.looks() == []


@pytest.mark.parametrize("here", [True, False])
def test_why_gpus_cannot_be_watched_is_said_only_where_there_are_some(here: bool, says: Says,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: here)
    says(f"fail Init {NOT_LOADED}")
    assert gpu_driver() == (None, "GPU memory is not watched: its driver says Driver Not Loaded" if here else "")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu_driver() == (None, "GPU memory is not watched: pip install nvidia-ml-py" if here else "")


# -------------------------------------------------------------------------------------------------------- whose it is

ROLES = {10: "worker", 11: "worker", 20: "api"}
OTHERS = {500, 501}  # processes of this machine that are not watched


def gpu(used: float | None, processes: dict[int, float | None] | None, busy: float | None = 50.0) -> GpuLook:
    return GpuLook("0", "T4", 16000.0, used, busy, processes)


@pytest.mark.parametrize(("looks", "held", "whole", "busy"), [
    pytest.param([gpu(900, {10: 300.0, 11: 200.0})], {"worker": 500.0}, set(), {"worker": 50.0}, id="ours"),
    pytest.param([gpu(900, {10: 300.0, 20: 50.0})], {"worker": 300.0, "api": 50.0}, set(),
                 {"worker": 50.0, "api": 50.0}, id="two roles"),
    pytest.param([gpu(900, {10: 300.0, 500: 200.0})], {"worker": 300.0}, set(), {}, id="another process, too"),
    pytest.param([gpu(900, {10: 300.0}), gpu(500, {11: 100.0}, 70.0)], {"worker": 400.0}, set(), {"worker": 70.0},
                 id="two GPUs"),
    pytest.param([gpu(900, {10: 300.0}), gpu(500, {999: 100.0})], {"worker": 300.0}, set(), {"worker": 50.0},
                 id="the other GPU is somebody else's"),
    pytest.param([gpu(900, {500: 300.0})], {"worker": 0.0}, set(), {}, id="somebody else's"),
    pytest.param([gpu(3, {})], {"worker": 0.0}, set(), {}, id="nobody's yet"),
    pytest.param([gpu(900, {10: None})], {"worker": 900.0}, {"worker"}, {"worker": 50.0}, id="WSL: [N/A], alone"),
    pytest.param([gpu(900, {10: None, 500: None})], {"worker": None}, set(), {}, id="WSL: [N/A], with others"),
    pytest.param([gpu(900, {10: None, 20: None})], {"worker": None, "api": None}, set(),
                 {"worker": 50.0, "api": 50.0}, id="WSL: [N/A], two roles"),
    pytest.param([gpu(900, {40001: 800.0})], {"worker": 900.0}, {"worker"}, {"worker": 50.0},
                 id="a container: the host's numbers"),
    pytest.param([gpu(900, {40001 + n: 80.0 for n in range(4)})], {"worker": None}, set(), {},
                 id="a container: more processes than are watched"),
    pytest.param([gpu(900, None)], {"worker": None}, set(), {}, id="insufficient permissions"),
    pytest.param([gpu(None, {40001: 8.0})], {"worker": None}, {"worker"}, {"worker": 50.0}, id="nothing told"),
    pytest.param([gpu(900, {10: 300.0}), gpu(None, None, None)], {"worker": None}, set(), {"worker": 50.0},
                 id="one of two GPUs is lost"),
    pytest.param([], {"worker": None}, set(), {}, id="the driver is gone")])
def test_whose_memory_it_is(looks: Sequence[GpuLook], held: dict[str, float | None], whole: set[str],
                            busy: dict[str, float]) -> None:
    found = attribute(1.0, looks, ROLES, "worker", lambda pid: pid in {*ROLES, *OTHERS})
    assert (dict(found.held), set(found.whole), dict(found.busy)) == (held, whole, busy)


# ------------------------------------------------------------------------------------------------------ the meter


NOT_ENDED = threading.Event()


class Watching:
    """A sampler, as far as the meter asks it."""

    works = "worker"

    def watched(self) -> list[ProcessView]:
        return [ProcessView("worker", os.getpid(), "=rq", "rq worker", True, True, 100.0, 90.0)]


@pytest.fixture
def meter(says: Says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GpuMeter]:
    monkeypatch.setattr(instrument, "GPU_LOOK_S", 0.2)
    monkeypatch.setattr(instrument, "GPU_WAIT_S", 2.0)
    says("gpu T4 16000 90 0", f"process 0 {os.getpid()} 60")
    watching: Any = Watching()
    with GpuMeter(driver(), watching, tmp_path / "gpu.csv") as made:
        yield made


def held(meter: GpuMeter) -> Any:
    reading = meter.at_rest(NOT_ENDED)
    return reading and dict(reading.held)


def test_a_batch_is_recorded_with_its_peak_and_how_busy_the_gpu_was(meter: GpuMeter, says: Says,
                                                                    tmp_path: Path) -> None:
    before = Reading(0.0, {}, {}, frozenset(), gpu=held(meter))
    meter.open_window()
    released = time.monotonic()
    says("gpu T4 16000 700 80", f"process 0 {os.getpid()} 660")
    assert held(meter) == {"worker": 660.0}
    ended = time.monotonic()
    says("gpu T4 16000 130 2", f"process 0 {os.getpid()} 100")
    after = Reading(0.0, {}, {}, frozenset(), gpu=held(meter))
    worker = meter.observed(before, after, released, ended)["worker"]
    assert (worker.before_mb, worker.after_mb, worker.peak_mb, worker.whole_gpu) == (60.0, 100.0, 660.0, False)
    assert (worker.busy_percent or 0) > 50
    assert worker.rest_busy_percent == 2.0
    with (tmp_path / "gpu.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == instrument.GPU_CSV_COLUMNS
    assert [row[2:] for row in rows[:2]] == [["0", "T4", "", "", "90.0", "16000.0", "0.0"],
                                             ["0", "T4", str(os.getpid()), "'=rq", "60.0", "", ""]]


def test_a_role_that_never_was_on_a_gpu_has_no_record_of_it(meter: GpuMeter, says: Says) -> None:
    says("gpu T4 16000 3 0")
    assert held(meter) == {"worker": 0.0}
    meter.open_window()
    assert held(meter) == {"worker": 0.0}
    reading = Reading(0.0, {}, {}, frozenset(), gpu={"worker": 0.0})
    assert meter.observed(reading, reading, 0.0, time.monotonic()) == {}
    unknown = meter.observed(reading, Reading(0.0, {}, {}, frozenset()), 0.0, time.monotonic())
    assert (unknown["worker"].before_mb, unknown["worker"].after_mb) == (0.0, None), "the driver hangs by now"


def test_a_driver_that_goes_away_is_no_measurement_of_0(meter: GpuMeter, says: Says) -> None:
    says(f"fail DeviceGetCount {NOT_LOADED}")
    assert held(meter) == {"worker": None}
    assert meter.failure is None


def test_a_driver_that_hangs_is_not_waited_for(meter: GpuMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(meter, "_driver", SimpleNamespace(looks=lambda: release.wait() and []))
    monkeypatch.setattr(instrument, "GPU_WAIT_S", 0.3)
    meter.at_rest(NOT_ENDED)  # the look that had begun before may still have come
    began = time.monotonic()
    assert meter.at_rest(NOT_ENDED) is None
    assert time.monotonic() - began < 10.0
    monkeypatch.setattr(instrument, "GPU_WAIT_S", 60.0)
    ended = threading.Event()
    ended.set()
    began = time.monotonic()
    assert meter.at_rest(ended) is None
    assert time.monotonic() - began < 30.0, "Ctrl-C does not wait for the driver"
    release.set()


@pytest.mark.parametrize("hangs_in", ["gpu_driver", "looks"])
def test_a_driver_that_hangs_before_the_test_is_not_waited_for(hangs_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    hang = SimpleNamespace(looks=lambda: release.wait() and [])
    monkeypatch.setattr(instrument, "gpu_driver",
                        lambda: (hang, "") if hangs_in == "looks" else (release.wait() and None, ""))
    monkeypatch.setattr(instrument, "GPU_WAIT_S", 0.2)
    found = look_at_gpus(ProcessTable({}, {}, set()), Settings())
    assert found == (None, {}, ["WARNING GPU memory is not watched: its driver does not answer"])
    release.set()


def test_a_fault_at_the_first_look_does_not_pass_for_a_driver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "gpu_driver", lambda: (SimpleNamespace(looks=lambda: 1 // 0), ""))
    _, _, [warning] = look_at_gpus(ProcessTable({}, {}, set()), Settings())
    assert warning.startswith("WARNING GPU memory is not watched (ZeroDivisionError: ")


def test_a_fault_in_the_meter_ends_it_and_is_said_once(meter: GpuMeter, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(meter, "_driver", SimpleNamespace(looks=lambda: 1 // 0))
    while meter.at_rest(NOT_ENDED):
        pass
    screen = instrument.Screen(False, None, meter)
    screen.trouble()
    screen.trouble()
    assert capsys.readouterr().out.count("WARNING GPU memory is not measured from here on (ZeroDivisionError") == 1
    assert meter.at_rest(NOT_ENDED) is None


def test_list_shows_what_it_sees(library: Path, tmp_path: Path) -> None:
    state = tmp_path / "nvml.txt"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        state.write_text(f"gpu T4 16000 900 0\nprocess 0 {process.pid} 800\ngpu T4 16000 5 0\n"
                         f"fail DeviceGetComputeRunningProcesses {NO_PERMISSION} 1\n")
        listed = subprocess.run(
            [sys.executable, instrument.__file__, "--list", "--pid", f"worker={process.pid}"], capture_output=True,
            text=True, env=os.environ | {"LD_LIBRARY_PATH": str(library.parent), "NVML_STUB": str(state)}, check=True)
        process.kill()
    assert f"GPU 0 (T4): 900 of 16,000 MB used; process {process.pid} 800 MB" in listed.stdout
    assert "GPU 1 (T4): 5 of 16,000 MB used; processes not reported" in listed.stdout
    assert "the worker on GPUs: not known" in listed.stdout


class Transcribes(http.server.BaseHTTPRequestHandler):
    """A synchronous service; each task leaves 60 MB more on the GPU."""

    grows: Callable[[], None]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.grows()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"text": "hello"}')

    def log_message(self, *args: object) -> None:
        pass


def test_a_whole_run_records_the_gpu_of_the_watched_process(says: Says, library: Path, tmp_path: Path) -> None:
    sizes = iter(range(500, 5000, 60))
    clips = tmp_path / "clips"
    clips.mkdir()
    for seconds in (1, 3, 2):
        with wave.open(str(clips / f"{seconds}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(bytes(16000 * seconds))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process, \
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), Transcribes) as server:
        def grow() -> None:
            mb = next(sizes)
            says(f"gpu T4 16000 {mb + 100} 50", f"process 0 {process.pid} {mb}")

        Transcribes.grows = staticmethod(grow)
        grow()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = "import sys, memory_leak_stress_test as i; i.GPU_LOOK_S = 0.2; sys.exit(i.main(sys.argv[1:]))"
        ran = subprocess.run(
            [sys.executable, "-c", program, "--api", "openai", "--url", f"http://127.0.0.1:{server.server_port}",
             "--pid", f"api={process.pid}", "--phase", "leak", "--max-cycles", "2", "--settle-timeout", "0.1",
             "--short-audio", str(clips / "1.wav"), "--long-audio", str(clips), "--results-dir", str(tmp_path),
             "--no-report"], capture_output=True, text=True, check=False, timeout=120,
            env=os.environ | {"LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": str(STUB.parents[2])})
        server.shutdown()
        process.kill()
    assert "GPU 0 (T4): 600 of 16,000 MB used; process" in ran.stdout, ran.stdout + ran.stderr
    run = read_run(next(tmp_path.glob("*.jsonl")), None)
    on_gpus = [result.memory["api"].gpu for result in run.results]
    assert on_gpus[0]
    assert on_gpus[0].before_mb == 500.0, "before the first task of all, which loads the model"
    assert all(gpu and gpu.after_mb == (gpu.before_mb or 0) + 60 for gpu in on_gpus[1:])
    assert [result.audio_file for result in run.results if not result.cycle] == ["1.wav", "3.wav", "1.wav"]
    assert run.gpus["0"].used[-1] == (on_gpus[-1] and (on_gpus[-1].after_mb or 0) + 100)
    held = [p.holdings for result in run.results for p in result.memory["api"].processes]
    assert [bool(each) for each in held] == [False] * 3 + [False, True] * 2


# ------------------------------------------------------------------------------------------------------- the verdict


def on_gpu(results: list[TaskResult], readings: Sequence[float | None], whole: bool = False,
           busy: tuple[float | None, float | None] = (60.0, 0.0)) -> list[TaskResult]:
    """With memory on a GPU: before the first task, after the warm-up round, then one reading per cycle."""
    for result in (r for r in results if r.phase == "leak"):
        place = result.cycle or 0
        before, after = readings[place], readings[place + (result.audio_file == "long.wav")]
        known = [mb for mb in (before, after) if mb is not None]
        gpu = GpuMemory(before, after, max(known, default=None), whole, *busy)
        result.memory["worker"] = dataclasses.replace(result.memory["worker"], gpu=gpu)
    return results


def rises(per_cycle: float, cycles: int = 10) -> list[float | None]:
    return [0.0, 2000.0, *(2000.0 + per_cycle * n for n in range(1, cycles + 1))]


FIRST_JUMP: list[float | None] = [0.0, 2000.0, *[5900.0] * 18]
ONE_JUMP: list[float | None] = [0.0, 2000.0, *[2000.0] * 2, *[5900.0] * 18]
JUMPS: list[float | None] = [0.0, *(2000.0 + 3000 * (n // 3) for n in range(20))]


@pytest.mark.parametrize(("readings", "verdict"), [
    pytest.param(rises(0.0), "NO LEAK", id="flat"), pytest.param(rises(420.0), "LEAK", id="420 MB per cycle"),
    pytest.param(FIRST_JUMP, "NO LEAK", id="a jump at first"),
    pytest.param(ONE_JUMP, "INCONCLUSIVE", id="one later jump, which is not accused"),
    pytest.param(JUMPS, "LEAK", id="jumps that keep coming"),
    pytest.param([*rises(0.0)[:6], None, *rises(0.0)[7:]], "INCONCLUSIVE", id="the driver was gone once")])
def test_memory_on_the_gpu_is_a_series_of_its_own(readings: list[float | None], verdict: str, tmp_path: Path) -> None:
    cycles = len(readings) - 2
    run = judged(tmp_path, on_gpu(leak_phase([300.0] + [700.0] * (cycles + 1)), readings))
    assert list(run.roles) == ["worker", "worker GPU"]
    assert (run.roles["worker"].growth.verdict, run.roles["worker GPU"].growth.verdict) == ("NO LEAK", verdict)
    assert run.roles["worker GPU"].first_use_growth_mb == 2000.0
    assert run.roles["worker GPU"].peak_mb == max(mb for mb in readings if mb is not None)
    status = {"LEAK": "fail", "NO LEAK": "pass"}.get(verdict, "inconclusive")
    assert next(c.status for c in run.criteria if c.id == "no_cumulative_growth") == status


def test_a_work_horse_takes_its_memory_there_along_and_may_be_too_short_to_be_seen(tmp_path: Path) -> None:
    results = numbered(on_gpu(leak_phase(FLAT), [0.0] * 12))
    for result in results:
        worker = result.memory["worker"]
        assert worker.gpu
        seen = dataclasses.replace(worker.gpu, peak_mb=900.0) if result.audio_file == "long.wav" else None
        result.memory["worker"] = dataclasses.replace(worker, gpu=seen)
    found = judge_leak(results)["worker GPU"]
    assert (found.growth.verdict, [mb for _, mb in found.readings]) == ("NO LEAK", [0.0] * 10)


def test_a_replaced_process_takes_its_memory_there_along(tmp_path: Path) -> None:
    results = on_gpu(leak_phase(FLAT), rises(0.0))
    for result in (r for r in results if (r.cycle or 0) > 5):
        memory = result.memory["worker"]
        result.memory["worker"] = dataclasses.replace(memory, processes=[
            dataclasses.replace(p, started="2026-03-02T08:30:00.000") for p in memory.processes])
    assert judge_leak(results)["worker GPU"].growth.verdict == "INCONCLUSIVE"


def test_failed_tasks_prove_nothing_of_memory_there_either() -> None:
    results = on_gpu(leak_phase(FLAT), rises(0.0))
    assert judge_leak(results)["worker GPU"].growth.verdict == "NO LEAK"
    for result in results:
        if result.cycle:
            result.status, result.error_kind = "failed", "task_failed"
    assert judge_leak(results)["worker GPU"].growth.verdict == "INCONCLUSIVE"


def leaking_gpu(folder: Path, whole: bool = False) -> Judged:
    about = "2026-03-02T09:00:00.000,{},0,T4,"
    rows = [f"{about.format(n)},,{2000 + n}.0,16000.0,{n % 60}.0\n{about.format(n)}100,rq,900.0,,\n" for n in range(61)]
    lost = f"{about.format(62)},,,,\n"  # the driver was gone
    (folder / "gpu_20260302_090000.csv").write_text(",".join(instrument.GPU_CSV_COLUMNS) + "\n" + "".join(
        [*rows, lost, "torn,1", "\n", f"{about.format(63)},,x,,\n"]))
    return judged(folder, on_gpu(healthy(), rises(420.0), whole))


def test_a_leak_on_the_gpu_is_said_with_what_it_cannot_show(tmp_path: Path) -> None:
    run = leaking_gpu(tmp_path)
    memory, *_, advice = three_sentences(run, Words("en"))
    assert "leaks" not in memory.split("worker GPU")[0]
    assert "worker GPU" in memory
    assert "torch.cuda.memory_summary()" in advice
    assert [step.command for step in run.diagnosis.commands][:2] == [
        "torch.cuda.empty_cache()", "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"]
    for language in ("en", "zh-CN"):
        report = markdown.report(run, None, {}, [], Words(language))
        check_markdown(report)
        assert Words(language)("gpu_limits")[:30] in report
        assert "| 0 | T4 | 16,000.0 | 2,000.0 | 2,060.0 | 2,060.0 | 0.0 / 29.0 / 59.0 |" in report
        assert Words(language)("gpu_csv_skipped", file="gpu_20260302_090000.csv", skipped=2).split(":")[-1] in report
    assert summary(run, Words("en"))["leak"]["worker GPU"]["verdict"] == "LEAK"
    whole = markdown.report(leaking_gpu(tmp_path, True), None, {}, [], Words("en"))
    assert "For the worker GPU all memory in use on the GPU counts" in whole


def unknown_gpu(folder: Path) -> Judged:
    return judged(folder, on_gpu(healthy(), [None] * 12))


def test_memory_on_the_gpu_of_which_nothing_is_told_is_not_judged_and_that_is_said(tmp_path: Path) -> None:
    run = unknown_gpu(tmp_path)
    assert list(run.roles) == ["worker"]
    assert run.verdict == "pass"
    assert "GPU memory was not judged" in extra_sentence(run, Words("en"))[0]


@pytest.mark.parametrize(("busy", "proves"), [
    ((60.0, 0.0), True), ((60.0, 40.0), False), ((0.1, 0.0), False), ((None, None), False), ((60.0, None), False)])
def test_work_on_a_gpu_is_work(busy: tuple[float | None, float | None], proves: bool) -> None:
    """Of an engine that uses as much CPU while it waits as while it works, nothing else shows it."""
    results = numbered(on_gpu(leak_phase(FLAT), rises(0.0), busy=busy))
    for result in results:
        result.memory["worker"] = dataclasses.replace(result.memory["worker"], cpu_s=result.processing_time,
                                                      rest_cpu_percent=100.0)
    assert used_gpu("worker", [r for r in results if r.cycle]) is proves
    reason = judge_leak(results)["worker"].growth.reason
    assert (reason != "no_work") is proves
