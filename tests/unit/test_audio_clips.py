"""How long a clip is, by its own header; and what cannot be used."""

from __future__ import annotations

import builtins
import struct
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from memory_leak_stress_test import CannotStart, read_clip

RATE = 16000


def pcm(path: Path, seconds: float, *, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(channels)
        clip.setsampwidth(width)
        clip.setframerate(RATE)
        clip.writeframes(bytes(round(seconds * RATE) * channels * width))
    return path


def chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(body) if length is None else length) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes, kind: bytes = b"RIFF") -> bytes:
    return kind + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


FLOAT_FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 3, 2, 44100, 44100 * 8, 8, 32))  # 32-bit float, stereo


@pytest.mark.parametrize(("channels", "width"), [(1, 2), (2, 2), (1, 1), (1, 3)])
def test_wav_of_any_sample_format(tmp_path: Path, channels: int, width: int) -> None:
    clip = read_clip(pcm(tmp_path / "clip.WAV", 2.5, channels=channels, width=width))
    assert clip.seconds == pytest.approx(2.5)
    assert clip.size_bytes == clip.path.stat().st_size


@pytest.mark.parametrize(
    "content",
    [
        riff(FLOAT_FORMAT, chunk(b"data", bytes(44100 * 8))),
        riff(chunk(b"LIST", b"odd"), FLOAT_FORMAT, chunk(b"fact", bytes(4)), chunk(b"data", bytes(44100 * 8))),
        riff(FLOAT_FORMAT, chunk(b"data", bytes(44100 * 8), 0)),  # a recorder that was cut off
        riff(FLOAT_FORMAT, chunk(b"data", bytes(44100 * 8), 0xFFFFFFFF)),  # a stream
        riff(FLOAT_FORMAT, chunk(b"data", bytes(44100 * 8), 0xFFFFFFFF), kind=b"RF64"),
    ],
    ids=["float", "chunks before the data", "size 0", "size unknown", "RF64"],
)
def test_a_second_of_wav_however_it_was_written(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    assert read_clip(path).seconds == pytest.approx(1.0)


def atom(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def write_m4a(path: Path, seconds: float) -> None:
    header = struct.pack(">IIIII", 0, 0, 0, 1000, round(1000 * seconds)) + bytes(80)
    path.write_bytes(atom(b"ftyp", b"M4A \0\0\0\0") + atom(b"moov", atom(b"mvhd", header)))


def write_sound(path: Path, seconds: float) -> None:
    noise = np.random.default_rng(1).integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)
    soundfile.write(str(path), noise, RATE)


@pytest.mark.parametrize(
    ("name", "write"), [("a.flac", write_sound), ("a.mp3", write_sound), ("a.ogg", write_sound), ("a.m4a", write_m4a)]
)
def test_compressed_formats(tmp_path: Path, name: str, write: Callable[[Path, float], None]) -> None:
    write(tmp_path / name, 7.5)
    assert read_clip(tmp_path / name).seconds == pytest.approx(7.5, abs=0.15)  # mp3 has whole frames, and padding


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("clip.wav", None, "Audio clip not found"),
        ("clip.wav", b"", "cannot be read as audio (not a RIFF/WAVE file)"),
        ("clip.wav", b"this is not audio at all", "cannot be read as audio (not a RIFF/WAVE file)"),
        ("clip.wav", riff(FLOAT_FORMAT), "cannot be read as audio (no data chunk)"),
        ("clip.wav", riff(chunk(b"data", bytes(8))), "cannot be read as audio (no format before the data)"),
        ("clip.wav", riff(chunk(b"fmt ", b"\1")), "cannot be read as audio"),
        ("clip.wav", riff(FLOAT_FORMAT, chunk(b"data", b"")), "holds no sound (length 0 s)"),
        ("clip.flac", b"fLaC", "clip.flac"),
        ("clip.mp3", b"not audio", "holds no sound (length 0 s)"),
        ("clip.txt", b"x", "must end in one of .wav .mp3 .m4a .flac .ogg"),
        ("clip", b"x", "must end in one of"),
    ],
)
def test_what_is_no_clip_is_one_sentence(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CannotStart) as refused:
        read_clip(tmp_path / name)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_of_that_name_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "clip.wav").mkdir()
    with pytest.raises(CannotStart, match="cannot be read as audio"):
        read_clip(tmp_path / "clip.wav")


def test_without_tinytag_wav_works_and_others_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sound(tmp_path / "clip.ogg", 1.0)
    monkeypatch.setitem(sys.modules, "tinytag", None)
    assert read_clip(pcm(tmp_path / "clip.wav", 1.0)).seconds == 1.0
    with pytest.raises(CannotStart, match="pip install tinytag"):
        read_clip(tmp_path / "clip.ogg")


def test_a_wav_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of audio is 115 MB: its length comes from the header alone."""
    path, taken = pcm(tmp_path / "clip.wav", 60.0), 0
    real_open = builtins.open

    class Counting:
        def __init__(self, file: object) -> None:
            self.file = file

        def read(self, size: int) -> bytes:
            nonlocal taken
            taken += size
            return self.file.read(size)  # type: ignore[attr-defined,no-any-return]

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

    monkeypatch.setattr(Path, "open", lambda self, mode: Counting(real_open(self, mode)))
    assert read_clip(path).seconds == 60.0
    assert taken < 100
