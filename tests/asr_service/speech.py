"""Speech recognition: a WAV file in, words out."""

from __future__ import annotations

import functools
import importlib.util
import wave
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Unsigned bytes, and signed little-endian integers: the sample formats of PCM WAV that numpy can read directly.
SAMPLE_TYPES = {1: ("<u1", 128.0, 128.0), 2: ("<i2", 0.0, 32768.0), 4: ("<i4", 0.0, 2147483648.0)}

# Without it the recogniser's voice detection still hears the cut-off end of one clip at the start of the next.
CLOSING_SILENCE_S = 0.5


class CannotDecode(Exception):
    """The upload is not audio this service can read."""


def assets() -> Path:
    """The folder with the model and recorded speech that come inside the moonshine_voice package."""
    spec = importlib.util.find_spec("moonshine_voice")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the package moonshine-voice is missing: pip install -r tests/asr_service/requirements.txt"
        )
    return Path(spec.submodule_search_locations[0]) / "assets"


def read_wav(file: BinaryIO) -> tuple[list[float], int]:
    """Samples of a PCM WAV file, mixed to one channel, between -1 and 1, and their rate in Hz."""
    try:
        with wave.open(file, "rb") as audio:
            rate, channels, width = audio.getframerate(), audio.getnchannels(), audio.getsampwidth()
            frames = audio.readframes(audio.getnframes())
        kind, zero, full_scale = SAMPLE_TYPES[width]
    except (wave.Error, EOFError) as error:
        raise CannotDecode(f"not a PCM WAV file, which is all this small service decodes ({error})") from error
    except KeyError as error:
        raise CannotDecode(f"WAV with {error.args[0]} bytes per sample is not supported, use 16-bit") from error
    samples = np.frombuffer(frames, dtype=kind).reshape(-1, channels)
    mono = (samples.mean(axis=1, dtype=np.float32) - zero) / full_scale
    return mono.tolist(), rate


@functools.lru_cache(maxsize=1)
def recognizer() -> Any:
    """The loaded model. Kept for the life of the process on purpose: loading it takes longer than a short clip.

    It is held once however many tasks come, which is growth at first use and not a leak.
    """
    # Imported here because the API and the tests read this module without needing the model.
    from moonshine_voice import ModelArch
    from moonshine_voice.transcriber import Transcriber

    return Transcriber(str(assets() / "tiny-en"), ModelArch.TINY)


def recognize(samples: list[float], rate: int) -> str:
    silence = [0.0] * round(rate * CLOSING_SILENCE_S)
    transcript = recognizer().transcribe_without_streaming(samples + silence, rate)
    return " ".join(line.text.strip() for line in transcript.lines)
