"""Every upload is another recording: whole and valid, of the length it is said to have, and nothing is copied."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import struct
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_leak_stress_test import (
    DISTINCT,
    IDENTICAL,
    REPEAT,
    Body,
    CannotStart,
    Clip,
    Recording,
    Settings,
    WavLayout,
    excerpt,
    not_varied,
    read_clip,
    read_clips,
    recording,
    wav_layout,
)

RATE = 8000


def sent(upload: Recording) -> bytes:
    body = Body(upload.parts)
    content = b"".join(body)
    assert len(content) == len(body) == upload.size_bytes
    return content


def test_a_clip_in_a_folder_that_cannot_be_looked_into_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot be read as audio .*too long"):
        read_clips(tmp_path / ("x" * 300) / "a.wav")


def wav(seconds: float, channels: int = 1, width: int = 2) -> bytes:
    noise = np.random.default_rng(1).bytes(round(seconds * RATE) * channels * width)
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(RATE)
        file.writeframes(noise)
    return made.getvalue()


def clip_of(content: bytes, name: str = "clip.wav") -> Clip:
    view = memoryview(content)
    layout = wav_layout(view)
    return Clip(Path(name), len(content), (layout.end - layout.begin) / layout.rate, view, layout)


def samples_of(content: bytes) -> tuple[bytes, float]:
    with wave.open(io.BytesIO(content)) as file:
        frames = file.readframes(file.getnframes())
        assert len(frames) == file.getnframes() * file.getnchannels() * file.getsampwidth(), "less than promised"
        return frames, file.getnframes() / file.getframerate()


CLIPS = {(channels, width): wav(0.5, channels, width) for channels in (1, 2) for width in (1, 2, 3)}


@settings(max_examples=80, deadline=None)
@given(shape=st.sampled_from(sorted(CLIPS)), seed=st.integers(0, 2**32 - 1), number=st.integers(0, 5000),
       vary=st.floats(0, 80), trailer=st.sampled_from([b"", b"LIST\4\0\0\0abcd"]))
def test_any_upload_of_a_wav_is_a_valid_wav_of_its_length_cut_from_the_clip(
    shape: tuple[int, int], seed: int, number: int, vary: float, trailer: bytes
) -> None:
    whole, _ = samples_of(CLIPS[shape])
    clip = clip_of(CLIPS[shape] + trailer)
    upload = recording(clip, number, seed, vary)
    content = sent(upload)
    frames, seconds = samples_of(content)
    frame = shape[0] * shape[1]
    assert frames in whole
    assert whole.index(frames) % frame == 0, "cut within a sample"
    assert upload.seconds == pytest.approx(seconds)
    assert 0 < seconds >= clip.seconds * (1 - vary / 100 - 0.13)
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    assert content.endswith(trailer)
    assert len(content) % 2 == 0


@pytest.mark.parametrize("vary", [0.0, 30.0])
def test_uploads_differ_within_a_run_and_from_those_of_another(vary: float) -> None:
    clip, digests = clip_of(wav(0.5)), Counter[str]()
    for seed in (5, 1234567):
        uploads = [recording(clip, number, seed, vary) for number in range(400)]
        assert {upload.upload for upload in uploads} == {DISTINCT}
        digests.update(hashlib.sha256(sent(upload)).hexdigest() for upload in uploads)
    assert len(digests) == 800
    lengths = {upload.seconds for upload in uploads}
    assert max(lengths) - min(lengths) == pytest.approx(0.05 + 0.5 * vary / 100, rel=0.1)


def test_when_a_clip_is_used_up_its_uploads_are_called_identical() -> None:
    clip = clip_of(wav(0.01))  # 80 samples: 8 beginnings
    assert [recording(clip, number, 0).upload for number in (0, 7, 8)] == [DISTINCT, DISTINCT, IDENTICAL]


def test_a_wav_without_a_size_is_sent_with_one_and_rf64_as_riff(tmp_path: Path) -> None:
    plain = wav(0.5)
    unknown = plain[:40] + struct.pack("<I", 0xFFFFFFFF) + plain[44:]
    ds64 = b"ds64" + struct.pack("<I", 28) + bytes(28)
    rf64 = b"RF64" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + ds64 + unknown[12:]
    for content in (unknown, rf64):
        (tmp_path / "clip.wav").write_bytes(content)
        _, seconds = samples_of(sent(recording(read_clip(tmp_path / "clip.wav"), 3, 0)))
        assert seconds == pytest.approx(0.5, abs=0.001)


def test_a_compressed_wav_is_cut_at_its_blocks() -> None:
    clip = dataclasses.replace(clip_of(wav(1.0)), wav=WavLayout(44, 44 + 16000, 256, 8000))
    upload = recording(clip, 2, 0)
    assert upload.seconds == pytest.approx((16000 // 256 - 2) * 256 / 8000)
    assert sent(upload)[44:] == bytes(clip.content[44 + 2 * 256 : 44 + 16000 // 256 * 256])


def write_sound(path: Path, seconds: float) -> Path:
    noise = np.random.default_rng(1).integers(-9000, 9000, round(seconds * 16000)).astype(np.int16)
    soundfile.write(str(path), noise, 16000)
    return path


@pytest.mark.parametrize("name", ["a.mp3", "a.flac"])
def test_a_tag_makes_another_file_of_the_same_sound(name: str, tmp_path: Path) -> None:
    clip = read_clip(write_sound(tmp_path / name, 2.0))
    sound, _ = soundfile.read(tmp_path / name)
    uploads = [recording(clip, number, seed) for seed in (1, 2) for number in range(20)]
    assert len({sent(upload) for upload in uploads}) == 40
    assert {upload.upload for upload in uploads} == {DISTINCT}
    for upload in uploads[:2]:
        (tmp_path / f"b{clip.path.suffix}").write_bytes(sent(upload))
        decoded, _ = soundfile.read(tmp_path / f"b{clip.path.suffix}")
        assert np.array_equal(decoded, sound)
        again = read_clip(tmp_path / f"b{clip.path.suffix}")
        assert again.seconds == pytest.approx(clip.seconds, abs=0.01)
        added = len(sent(recording(again, 1, 1))) - again.size_bytes
        assert added == (0 if name == "a.mp3" else 16), "an mp3's tag is replaced"


def test_an_atom_more_makes_another_m4a_and_an_ogg_stays_as_it_is(tmp_path: Path) -> None:
    atoms = struct.pack(">I4s", 12, b"ftyp") + b"M4A " + struct.pack(">I4s", 8, b"moov")
    clip = Clip(Path("a.m4a"), len(atoms), 1.0, memoryview(atoms))
    first, second = (sent(recording(clip, number, 0)) for number in (0, 1))
    assert first != second
    assert first[: len(atoms)] == atoms
    assert struct.unpack(">I4s", first[len(atoms) : len(atoms) + 8]) == (len(first) - len(atoms), b"free")
    ogg = read_clip(write_sound(tmp_path / "a.ogg", 1.0))
    assert {recording(ogg, number, 0).upload for number in range(3)} == {IDENTICAL}
    assert sent(recording(ogg, 1, 0)) == (tmp_path / "a.ogg").read_bytes()


def test_what_only_ends_like_a_flac_goes_out_as_it_is() -> None:
    clip = Clip(Path("a.flac"), 50, 1.0, memoryview(b"OggS" + bytes(46)))
    assert (sent(recording(clip, 1, 0)), recording(clip, 1, 0).upload) == (bytes(clip.content), IDENTICAL)


def test_the_probe_is_two_seconds_of_a_wav_and_the_whole_of_others(tmp_path: Path) -> None:
    clip = clip_of(wav(5.0, 2))
    frames, seconds = samples_of(sent(excerpt(clip, 2.0)))
    assert seconds == 2.0
    whole, _ = samples_of(bytes(clip.content))
    assert whole.index(frames) == pytest.approx(len(whole) * 0.3, abs=8), "from the middle"
    assert sent(excerpt(clip, 60.0)) == bytes(clip.content)
    mp3 = read_clip(write_sound(tmp_path / "a.mp3", 3.0))
    assert sent(excerpt(mp3, 2.0)) == (tmp_path / "a.mp3").read_bytes()


# ------------------------------------------------------------------------------------------------ in turn


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).write_bytes(wav(0.5) if name.endswith("wav") else b"notes")
    return tmp_path


def test_the_clips_of_a_folder_are_used_in_turn(tmp_path: Path) -> None:
    clips = read_clips(folder_of(tmp_path, "b.wav", "a.WAV".lower(), "c.txt", "d.wav"))
    taken = [clips.take() for _ in range(7)]
    assert [upload.clip.path.name for upload in taken] == ["a.wav", "b.wav", "d.wav"] * 2 + ["a.wav"]
    assert len({sent(upload) for upload in taken if upload.clip.path.name == "a.wav"}) == 3


def test_a_folder_without_clips_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"holds no clip: none of its files ends in \.wav \.mp3"):
        read_clips(folder_of(tmp_path, "c.txt"))
    folder_of(tmp_path, "broken.wav")
    (tmp_path / "broken.wav").write_bytes(b"notes")
    with pytest.raises(CannotStart, match=r"broken\.wav cannot be read as audio"):
        read_clips(tmp_path)


def test_a_folder_that_cannot_be_listed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # root may list any folder
    with pytest.raises(CannotStart, match=r"cannot be read as audio \(.*Permission denied"):
        read_clips(tmp_path)


def test_one_file_as_short_and_as_long_clip_is_never_sent_twice(tmp_path: Path) -> None:
    path, used = folder_of(tmp_path, "a.wav") / "a.wav", Counter[Path]()
    short, long = (read_clips(path, 0.0, used) for _ in range(2))
    long.seed = short.seed
    assert len({sent(clips.take()) for _ in range(5) for clips in (short, long)}) == 10


def test_a_repeat_is_the_last_upload_and_says_so(tmp_path: Path) -> None:
    clips = read_clips(folder_of(tmp_path, "a.wav"))
    assert clips.repeat() is None, "nothing was sent yet"
    clips.take()
    last, again = clips.take(), clips.repeat()
    assert again is not None
    repeated = [again.take(), again.take()]
    assert [(sent(one), one.upload) for one in repeated] == [(sent(last), REPEAT)] * 2
    assert (last.upload, clips.take().upload) == (DISTINCT, DISTINCT)
    ogg = read_clips(write_sound(tmp_path / "a.ogg", 1.0))
    ogg.take()
    assert ogg.repeat() is None, "all its uploads are alike"


def test_lengths_that_cannot_vary_are_said(tmp_path: Path) -> None:
    clips = [read_clips(folder_of(tmp_path, "a.wav") / "a.wav"), read_clips(write_sound(tmp_path / "a.ogg", 1.0))]
    assert "the length of a.ogg stays as it is" in str(not_varied(Settings(vary_length=10), clips))
    assert not_varied(Settings(vary_length=10), clips[:1]) is None
    assert not_varied(Settings(), clips) is None


def test_a_clip_of_a_gigabyte_takes_no_memory(tmp_path: Path) -> None:
    path, size = tmp_path / "clip.wav", 2**30
    with path.open("wb") as file:
        file.write(wav(0.01)[:40] + struct.pack("<I", size))
        file.truncate(44 + size)  # a hole: it takes no room on disk
    before = psutil.Process().memory_info().rss
    clip = read_clip(path)
    uploads = [recording(clip, number, 7) for number in range(100)]
    assert sum(map(len, (Body(upload.parts) for upload in uploads))) > 99 * size * 0.98
    assert psutil.Process().memory_info().rss - before < 20e6
    assert uploads[-1].seconds == pytest.approx(size / 2 / RATE, rel=0.02)
