"""Memory on a real GPU, end to end: runs where there is one with PyTorch, uvicorn and nvidia-ml-py.

Each service has its own truth; those that run beside it on the same GPU must not count.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.service import PATIENCE_S, TESTS, uvicorn_app

torch = pytest.importorskip("torch")
pytest.importorskip("pynvml")
if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

INSTRUMENT = TESTS / "memory_leak_stress_test.py"
OWN_PIDS = ["unshare", "--pid", "--fork", "--mount-proc"]
CYCLES = 10


@contextlib.contextmanager
def gpu_server(**settings: int) -> Iterator[str]:
    """Its URL."""
    environment = {name: str(value) for name, value in settings.items()}
    with uvicorn_app("e2e.gpu_server:app", **environment) as (url, _):
        yield url


def clip(path: Path, seconds: float) -> Path:
    """Noise: no two seconds are alike."""
    with wave.open(str(path), "wb") as audio:
        audio.setparams((1, 2, 16000, 0, "NONE", ""))
        audio.writeframes(os.urandom(int(seconds * 32000)))
    return path


@dataclass
class Run:
    status: int
    said: str
    lines: list[dict[str, Any]]
    summary: dict[str, Any]

    def gpu(self) -> list[dict[str, Any]]:
        """What the server held on the GPU, task by task."""
        return [line["memory"]["api"]["gpu"] for line in self.lines if line["memory"]]


def run(url: str, folder: Path, *options: str, before: list[str] | None = None) -> Run:
    clips = ["--short-audio", str(clip(folder / "short.wav", 5)), "--long-audio", str(clip(folder / "long.wav", 60))]
    results = folder / "results"
    command = [*(before or []), sys.executable, str(INSTRUMENT), "--api", "openai", "--field", "model=m", "--url", url,
               *clips, "--results-dir", str(results), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    (recorded,) = results.glob("*.jsonl")
    command = [sys.executable, str(TESTS / "analyze_stress_test.py"), str(recorded), "--json"]
    read = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    said = ended.stdout + ended.stderr
    print(said)
    assert "Traceback" not in said
    return Run(ended.returncode, said, [json.loads(line) for line in recorded.read_text().splitlines()],
               json.loads(read.stdout))


LEAK_PHASE = ["--phase", "leak", "--min-cycles", str(CYCLES), "--max-cycles", str(CYCLES + 4)]


def test_a_healthy_service_beside_one_that_grows(tmp_path: Path) -> None:
    with gpu_server(GPU_TASK_MB=200) as url, gpu_server(GPU_LEAK_MB=100) as other:
        ours, busy = tmp_path / "ours", tmp_path / "other"
        ours.mkdir()
        busy.mkdir()
        beside = threading.Thread(target=run, args=(other, busy, "--phase", "leak", "--max-cycles", "6",
                                                    "--min-cycles", "5", "--no-report"))
        beside.start()
        ran = run(url, ours, *LEAK_PHASE)
        beside.join()
    assert ran.summary["leak"]["api GPU"]["verdict"] == "NO LEAK", ran.summary
    assert all(gpu["after_mb"] > 200 and not gpu["whole_gpu"] for gpu in ran.gpu())


def test_what_is_kept_on_the_gpu_with_every_task_is_found(tmp_path: Path) -> None:
    with gpu_server(GPU_LEAK_MB=60) as url:
        ran = run(url, tmp_path, *LEAK_PHASE)
    assert ran.status == 1
    leak = ran.summary["leak"]["api GPU"]
    assert (leak["verdict"], leak["mb_per_cycle"]) == ("LEAK", pytest.approx(120, abs=3))
    assert ran.summary["leak"]["api"]["verdict"] == "NO LEAK", "nothing is kept beside the GPU"


def test_a_gpu_that_is_full_ends_the_ramp_by_its_name(tmp_path: Path) -> None:
    with gpu_server(GPU_TASK_MB=600, GPU_LIMIT_MB=3000) as url:
        ran = run(url, tmp_path, "--phase", "concurrency", "--rtf-limit", "0")
    assert {line["error_kind"] for line in ran.lines if line["status"] == "failed"} == {"gpu_oom"}, ran.said
    assert ran.summary["concurrency"]["max_stable"] >= 2


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace of its own needs root")
def test_leak_in_a_container(tmp_path: Path) -> None:
    """The driver numbers processes as the host does: what the GPU holds stands in, if nobody else is there."""
    wrapper = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from e2e.test_gpu_live import *
with gpu_server(GPU_LEAK_MB=60) as url:
    ran = run(url, Path({str(tmp_path)!r}), *LEAK_PHASE)
print("FOUND", json.dumps([ran.status, ran.summary["leak"], ran.gpu()[-1]]))
"""
    ended = subprocess.run([*OWN_PIDS, sys.executable, "-c", wrapper], capture_output=True, text=True, timeout=300,
                           check=False)
    print(ended.stdout, ended.stderr)
    status, leak, last = json.loads(ended.stdout.partition("FOUND ")[2])
    assert status == 1
    assert leak["api GPU"]["verdict"] == "LEAK"
    assert leak["api GPU"]["mb_per_cycle"] == pytest.approx(120, abs=3)
    assert last["after_mb"] > 60 * 2 * CYCLES
