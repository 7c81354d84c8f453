"""The embedded service is what it says: real processes, real speech, faults on order, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from asr_service import supervisor
from asr_service.app import bad_answer
from asr_service.audio import FILTER_CUTOFF_HZ, build_clip, low_pass
from asr_service.settings import Settings
from e2e.service import PATIENCE_S, RunningService, lives, running_service, wait_for

LEAK_MB = 50


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clip(tmp_path_factory.mktemp("audio") / "clip.wav", 3.0)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Takes a worker seconds, so that something can happen meanwhile."""
    return build_clip(tmp_path_factory.mktemp("audio") / "long.wav", 150.0)


@pytest.fixture(scope="module")
def healthy() -> Iterator[RunningService]:
    with running_service() as service:
        yield service


def folder(service: RunningService) -> Path:
    return Path(psutil.Process(service.pids("api")[0]).cwd())


def names_below(service: RunningService) -> list[str]:
    """Names of all processes of the service but its supervisor."""
    names = []
    for process in service.processes()[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended while we looked
            names.append(process.name())
    return names


def private_mb(pid: int) -> float:
    """Private memory in MiB (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


# ------------------------------------------------------------------------------------------- speech


@pytest.mark.parametrize("worker_class", ["rq.Worker", "rq.worker.SpawnWorker"])
def test_recorded_speech_comes_back_as_its_words(worker_class: str, clip: Path) -> None:
    with running_service(worker_class=worker_class) as service:
        result = service.finished(service.submit_id(clip))
        assert result["status"] == "done"
        assert "the best of times" in result["text"]
        assert result["duration"] == pytest.approx(3.0)
        assert result["error"] is None


def test_words_of_one_clip_do_not_spill_into_the_next(healthy: RunningService, tmp_path: Path) -> None:
    clip = build_clip(tmp_path / "clip.wav", 12.0)  # cut off inside a sentence
    texts = [healthy.finished(healthy.submit_id(clip))["text"] for _ in range(3)]
    assert all(text.startswith("It was the best of times") for text in texts), texts


def test_a_working_task_is_reported_as_processing_and_its_upload_leaves_the_disk(long_clip: Path) -> None:
    with running_service() as service:
        task = service.submit_id(long_clip)
        wait_for(lambda: service.result(task)["status"] == "processing", "the task to be processing")
        assert service.get("asr/queue/status")["workers_busy"] == 1
        wait_for(lambda: not list((folder(service) / "uploads").iterdir()), "the upload to be removed")


def test_stereo_and_other_rates_are_recognised_too(healthy: RunningService, clip: Path, tmp_path: Path) -> None:
    with wave.open(str(clip), "rb") as source:
        samples = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2")
    other = tmp_path / "stereo.wav"
    with wave.open(str(other), "wb") as target:
        target.setnchannels(2)
        target.setsampwidth(2)
        target.setframerate(32000)
        target.writeframes(np.repeat(samples, 4).tobytes())  # every sample twice, in two channels
    result = healthy.finished(healthy.submit_id(other))
    assert "best of times" in result["text"]
    assert result["duration"] == pytest.approx(3.0)


# ------------------------------------------------------------------------------------------- the API


def test_a_file_of_another_kind_is_refused_by_its_name(healthy: RunningService, clip: Path) -> None:
    answer = healthy.submit(clip, name="clip.txt")
    assert answer.status_code == 400
    assert "wav, mp3, m4a, flac, ogg" in answer.json()["detail"]


def test_a_file_that_is_no_audio_fails_in_words(healthy: RunningService, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(b"not audio")
    result = healthy.finished(healthy.submit_id(path))
    assert result["status"] == "failed"
    assert "not a PCM WAV file" in result["error"]


@pytest.mark.parametrize("task_id", ["no-such-task", "with%20space", "a:b"])
def test_an_unknown_task_is_not_found(healthy: RunningService, task_id: str) -> None:
    answer = requests.get(f"{healthy.url}/api/v1/asr/result/{task_id}", timeout=PATIENCE_S)
    assert answer.status_code == 404


def test_health_and_queue_status_count_only_living_workers() -> None:
    with running_service(workers=2) as service:
        assert service.get("health")["status"] == "ready"
        for left, status in ((1, "degraded"), (0, "unavailable")):
            os.kill(service.pids("worker")[0], signal.SIGKILL)
            wait_for(lambda left=left: service.get("health")["workers_active"] == left, "the loss to show")  # type: ignore[misc]
            assert service.get("health")["status"] == status
            assert service.get("asr/queue/status")["workers"] == left


def test_processes_look_as_users_start_them(healthy: RunningService) -> None:
    (api,) = healthy.pids("api")
    assert "uvicorn asr_service.app:app" in " ".join(psutil.Process(api).cmdline())
    assert len(healthy.pids("worker")) == 1
    assert len(healthy.pids("redis")) == 1


# ------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("sign", "options"),
    [(signal.SIGINT, {"worker_wrapper": "sh"}), (signal.SIGTERM, {"worker_wrapper": "bash-loop"}), (signal.SIGHUP, {})],
)
def test_a_signal_ends_everything_and_leaves_nothing(sign: signal.Signals, options: dict[str, str]) -> None:
    with running_service(**options) as service:
        processes, place = service.processes(), folder(service)
        service.supervisor.send_signal(sign)
        assert service.supervisor.wait(timeout=PATIENCE_S) == 0
        # All have been sent SIGKILL at the latest; those below a wrapper are not the supervisor's children to wait for.
        wait_for(lambda: not [process for process in processes if lives(process)], "the last of them to be gone")
        assert not place.exists()


@pytest.mark.parametrize(
    ("worker_class", "wrapper"),
    [("rq.Worker", None), ("rq.worker.SpawnWorker", "bash-loop")],
)
def test_everything_ends_when_the_supervisor_is_killed(worker_class: str, wrapper: str | None, long_clip: Path) -> None:
    """Also the work-horse, which is a child of a child, in the middle of its job."""
    options = {"worker_class": worker_class} | ({"worker_wrapper": wrapper} if wrapper else {})
    with running_service(**options) as service:
        before = len(service.processes())
        task = service.submit_id(long_clip)
        wait_for(lambda: service.result(task)["status"] == "processing", "the job to run")
        wait_for(lambda: len(service.processes()) > before, "the work-horse")
        # The job's first act is to tie the work-horse to its worker; the second is to take the upload.
        wait_for(lambda: not list((folder(service) / "uploads").iterdir()), "the job to have begun")
        processes, place = service.processes(), folder(service)
        service.supervisor.kill()
        service.supervisor.wait(timeout=PATIENCE_S)
        wait_for(lambda: not [p for p in processes if lives(p)], "every process to end")
        wait_for(lambda: not place.exists(), "the temporary folder to go")


# ------------------------------------------------------------------------------------------- planted leaks


def test_a_leak_planted_in_the_api_grows_the_api_alone(clip: Path) -> None:
    with running_service(leak_mb=LEAK_MB, leak_in="api") as service:
        (api,), (worker,) = service.pids("api"), service.pids("worker")
        service.finished(service.submit_id(clip))  # first use
        before = private_mb(api), private_mb(worker)
        for _ in range(3):
            service.finished(service.submit_id(clip))
        grown = private_mb(api) - before[0], private_mb(worker) - before[1]
    assert grown[0] == pytest.approx(3 * LEAK_MB, abs=LEAK_MB / 2)
    assert grown[1] < LEAK_MB / 2


@pytest.mark.parametrize(
    ("leak_clip", "seconds", "leaks"),
    [("all", 1.0, True), ("short", 9.9, True), ("short", 10.0, False), ("long", 9.9, False), ("long", 10.0, True)],
)
def test_a_leak_can_be_confined_to_short_or_long_clips(leak_clip: str, seconds: float, leaks: bool) -> None:
    settings = Settings(leak_mb=1, leak_in="worker", leak_clip=leak_clip, long_seconds=10)
    assert settings.leaks("worker", seconds) is leaks
    assert not settings.leaks("api", seconds)


def test_a_leak_planted_in_the_first_worker_grows_it_alone(clip: Path) -> None:
    with running_service(workers=2, leak_mb=LEAK_MB, leak_workers="one") as service:
        workers = service.pids("worker")
        for _ in workers:  # first use; idle workers take turns, the one that waited longest is served first
            service.finished(service.submit_id(clip))
        before = [private_mb(pid) for pid in workers]
        for _ in workers:
            service.finished(service.submit_id(clip))
        growth = sorted(private_mb(pid) - old for pid, old in zip(workers, before, strict=True))
    assert growth[0] < LEAK_MB / 2 < growth[1]


# --------------------------------------------------------------------------------------------- the OpenAI shape


def transcription(service: RunningService, clip: Path, **fields: str) -> requests.Response:
    with clip.open("rb") as file:
        return requests.post(f"{service.url}/v1/audio/transcriptions", files={"file": file}, data=fields,
                             timeout=PATIENCE_S)


def test_the_openai_shape_answers_with_the_same_text(clip: Path) -> None:
    with running_service() as service:
        queued = service.finished(service.submit_id(clip))
        assert transcription(service, clip, model="any").json() == {"text": queued["text"]}
        verbose = transcription(service, clip, model="any", response_format="verbose_json").json()
        assert (verbose["text"], verbose["duration"]) == (queued["text"], queued["duration"])
        assert transcription(service, clip).status_code == 422, "OpenAI asks for a model, too"


def test_a_planted_failure_is_told_in_the_openai_shape(clip: Path) -> None:
    with running_service(fail_at=0) as service:
        answer = transcription(service, clip, model="any")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "RuntimeError: planted failure: the model ran out of memory"


# ------------------------------------------------------------------------------------------- planted faults


def test_a_hanging_task_keeps_its_place_and_one_above_the_limit_is_refused(clip: Path) -> None:
    with running_service(workers=2, hang_at=0, refuse_above=2) as service:
        hanging = service.submit_id(clip)
        wait_for(lambda: service.result(hanging)["status"] == "processing", "the task to be taken")
        second = service.submit_id(clip)
        refused = service.submit(clip)  # the second one is a moment from its end, and not yet there
        assert refused.status_code == 500
        assert "503" in refused.json()["detail"]
        assert service.finished(second)["status"] == "done"
        assert service.submit(clip).status_code == 200
        assert service.result(hanging)["status"] == "processing"


def test_a_planted_failure_strikes_only_its_task(clip: Path) -> None:
    with running_service(fail_at=1) as service:
        tasks = [service.submit_id(clip), service.submit_id(clip)]
        first, second = (service.finished(task) for task in tasks)
        assert first["status"] == "done"
        assert second["status"] == "failed"
        assert second["error"] == "RuntimeError: planted failure: the model ran out of memory"


def test_a_killed_work_horse_fails_its_task_in_the_words_of_rq(clip: Path) -> None:
    with running_service(worker_class="rq.Worker", kill_horse_at=0) as service:
        result = service.finished(service.submit_id(clip))
        assert result["status"] == "failed"
        assert result["error"].startswith("Work-horse terminated unexpectedly")
        assert service.get("health")["status"] == "ready"


def test_a_killed_worker_is_gone_with_its_work_horse(clip: Path) -> None:
    with running_service(worker_class="rq.Worker", kill_worker_at=0) as service:
        (worker,) = service.pids("worker")
        service.submit_id(clip)
        wait_for(lambda: service.get("health")["status"] == "unavailable", "the worker's death")
        wait_for(lambda: not psutil.pid_exists(worker), "the supervisor to have taken note")
        wait_for(lambda: "rq" not in names_below(service), "the work-horse to be gone")


def test_a_worker_in_a_restarting_loop_comes_back_as_another_process(clip: Path) -> None:
    with running_service(worker_wrapper="bash-loop", kill_worker_at=0) as service:
        before = service.pids("worker")
        service.submit_id(clip)
        after = wait_for(lambda: [pid for pid in service.pids("worker") if pid not in before], "a new worker")
        assert len(after) == 1
        wait_for(lambda: service.get("health")["status"] == "ready", "the new worker to be counted")


def test_a_lost_task_is_accepted_and_then_unknown(clip: Path) -> None:
    with running_service(lose_at=0) as service:
        task = service.submit_id(clip)
        assert requests.get(f"{service.url}/api/v1/asr/result/{task}", timeout=PATIENCE_S).status_code == 404


def test_bad_answers_are_as_bad_as_ordered(clip: Path) -> None:
    with running_service(bad_answer="malformed", bad_answer_at=0) as service, service.submit(clip) as answer:
        assert answer.status_code == 200
        with pytest.raises(requests.exceptions.JSONDecodeError):
            answer.json()
    html, empty, redirect = (bad_answer(kind) for kind in ("html", "empty", "redirect"))
    assert html.media_type == "text/html"
    assert (empty.status_code, empty.body) == (200, b"")
    assert (redirect.status_code, redirect.headers["location"]) == (302, "/login")


def test_an_endless_answer_goes_on_and_does_not_keep_the_service_from_ending(clip: Path) -> None:
    with running_service(bad_answer="endless") as service, service.submit(clip) as answer:
        assert answer.status_code == 200
        assert len(answer.raw.read(5000)) == 5000
        service.supervisor.terminate()
        assert service.supervisor.wait(timeout=PATIENCE_S) == 0


# ------------------------------------------------------------------------------------------- starting it, and its audio


def test_without_a_redis_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    with pytest.raises(supervisor.CannotStart, match="no redis-server: install one"):
        supervisor.redis_server()


def test_a_port_in_use_is_one_sentence_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert supervisor.main(["--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert f"port {port} cannot be used" in message
    assert message.count("\n") == 1


def test_a_clip_has_the_asked_length_in_the_format_of_speech_services(tmp_path: Path) -> None:
    path = build_clip(tmp_path / "new" / "clip.wav", 100.5)  # longer than the recording, which is repeated
    with wave.open(str(path), "rb") as clip:
        assert (clip.getframerate(), clip.getsampwidth(), clip.getnchannels()) == (16000, 2, 1)
        assert clip.getnframes() == 100.5 * 16000
    assert [file.name for file in path.parent.iterdir()] == ["clip.wav"]


def test_what_16_khz_cannot_hold_is_filtered_out_and_speech_is_not() -> None:
    response = np.abs(np.fft.rfft(low_pass(FILTER_CUTOFF_HZ / 48000), 48000))  # one value per Hz
    assert response[:6800].min() > 0.99
    assert response[8000:].max() < 0.001  # -60 dB
