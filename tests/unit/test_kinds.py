"""What memory consists of, from recorded and made-up /proc/PID/smaps and from processes of a known make."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memory_leak_stress_test as instrument
from memory_leak_stress_test import Holdings, Kinds, parse_kinds, read_holdings, read_memory
from unit.reader_runs import leak_phase

KIB = 1024
ARENA = 0x7F1234000000
LIBC = "7ffff7c00000-7ffff7d00000 r-xp 00000000 08:01 1 /usr/lib/x86_64-linux-gnu/libc.so.6"


def smaps(*mappings: tuple[str, dict[str, int]]) -> bytes:
    """Text as the kernel writes it: a line for each mapping, and its pages in KiB."""
    names = ("Rss", "Pss", "Anonymous", "Swap", "SwapPss", "LazyFree")
    return "".join(f"{head}\nSize: 4 kB\n" + "".join(f"{name}:{pages.get(name, 0):>20} kB\n" for name in names)
                   + "THPeligible:           0\nVmFlags: rd wr mr mw me ac sd\n" for head, pages in mappings).encode()


def anonymous(begin: int, kib: int, resident: int | None = None, access: str = "rw-p", **more: int) -> tuple[
        str, dict[str, int]]:
    head = f"{begin:x}-{begin + kib * KIB:x} {access} 00000000 00:00 0 "
    held = kib if resident is None else resident
    return head, {"Rss": held, "Anonymous": held} | more


def mapped(name: str, rss: int, own: int = 0, access: str = "r--p", **more: int) -> tuple[str, dict[str, int]]:
    return f"7f0000000000-7f0000100000 {access} 00000000 08:01 77   {name}", {"Rss": rss, "Anonymous": own} | more


GLIBC = (LIBC, {"Rss": 0})


def test_each_kind_of_mapping_is_counted_as_its_own() -> None:
    found = parse_kinds(smaps(
        mapped("/usr/bin/python3.11", 5 * KIB, own=KIB),
        ("555555560000-555555660000 rw-p 00000000 00:00 0 [heap]", {"Rss": 3 * KIB, "Anonymous": 3 * KIB, "Swap": KIB}),
        anonymous(ARENA, 2 * KIB, LazyFree=KIB), anonymous(ARENA + 2 * KIB**2, 62 * KIB, 0, access="---p"),
        anonymous(ARENA + (100 << 20) + 4096, 40 * KIB),
        anonymous(0x7F2000000000, 4, 0, access="---p"), anonymous(0x7F2000001000, 8 * KIB, KIB),
        mapped("/dev/shm/segment (deleted)", 7 * KIB, access="rw-s"), mapped("/memfd:tensors (deleted)", KIB),
        mapped("/models/a b.bin", 90 * KIB), GLIBC,
        ("7ffc0000-7ffd0000 rw-p 00000000 00:00 0 [stack]", {"Rss": 512, "Anonymous": 512}),
        ("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]", {})))
    assert found == Kinds(
        heap_mb=4.0, arenas_mb=2.0, arenas=1, large_mb=40.0, stacks_mb=1.5, shared_mb=8.0, copied_mb=1.0, lazy_mb=1.0,
        mapped_mb=94.0, mapped_files={"/models/a b.bin": 90.0, "/usr/bin/python3.11": 4.0}, allocator="glibc",
        runtime="python", tuned={})


def test_an_arena_without_its_reserve_is_a_large_mapping() -> None:
    alone = parse_kinds(smaps(anonymous(ARENA, 2 * KIB), GLIBC))
    assert (alone.arenas, alone.large_mb) == (0, 2.0)
    far = parse_kinds(smaps(anonymous(ARENA, 2 * KIB), anonymous(ARENA + 3 * KIB**2, 61 * KIB, 0, "---p"), GLIBC))
    assert (far.arenas, far.large_mb) == (0, 2.0)


def test_arenas_that_are_full_and_lie_side_by_side_are_counted_by_their_size() -> None:
    """The kernel makes one mapping of neighbours."""
    found = parse_kinds(smaps(anonymous(ARENA, 130 * KIB), anonymous(ARENA + 130 * KIB**2, 62 * KIB, 0, "---p"), GLIBC))
    assert (found.arenas, found.arenas_mb, found.large_mb) == (3, 130.0, 0.0)
    full = parse_kinds(smaps(anonymous(ARENA, 64 * KIB), GLIBC))
    assert (full.arenas, full.arenas_mb) == (1, 64.0)


def test_an_arena_that_the_kernel_joins_to_the_block_below_it_is_still_one() -> None:
    joined = anonymous(ARENA - 48 * KIB**2, 53 * KIB), anonymous(ARENA + 5 * KIB**2, 59 * KIB, 0, "---p")
    found = parse_kinds(smaps(*joined, GLIBC))
    assert (found.arenas, found.arenas_mb, found.large_mb) == (1, 5.0, 48.0)
    within = anonymous(ARENA - 48 * KIB**2, 40 * KIB), anonymous(ARENA - 8 * KIB**2, 8 * KIB, 0, "---p")
    below = parse_kinds(smaps(*within, GLIBC))
    assert (below.arenas, below.large_mb) == (0, 40.0), "it begins and ends within one region"
    ends_there = parse_kinds(smaps(anonymous(ARENA - 68 * KIB**2, 68 * KIB), GLIBC))
    assert (ends_there.arenas, ends_there.large_mb) == (0, 68.0), "a block that only ends where an arena would"


@pytest.mark.parametrize(("library", "allocator"), [
    ("/usr/lib/libjemalloc.so.2", "jemalloc"), ("/opt/libmimalloc-secure.so.2.1", "mimalloc"),
    ("/usr/lib/libtcmalloc_minimal.so.4", "tcmalloc"), ("/usr/lib/libcrypto.so.3", "glibc"),
    ("/lib/libc-2.31.so", "glibc")])
def test_aligned_mappings_are_arenas_of_glibc_only_where_it_allocates(library: str, allocator: str) -> None:
    found = parse_kinds(smaps(anonymous(ARENA, 64 * KIB), mapped(library, 4), GLIBC))
    assert (found.allocator, found.arenas > 0) == (allocator, allocator == "glibc")


def test_a_process_without_a_c_library_has_none_of_its_arenas() -> None:
    found = parse_kinds(smaps(anonymous(ARENA, 64 * KIB), mapped("/lib/ld-musl-x86_64.so.1", 4)))
    assert (found.allocator, found.arenas, found.large_mb) == ("other", 0, 64.0)


def test_the_heap_of_go_is_not_taken_for_arenas() -> None:
    """Its regions are of the same size, and reserved in the same way."""
    found = parse_kinds(smaps(anonymous(0xC000000000, 4 * KIB), anonymous(0xC000000000 + 4 * KIB**2, 60 * KIB, 0,
                                                                          "---p"), GLIBC))
    assert (found.runtime, found.arenas, found.large_mb) == ("go", 0, 4.0)


def test_a_stack_has_a_small_guard_directly_below_it() -> None:
    for begin, guard in ((0x7F2000002000, 4), (0x7F2000100000, KIB)):
        found = parse_kinds(smaps(anonymous(0x7F2000000000, guard, 0, "---p"), anonymous(begin, 8 * KIB, KIB)))
        assert (found.stacks_mb, found.large_mb) == (0.0, 1.0)


def test_only_the_largest_mapped_files_are_named_and_their_names_are_clean() -> None:
    files = [mapped(f"/models/{n}", n * KIB) for n in range(1, 20)] + [mapped("/x\x1b[31m" + "y" * 400, 90 * KIB)]
    found = parse_kinds(smaps(*files))
    assert found.mapped_mb == 190.0 + 90.0
    assert list(found.mapped_files.values()) == [90.0, 19.0, 18.0, 17.0, 16.0]
    assert all(name.isprintable() and len(name) <= 161 for name in found.mapped_files)


def test_variables_that_tune_an_allocator_are_kept_and_no_others() -> None:
    environ = b"MALLOC_ARENA_MAX=2\0ASR_API_TOKEN=x\0LD_PRELOAD=/usr/lib/libjemalloc.so.2\0MALLOC_=\0X=MALLOC_A=1"
    assert parse_kinds(b"", environ).tuned == {"MALLOC_ARENA_MAX": "2", "LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}


PAGES = st.fixed_dictionaries({name: st.integers(0, 9999) for name in ("Rss", "Anonymous", "Swap", "LazyFree")})
HEADS = st.one_of(
    st.sampled_from(["[heap]", "[stack]", "[anon: Go: heap]", "/dev/shm/x", "/SYSV0001 (deleted)", "/usr/lib/libc.so.6",
                     "/a file", "", "[vdso]"]), st.text(max_size=20).map(lambda text: text.replace("\n", " ")))


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(st.integers(0, 1 << 35), st.integers(1, 1 << 16), st.sampled_from(["rw-p", "---p", "rw-s"]),
                          HEADS, PAGES), max_size=12))
def test_no_page_is_lost_or_counted_twice(drawn: Sequence[tuple[int, int, str, str, dict[str, int]]]) -> None:
    """Whatever the mappings, private kinds add up to anonymous, swapped and shared pages."""
    text = smaps(*((f"{page * 4096:x}-{(page + count) * 4096:x} {access} 00000000 00:00 0 {name}",
                    pages | {"Anonymous": min(pages["Rss"], pages["Anonymous"])})
                   for page, count, access, name, pages in drawn))
    found = parse_kinds(text)
    shared = instrument.SHARED.match
    expected = sum((pages["Rss"] if shared(name.strip(" ")) else min(pages["Rss"], pages["Anonymous"])) + pages["Swap"]
                   for _, _, _, name, pages in drawn)
    parts = (found.heap_mb, found.arenas_mb, found.large_mb, found.stacks_mb, found.shared_mb, found.copied_mb)
    assert sum(parts) == pytest.approx(expected / KIB, abs=0.01)
    assert found.lazy_mb == pytest.approx(sum(pages["LazyFree"] for *_, pages in drawn) / KIB, abs=0.01)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=200))
def test_no_text_breaks_it(text: bytes) -> None:
    parse_kinds(text, text)


# ------------------------------------------------------------------------------------- processes of a known make

CHILD = """
import ctypes, mmap, queue, sys, tempfile, threading, time
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.mmap.restype = ctypes.c_void_p
kept, ready, held, pool = [], threading.Semaphore(0), [], queue.Queue()

def blocks(mb, size):
    taken = [libc.malloc(size) for _ in range(int(mb * 1048576 / size))]
    for block in taken:
        libc.memset(block, 1, size)
    return taken

def small_in_a_thread(verb, mb):
    taken = blocks(mb, 4000)
    for block in taken[:-1] if verb == "fragments" else ():  # the last one keeps the arena from giving back the others
        libc.free(block)
    ready.release()
    time.sleep(600)

def wait_in_the_pool():
    small_in_a_thread(*pool.get())

for line in sys.stdin:
    verb, number, mb = line.split()
    number, mb = int(number), float(mb)
    if verb == "threads":  # one after another, each with an arena of its own if it may
        for _ in range(number):
            threading.Thread(target=small_in_a_thread, args=(verb, mb), daemon=True).start()
            ready.acquire()
    elif verb == "pool":
        for _ in range(number):
            threading.Thread(target=wait_in_the_pool, daemon=True).start()
    elif verb in ("arenas", "fragments"):  # the same in a thread of the pool
        pool.put((verb, mb))
        ready.acquire()
    elif verb == "heap":
        blocks(mb, 4000)
    elif verb == "large":
        blocks(mb * number, 4 * 1048576)
    elif verb == "shared":
        kept.append(mmap.mmap(-1, int(mb * 1048576)))
        kept[-1].write(b"x" * len(kept[-1]))
    elif verb == "map":
        size = int(mb * 1048576)
        with tempfile.NamedTemporaryFile(dir=".", prefix="model", delete=False) as file:
            file.write(b"x" * size)
            file.flush()
            ctypes.string_at(libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, file.fileno(), 0), size)
    elif verb == "files":
        held += [open("/dev/null") for _ in range(number)]
    print("done", flush=True)
"""


@dataclasses.dataclass
class Child:
    """A process that takes memory, threads and files of a known kind on command."""

    popen: subprocess.Popen[str]

    def do(self, *orders: str) -> None:
        assert self.popen.stdin
        assert self.popen.stdout
        for order in orders:
            print(order, file=self.popen.stdin, flush=True)
            assert self.popen.stdout.readline() == "done\n"


@contextlib.contextmanager
def a_child(folder: Path, **environment: str) -> Iterator[Child]:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          cwd=folder, env=os.environ | environment) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


@contextlib.contextmanager
def child(*orders: str, **environment: str) -> Iterator[int]:
    """The pid of a process that has carried out these orders."""
    with a_child(Path.cwd(), **environment) as process:
        process.do(*orders)
        yield process.popen.pid


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc/PID/smaps")


def kinds(pid: int) -> Kinds:
    found = read_holdings(pid, with_kinds=True).kinds
    assert found
    return found


@needs_linux
def test_kinds_of_a_real_process_add_up_to_its_private_memory() -> None:
    with child("threads 3 5", "heap 1 20", "large 3 16", "shared 1 30", MALLOC_ARENA_MAX="8") as pid:
        found, sample = kinds(pid), read_memory(psutil.Process(pid))
    assert sample
    assert sample.private == pytest.approx(
        found.heap_mb + found.arenas_mb + found.large_mb + found.stacks_mb + found.shared_mb + found.copied_mb, abs=1)
    assert found.arenas_mb == pytest.approx(15, abs=1.5)
    assert found.arenas == 3
    assert found.heap_mb == pytest.approx(20, abs=8)  # Python's own is there, too
    assert found.large_mb == pytest.approx(48, abs=8)
    assert found.shared_mb == pytest.approx(30, abs=0.1)
    assert (found.allocator, found.runtime, found.tuned) == ("glibc", "python", {"MALLOC_ARENA_MAX": "8"})


@needs_linux
def test_threads_files_and_sockets_of_a_real_process() -> None:
    with child("heap 0 0") as pid:
        before = read_holdings(pid, with_kinds=False)
    with child("threads 12 0.1", "files 7 0") as pid:
        after = read_holdings(pid, with_kinds=False)
    assert before.threads is not None
    assert before.files is not None
    assert (after.threads, after.files) == (before.threads + 12, before.files + 7)
    assert (after.sockets, after.kinds) == (0, None)
    assert after.files_limit == psutil.Process().rlimit(psutil.RLIMIT_NOFILE)[0]


@needs_linux
def test_what_may_not_be_read_is_not_known() -> None:
    """As of another user's process: threads are told to everybody, all else only to its own user and root."""
    if os.geteuid() == 0:
        with child("heap 0 0") as pid:
            script = (f"import os, sys; sys.path.insert(0, {str(Path(instrument.__file__).parent)!r}); "
                      "import memory_leak_stress_test as i; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
                      f"print(i.read_holdings({pid}, True))")
            said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert said.strip() == str(Holdings(1, None, None, None, None))
    else:
        assert dataclasses.replace(read_holdings(1, True), threads=1) == Holdings(1, None, None, None, None)


def test_a_process_that_has_ended_holds_nothing_that_is_known() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert read_holdings(ended.pid, with_kinds=True) == Holdings(None, None, None, None, None)


@pytest.mark.parametrize("took_s", [0.02, 0.5])
def test_mappings_are_read_as_often_as_a_hundredth_of_the_time_allows(
    took_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at the first cycle and the last, whatever it costs."""
    now = itertools.count(0.0, 6.0)  # seconds from one cycle to the next
    clock = {"now": 0.0}
    read = []

    def spend(pid: int, with_kinds: bool) -> Holdings:
        read.append(with_kinds)
        clock["now"] += took_s if with_kinds else 0.0
        return Holdings(1, 2, 0, 99, None)

    monkeypatch.setattr(instrument, "read_holdings", spend)
    monkeypatch.setattr("time.monotonic", lambda: clock["now"])

    class Log:
        def hold(self, result: instrument.TaskResult) -> None:
            held.append(result)

    held: list[instrument.TaskResult] = []
    test = instrument.StressTest.__new__(instrument.StressTest)
    test.log, test.kinds_read = Log(), instrument.StressTest.kinds_read  # type: ignore[assignment]
    for cycle, result in enumerate(leak_phase([700.0] * 13)[1::2]):
        clock["now"] = next(now)
        test.add_holdings(result, needed=cycle in (0, 11))
    often = [cycle for cycle, with_kinds in enumerate(read) if with_kinds]
    assert often == list(range(12)) if took_s < 0.06 else often == [0, 9, 11]
    assert all(p.holdings for result in held for p in result.memory["worker"].processes)
