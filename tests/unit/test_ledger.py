"""Where the machine's memory is at rest, and limits of containers: what the instrument reads of the kernel."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    MIB,
    MOST_NAMED,
    Group,
    Ledger,
    Limits,
    MachineLook,
    ProcessTable,
    Reserve,
    Sampler,
    group_folders,
    group_kills,
    kind_by_words,
    look_at_machine,
    read_group,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc as Linux has it")

# ---------------------------------------------------------------------------------------- the machine's memory


@contextlib.contextmanager
def holding(mb: int, comm: str, *arguments: str) -> Iterator[int]:
    """The pid of a process of this name that holds so many MB."""
    code = (f"import sys; open('/proc/self/comm', 'w').write({comm!r}); block = bytearray({mb} << 20)\n"
            f"block[::4096] = b'x' * ({mb} << 8); print(flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def recorded(*watched: int, name: str = "ledger") -> instrument.MachineMemory:
    """A reading; of the other processes only those called so, since this machine may have many."""
    look = look_at_machine(watched, {os.getpid()})
    look = dataclasses.replace(look, names={key: them for key, them in look.names.items() if name.encode() in key})
    return Ledger().record(look, look, [])


@linux
def test_an_unwatched_process_counts_by_its_name_and_a_watched_one_with_the_watched() -> None:
    with holding(60, "ledger helper") as pid, holding(40, "ledger helper"), holding(50, "ledger ours") as ours:
        seen = recorded(ours)
        (helper,) = seen.others
        assert (helper.name, helper.count, helper.pid) == ("ledger helper", 2, pid)
        assert helper.private_mb == pytest.approx(100 + 2 * 8, abs=16)  # two interpreters
        assert seen.watched_mb == pytest.approx(50 + 8, abs=8)
        assert (seen.others_mb or 0) >= helper.private_mb
    assert recorded().others == []


@linux
def test_a_segment_that_no_process_maps_is_shared_memory_and_its_place_is_known() -> None:
    """Others of this machine may make and remove segments, too: then once more."""
    assert any(segment_is_seen() for _ in range(5))


def segment_is_seen() -> bool:
    before, segment = recorded(), Path(f"/dev/shm/ledger-test-{os.getpid()}")
    try:
        segment.write_bytes(b"x" * (40 * MIB))
        after = recorded()
    finally:
        segment.unlink()
    gained = ((after.shared_mb or 0) - (before.shared_mb or 0),
              after.tmpfs["/dev/shm"] - before.tmpfs.get("/dev/shm", 0.0))
    return all(38 <= mb <= 42 for mb in gained)


@linux
def test_this_tool_itself_is_no_other_process() -> None:
    with holding(60, "ledger own") as pid:
        look = look_at_machine(set(), {pid})
        assert b"ledger own" not in look.names
        assert b"ledger own" in look_at_machine(set(), set()).names


@linux
def test_names_and_programs_are_made_clean_and_hold_no_secret() -> None:
    with holding(40, "\x1b[31mred\n", "--password=hunter2", "tok\u202een"):
        (other,) = recorded(name="[31mred").others
    assert (other.name + other.program).isprintable()
    assert "hunter2" not in repr(other)


def look(sizes: Mapping[str, float], at: float = 0.0) -> MachineLook:
    names = {name.encode(): (mb, 1, mb, 100 + number) for number, (name, mb) in enumerate(sizes.items())}
    sums = {"used": 1000.0, "watched": 10.0, "others": sum(sizes.values()), "shared": 5.0, "kernel": 20.0}
    return MachineLook(at, 8000.0, sums, names, {}, {})


def test_few_names_are_kept_the_largest_and_those_that_have_grown_most() -> None:
    ledger, first = Ledger(), look({f"big{n}": 500.0 + n for n in range(50)} | {"small": 2.0})
    ledger.record(first, first, [])
    later = look({f"big{n}": 500.0 + n for n in range(50)} | {"small": 90.0})
    kept = {other.name for other in ledger.record(first, later, []).others}
    assert len(kept) <= 2 * MOST_NAMED
    assert {"small", "big49", "big0"} & kept == {"small", "big49"}


def test_what_a_process_gained_at_rest_is_told_from_what_it_gained_before() -> None:
    ended, rest = look({"ours": 100.0, "other": 50.0}), look({"ours": 100.0, "other": 54.0, "new": 7.0}, at=2.0)
    seen = Ledger().record(ended, rest, [])
    assert (seen.rest_s, round(seen.rest_mb["others"], 3)) == (2.0, 11.0)
    assert {other.name: other.rest_mb for other in seen.others} == {"ours": 0.0, "other": 4.0, "new": None}


def test_what_cannot_be_read_is_null_with_the_systems_reason(tmp_path: Path) -> None:
    nothing = look_at_machine(set(), set(), str(tmp_path / "proc"))
    seen = Ledger().record(nothing, nothing, [])
    assert (seen.watched_mb, seen.others_mb, seen.shared_mb, seen.kernel_mb) == (None, None, None, None)
    assert seen.missing == {"processes": "No such file or directory"}
    assert seen.used_mb > 0
    assert seen.rest_mb.keys() == {"used"}


def test_a_process_that_may_not_be_read_is_said_and_one_that_has_ended_is_not(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nShmem:   2048 kB\nSUnreclaim: 1024 kB\nPageTables: 512 kB\n")
    for pid, status in ((11, "Name:\tone\nRssAnon:\t 3072 kB\nVmSwap:\t 1024 kB\n"), (12, None), (13, "")):
        (tmp_path / str(pid)).mkdir()
        if status is None:
            (tmp_path / str(pid) / "status").mkdir()  # reading it fails, as a permission would
        elif status:
            (tmp_path / str(pid) / "status").write_text(status)
    seen = look_at_machine(set(), set(), str(tmp_path))
    assert (seen.sums["others"], seen.sums["shared"], seen.sums["kernel"]) == (4.0, 2.0, 1.5)
    assert seen.names == {b"one": (4.0, 1, 4.0, 11)}
    assert seen.missing == {"others": "Is a directory"}


def test_where_nothing_says_what_is_mounted_only_shared_memory_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> list[object]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(psutil, "disk_partitions", refuse)
    assert instrument.used_tmpfs(set()) == {}


def test_a_user_of_many_groups_and_a_place_of_any_name_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    (tmp_path / "11").mkdir()
    (tmp_path / "self").mkdir()
    (tmp_path / "11" / "status").write_text(f"Name:\tone\nGroups:\t{'1234567890 ' * 1000}\nRssAnon:\t 3072 kB\n")
    place = tmp_path / "a\x85b\u2028c\u3000d"  # ends of lines and a space to Python, not to the kernel
    place.mkdir()
    (tmp_path / "self" / "mounts").write_text(f"none {place} tmpfs rw 0 0\n", encoding="utf-8")
    assert look_at_machine(set(), set(), str(tmp_path)).sums["others"] == 3.0
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert list(instrument.used_tmpfs(set())) == [str(place)]


def test_what_the_systems_table_lacks_is_null_and_not_0(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nKernelStack: 512 kB\n")
    seen = look_at_machine(set(), set(), str(tmp_path))
    said = Ledger().record(seen, seen, [])
    assert (said.shared_mb, said.kernel_mb) == (None, 0.5)
    assert said.missing == {"shared": "not in /proc/meminfo"}


# ----------------------------------------------------------------------------------------------- control groups

VERSION_2 = {"memory.current": 5100 * MIB, "memory.max": "max", "memory.peak": 5200 * MIB,
             "memory.stat": f"anon {1700 * MIB}\nfile {4700 * MIB}\ninactive_file {3300 * MIB}\n",
             "memory.events": "low 0\nhigh 0\nmax 31\noom 4\noom_kill 2\noom_group_kill 0\n"}
VERSION_1 = {"memory.usage_in_bytes": 900 * MIB, "memory.limit_in_bytes": 0x7FFFFFFFFFFFF000,
             "memory.max_usage_in_bytes": 1000 * MIB,
             "memory.stat": f"cache 0\nrss 1\ntotal_rss {850 * MIB}\ntotal_inactive_file {100 * MIB}\n",
             "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"}


def group(folder: Path, files: Mapping[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{str(content).rstrip()}\n")
    return folder


def limited(mb: int, use_mb: int = 5100) -> dict[str, object]:
    return VERSION_2 | {"memory.max": mb * MIB, "memory.current": use_mb * MIB}


def folders(tmp_path: Path, cgroup: str) -> list[str]:
    """The groups of a process with these lines in its cgroup file, below a recorded tree."""
    (tmp_path / "proc" / "7").mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc" / "7" / "cgroup").write_text(cgroup)
    found = group_folders(7, tmp_path / "cgroup", tmp_path / "proc")
    return [str(folder.relative_to(tmp_path / "cgroup")) for folder in found]


def test_the_path_of_version_2_is_followed_up_to_the_root(tmp_path: Path) -> None:
    group(tmp_path / "cgroup" / "kubepods" / "pod1" / "c1", VERSION_2)
    assert folders(tmp_path, "0::/kubepods/pod1/c1\n") == ["kubepods/pod1/c1", "kubepods/pod1", "kubepods", "."]


def test_with_both_versions_the_one_that_has_the_memory_counts(tmp_path: Path) -> None:
    group(tmp_path / "cgroup" / "memory" / "docker" / "abc", VERSION_1)
    group(tmp_path / "cgroup" / "unified", {})
    assert folders(tmp_path, "8:pids:/\n4:memory:/docker/abc\n1:name=systemd:/x:y\n0::/\n") == [
        "memory/docker/abc", "memory/docker", "memory"]


def test_inside_a_container_the_root_is_its_own_group(tmp_path: Path) -> None:
    own = group(tmp_path / "cgroup", limited(2048))
    assert folders(tmp_path, "0::/\n") == ["."]
    assert read_group(own) == Group(2048.0, 1800.0, 5200.0)


def test_inside_a_container_of_version_1_the_path_is_the_hosts_and_the_root_its_own(tmp_path: Path) -> None:
    group(tmp_path / "cgroup" / "memory", VERSION_1 | {"memory.limit_in_bytes": 1024 * MIB})
    assert folders(tmp_path, "4:memory:/docker/abc\n0::/docker/abc\n") == ["memory"]


def test_a_group_of_another_container_is_not_guessed(tmp_path: Path) -> None:
    group(tmp_path / "cgroup", limited(2048))
    assert folders(tmp_path, "0::/../../docker/other\n") == []


@pytest.mark.parametrize(("files", "expected"), [
    (limited(4096), Group(4096.0, 1800.0, 5200.0)),  # use less inactive file pages
    (limited(4096, 1750), Group(4096.0, 1700.0, 5200.0)),  # anonymous memory is more than that
    (VERSION_1 | {"memory.limit_in_bytes": 1024 * MIB}, Group(1024.0, 850.0, 1000.0)),
    (VERSION_2, None), (VERSION_1, None), ({}, None), (limited(4096) | {"memory.current": "a lot"}, None)])
def test_use_that_the_kernel_cannot_take_back_counts(
    tmp_path: Path, files: Mapping[str, object], expected: Group | None
) -> None:
    assert read_group(group(tmp_path / "g", files)) == expected


def test_an_older_kernel_keeps_no_peak(tmp_path: Path) -> None:
    folder = group(tmp_path / "g", limited(4096))
    (folder / "memory.peak").unlink()
    assert read_group(folder) == Group(4096.0, 1800.0, None)


def test_kills_are_counted_in_both_versions_and_unknown_where_there_is_no_count(tmp_path: Path) -> None:
    assert group_kills(group(tmp_path / "two", VERSION_2)) == 2
    assert group_kills(group(tmp_path / "one", VERSION_1)) == 3
    assert group_kills(tmp_path / "gone") is None


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod of 2,000 MB with a container of 4,000 MB in it, of which this process is."""
    monkeypatch.setattr(instrument, "CGROUPS", tmp_path)
    pod = group(tmp_path / "pod", limited(2000))
    own = group(pod / "c", limited(4000, 900) | {"memory.stat": f"anon {700 * MIB}\ninactive_file {150 * MIB}"})
    monkeypatch.setattr(instrument, "group_folders", lambda _: (own, pod, tmp_path))
    return pod


def test_the_limit_up_the_path_that_leaves_least_room_counts(container: Path) -> None:
    limits = Limits()
    limits.find([(1, "worker"), (2, "api")])
    limits.read()
    (found,) = limits.containers()
    assert (found.path, found.roles) == ("/pod", ["api", "worker"])
    assert (found.limit_mb, found.working_set_mb) == (2000.0, 1800.0)


def test_a_container_s_own_group_is_shown_as_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of it, its group is all that is seen."""
    monkeypatch.setattr(instrument, "CGROUPS", group(tmp_path / "cgroup", limited(2000)))
    monkeypatch.setattr(instrument, "group_folders", lambda _: (tmp_path / "cgroup",))
    limits = Limits()
    limits.find([(1, "worker")])
    limits.read()
    assert [found.path for found in limits.containers()] == ["/"]


def test_limits_are_known_before_the_first_look(container: Path) -> None:
    """The monitor's first line names them."""
    sampler = Sampler(ProcessTable({}, {"worker": (os.getpid(),)}, set()), None, 1.0)
    sampler.open_window()
    assert [found.path for found in sampler.observed().containers] == ["/pod"]


def test_a_container_that_has_gone_is_told_as_it_was_last(container: Path) -> None:
    limits = Limits()
    limits.find([(1, "worker")])
    limits.open_window()
    (container / "memory.current").write_text(f"{5250 * MIB}\n")
    limits.read()
    (container / "memory.current").write_text(f"{5000 * MIB}\n")
    limits.read()
    (container / "memory.events").write_text("oom 9\noom_kill 5\n")
    (container / "memory.max").unlink()
    limits.read()
    (found,) = limits.containers()
    assert (found.working_set_mb, found.most_mb, found.oom_kills) == (1700.0, 1950.0, None)


def test_kills_in_a_container_count_since_the_window_opened(container: Path) -> None:
    limits = Limits()
    limits.find([(1, "worker")])
    limits.open_window()
    (container / "memory.events").write_text("oom 9\noom_kill 5\n")
    (found,) = limits.containers()
    assert found.oom_kills == 3
    limits.open_window()
    (found,) = limits.containers()
    assert found.oom_kills == 0
    (container / "memory.events").write_text("oom 0\noom_kill 0\n")
    (found,) = limits.containers()
    assert found.oom_kills is None, "it was started again, and its group counts from 0"


def test_a_role_is_spared_where_its_own_group_counts_no_kill(container: Path) -> None:
    limits = Limits()
    assert limits.spared() == frozenset()
    limits.find([(1, "worker"), (2, "api")])
    limits.open_window()
    (container / "memory.events").write_text("oom 9\noom_kill 5\n")
    assert limits.spared() == {"worker", "api"}, "another container of the pod"
    (container / "c" / "memory.events").write_text("oom 9\noom_kill 5\n")
    assert limits.spared() == frozenset()
    limits.open_window()
    assert limits.spared() == {"worker", "api"}, "that kill belongs to the window before"
    (container / "c" / "memory.events").unlink()
    (container / "memory.events").unlink()
    limits.find([(3, "worker")])
    assert limits.spared() == frozenset(), "where no group counts, any kill may be theirs"


@pytest.fixture
def limited_group() -> Iterator[Path]:
    """A memory group of 64 MB of our own, where this machine allows one."""
    try:
        own = group_folders(os.getpid())[0]
        folder = own / f"ledger-test-{os.getpid()}"
        folder.mkdir()
    except (OSError, IndexError):
        pytest.skip("no memory control group can be made here")
    try:
        files = instrument.files_of(folder)
        if files is None:
            pytest.skip("memory is not controlled in a new group here")
        (folder / files.limit).write_text(str(64 * MIB))
        yield folder
    finally:
        folder.rmdir()


@linux
def test_a_real_group_shows_its_limit_its_use_and_the_kill(limited_group: Path) -> None:
    code = ("import ctypes, sys; input(); a = ctypes.create_string_buffer(30 << 20); ctypes.memset(a, 1, 30 << 20)\n"
            "print(flush=True); input(); b = ctypes.create_string_buffer(90 << 20); ctypes.memset(b, 1, 90 << 20)")
    limits = Limits()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        (limited_group / "cgroup.procs").write_text(str(process.pid))
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        limits.find([(process.pid, "worker")])
        limits.open_window()
        (found,) = limits.containers()
        assert (found.roles, found.limit_mb, found.oom_kills) == (["worker"], 64.0, 0)
        assert 30 <= found.working_set_mb <= 60
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait(30)
    assert process.returncode == -signal.SIGKILL
    limits.read()
    assert limits.containers()[0].oom_kills == 1


# ---------------------------------------------------------------------------------------------------- the reserve


@pytest.fixture
def reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reserve:
    """20,000 MB of 24,000 are free, and 3,000 below a limit of 4,000; 10 % of both are to stay so."""
    monkeypatch.setattr(instrument, "memory_available", lambda: (20_000.0, 24_000.0))
    reserve = Reserve(2_400.0)
    reserve.count_limits({use(tmp_path, 1000): {"worker", "api"}}, 10.0)
    return reserve


def use(tmp_path: Path, mb: int) -> Path:
    return group(tmp_path / "pod", limited(4000, mb) | {"memory.stat": "anon 0\ninactive_file 0"})


def test_a_level_that_a_containers_limit_has_no_room_for_is_not_sent(tmp_path: Path, reserve: Reserve) -> None:
    reserve.begin(2, loads_models=False)
    use(tmp_path, 2000)
    assert reserve.look() is None
    use(tmp_path, 1000)  # two tasks take 1,000 for a time
    assert reserve.why_not(5) is None
    assert reserve.why_not(6) == (
        "6 concurrent tasks would leave about 0 MB of memory free below the limit of 4,000 MB of the api and worker, "
        "less than the reserve of 400 MB (--memory-reserve)")
    assert (reserve.tightest.lowest, reserve.tightest.keep) == (2_000.0, 400.0)


def test_a_containers_reserve_that_is_broken_is_said_once_and_ends_the_climb(tmp_path: Path, reserve: Reserve) -> None:
    reserve.begin(2, loads_models=False)
    use(tmp_path, 3700)
    assert "only 300 MB of memory are free below the limit of 4,000 MB" in (reserve.look() or "")
    assert reserve.look() is None
    use(tmp_path, 1000)
    assert "2 concurrent tasks would leave about 300 MB of memory free below the limit" in (reserve.why_not(2) or "")
    assert reserve.why_not(1) is None


def test_the_machines_own_memory_still_counts_and_a_container_that_has_gone_does_not(
    tmp_path: Path, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pod" / "memory.max").unlink()
    reserve.begin(1, loads_models=False)
    assert reserve.look() is None
    assert reserve.tightest is reserve
    monkeypatch.setattr(instrument, "memory_available", lambda: (2_000.0, 24_000.0))
    assert "only 2,000 MB of memory are free, less than the reserve of 2,400 MB" in (reserve.look() or "")


def test_a_container_that_goes_and_comes_back_keeps_no_task_from_being_sent(tmp_path: Path, reserve: Reserve) -> None:
    """As after an OOM kill, which may take the container along."""
    reserve.begin(1, loads_models=False)
    use(tmp_path, 3900)
    assert reserve.look() is not None
    (tmp_path / "pod" / "memory.max").unlink()
    assert reserve.why_not(1) is None
    reserve.begin(1, loads_models=False)
    use(tmp_path, 1000)
    assert reserve.look() is None
    assert [reserve.why_not(size) for size in (1, 2)] == [None, None]


# ----------------------------------------------------------------------------------------------- kinds of failure


@pytest.mark.parametrize("words", [
    "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 23.69 GiB total capacity)",
    "RuntimeError: CUDA failed with error out of memory", "torch.cuda.OutOfMemoryError: Allocation on device",
    "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "cudaErrorMemoryAllocation",
    "CUDNN_STATUS_ALLOC_FAILED", "CUDA failure 2: out of memory ; GPU=0", "HIP out of memory.",
    "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 3000 MiB on device 0: cudaMalloc failed: out of memory",
    "MPS backend out of memory", "vk::Device::allocateMemory: ErrorOutOfDeviceMemory"])
def test_a_gpu_without_memory_is_a_kind_of_its_own(words: str) -> None:
    assert kind_by_words("task_failed", words) == "gpu_oom"


@pytest.mark.parametrize("words", [
    "MemoryError", "std::bad_alloc", "[Errno 12] Cannot allocate memory", "worker was OOM killed", "Out of memory",
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes", "java.lang.OutOfMemoryError",
    "cannot compute word timestamps: out of memory",
    "OOM command not allowed when used memory > 'maxmemory'.", "Failed to allocate memory for requested buffer"])
def test_a_service_without_memory_is_a_kind_of_its_own(words: str) -> None:
    assert kind_by_words("submit_http_500", words) == "out_of_memory"


@pytest.mark.parametrize("words", [
    "CUDA error: device-side assert triggered", "no CUDA-capable device is detected", "room 12: zoom failed", "",
    "word timestamps: relationship memory allocation",
    "memory of the task is gone", "CUBLAS_STATUS_NOT_INITIALIZED", "file does not exist"])
def test_other_failures_keep_their_kind(words: str) -> None:
    assert kind_by_words("task_failed", words) == "task_failed"


@pytest.mark.parametrize("kind", ["submit_http_413", "submit_http_429", "submit_http_503"])
def test_what_is_refused_as_too_much_or_for_now_keeps_its_kind(kind: str) -> None:
    assert kind_by_words(kind, "CUDA out of memory, try again later") == kind
