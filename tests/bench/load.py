"""The load: the same prompts to either server, over HTTP, as a block of parallel clients and a single client."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

TIMEOUT_SECONDS = 300.0
MODEL = "math"
PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
QUESTION = "Ana has {} shells, finds {} more and gives away {}. How many are left?"


class LoadError(RuntimeError):
    """A server did not answer as asked; the message has its words."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked in one block."""

    num_requests: int
    num_clients: int
    num_single: int
    """Requests after those, one at a time."""
    num_tokens: int
    """Tokens generated a request, no more and no fewer."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one block took; latencies in the order in which the requests ended."""

    seconds: float
    num_tokens: int
    latencies_seconds: tuple[float, ...]
    single_seconds: tuple[float, ...]

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds


def prompts(count: int, seed: str) -> list[str]:
    """Return prompts that differ in their numbers only, so that all are equally long and share one cached beginning.

    Every number has three digits; the same seed gives the same prompts.
    """
    drawn = random.Random(seed)
    return [PROMPT.format(QUESTION.format(*(drawn.randint(100, 999) for _ in range(3)))) for _ in range(count)]


def run_block(url: str, load: Load, seed: str) -> Measured:
    """Ask one server one block: `num_clients` at once until `num_requests` are answered, then one after the other."""
    return asyncio.run(_block(url, load, prompts(load.num_requests + load.num_single, seed)))


def greedy_text(url: str, prompt: str, num_tokens: int) -> str:
    """Return the greedy completion of one prompt, ending where the model ends it."""
    answer = httpx.post(f"{url}/v1/completions", json=_body(prompt, num_tokens), timeout=TIMEOUT_SECONDS)
    return str(_checked(answer).json()["choices"][0]["text"])


async def _block(url: str, load: Load, asked: Sequence[str]) -> Measured:
    limits = httpx.Limits(max_connections=load.num_clients)
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, limits=limits) as http:
        waiting, latencies = iter(asked[: load.num_requests]), []
        began = time.perf_counter()
        clients = [_client(http, waiting, load.num_tokens, latencies) for _ in range(load.num_clients)]
        await asyncio.gather(*clients)
        seconds = time.perf_counter() - began
        singles: list[float] = []
        await _client(http, iter(asked[load.num_requests :]), load.num_tokens, singles)
    return Measured(seconds, load.num_requests * load.num_tokens, tuple(latencies), tuple(singles))


async def _client(http: httpx.AsyncClient, waiting: Iterator[str], num_tokens: int, latencies: list[float]) -> None:
    for prompt in waiting:
        began = time.perf_counter()
        answer = await http.post("/v1/completions", json={**_body(prompt, num_tokens), "ignore_eos": True})
        latencies.append(time.perf_counter() - began)
        generated = _checked(answer).json()["usage"]["completion_tokens"]
        if generated != num_tokens:
            raise LoadError(f"{answer.url} generated {generated} tokens, asked were {num_tokens}")


def _body(prompt: str, num_tokens: int) -> dict[str, object]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": num_tokens, "temperature": 0}


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise LoadError(f"{answer.url} answered {answer.status_code}: {answer.text[:300]}")
    return answer
