"""A small speech server of the OpenAI shape that computes on a GPU with PyTorch: `uvicorn e2e.gpu_server:app`.

What it recognises is how long a wav is. Environment: GPU_LEAK_MB is kept on the GPU with every task, GPU_TASK_MB is
needed while one runs, GPU_LIMIT_MB is all that the process may take.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import wave
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import torch

MIB = 2**20
WIDTH = 2048
ROUNDS = 300  # of a task: some tenths of a second

Message = MutableMapping[str, Any]


def amount(name: str) -> int:
    return int(os.environ.get(name, "0")) * MIB


def taken(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, device="cuda")


if amount("GPU_LIMIT_MB"):
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(amount("GPU_LIMIT_MB") / whole)
weights = torch.randn(WIDTH, WIDTH, device="cuda") / WIDTH**0.5
kept: list[torch.Tensor] = []


def recognise(body: bytes) -> str:
    """Raises torch.OutOfMemoryError."""
    with wave.open(io.BytesIO(body[body.index(b"RIFF"):])) as audio:
        seconds = audio.getnframes() / audio.getframerate()
        samples = torch.frombuffer(bytearray(audio.readframes(audio.getnframes())), dtype=torch.int16)
    scratch = taken(amount("GPU_TASK_MB"))
    heard = torch.stft(samples.to("cuda", torch.float32), 400, window=torch.hann_window(400, device="cuda"),
                       return_complex=True).abs().mean()
    state = torch.randn(WIDTH, WIDTH, device="cuda")
    for _ in range(ROUNDS):
        state = torch.tanh(state @ weights)
    torch.cuda.synchronize()
    if amount("GPU_LEAK_MB"):
        kept.append(taken(amount("GPU_LEAK_MB")))
    del scratch
    return f"{seconds:.2f} seconds of speech, {float(heard + state.mean()) > 0}"


def answer(body: bytes) -> tuple[int, dict[str, Any]]:
    try:
        return 200, {"text": recognise(body)}
    except torch.OutOfMemoryError as error:
        return 500, {"error": {"message": str(error), "type": "server_error"}}


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    status, content = await asyncio.to_thread(answer, body) if scope["method"] == "POST" else (200, {})
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
