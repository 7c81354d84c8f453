"""Make clips of real speech: a recording that comes with the recogniser, repeated to the wanted length.

    python -m asr_service.audio                             the standard clips, into tests/audio
    python -m asr_service.audio --clip 12:tests/audio/a.wav     one of 12 seconds

Clips are 16 kHz, 16-bit, mono WAV: 32 kB per second.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr_service.speech import assets

AUDIO_DIR = Path(__file__).resolve().parents[1] / "audio"
RATE = 16000  # Hz
STANDARD_CLIPS = {"short_audio.wav": 147.0, "long_audio.wav": 735.0}  # seconds: 4.7 MB and 23.5 MB

FILTER_TAPS = 257  # at 48 kHz: passes up to 7 kHz, and is 60 dB down above 8 kHz, the highest that 16 kHz can hold
FILTER_CUTOFF_HZ = 7400.0


@functools.lru_cache(maxsize=1)
def recording() -> npt.NDArray[np.int16]:
    """44 s of read text at 16 kHz (Dickens, from the recogniser's package, where it is at 48 kHz)."""
    with wave.open(str(assets() / "two_cities.wav"), "rb") as audio:
        rate = audio.getframerate()
        samples = np.frombuffer(audio.readframes(audio.getnframes()), dtype="<i2")
    filtered = np.convolve(samples, low_pass(FILTER_CUTOFF_HZ / rate), mode="same")
    return np.clip(np.rint(filtered[:: rate // RATE]), -32768, 32767).astype(np.int16)


def low_pass(cutoff: float) -> npt.NDArray[np.float64]:
    """A windowed-sinc filter; `cutoff` is a fraction of the sampling rate."""
    offsets = np.arange(FILTER_TAPS) - (FILTER_TAPS - 1) / 2
    taps = np.sinc(2 * cutoff * offsets) * np.blackman(FILTER_TAPS)
    return np.asarray(taps / taps.sum(), dtype=np.float64)


def build_clip(path: Path, seconds: float) -> Path:
    """Write a clip of that length, whole or not at all."""
    samples = np.resize(recording(), round(seconds * RATE))  # resize repeats
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    with wave.open(str(unfinished), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(RATE)
        clip.writeframes(samples.astype("<i2").tobytes())
    return unfinished.replace(path)


def clip_argument(text: str) -> tuple[float, Path]:
    seconds, _, path = text.partition(":")
    if not path or not seconds.replace(".", "", 1).isdigit() or float(seconds) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not SECONDS:PATH, for example 12:tests/audio/clip.wav")
    return float(seconds), Path(path)


def main(argv: Sequence[str] | None = None) -> int:
    cli = argparse.ArgumentParser(prog="asr_service.audio", description="Make clips of real speech (16 kHz mono WAV).")
    cli.add_argument(
        "--clip",
        type=clip_argument,
        action="append",
        metavar="SECONDS:PATH",
        help="may repeat; without it the standard clips are made in tests/audio",
    )
    standard = [(seconds, AUDIO_DIR / name) for name, seconds in STANDARD_CLIPS.items()]
    for seconds, path in cli.parse_args(argv).clip or standard:
        build_clip(path, seconds)
        print(f"{path}: {seconds:g} s, {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
