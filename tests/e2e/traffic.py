"""Requests to the live bank, one by one or as steady traffic in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import openai

from tests.e2e.conftest import API_KEY, Server

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@cache
def client(server: Server, key: str = API_KEY) -> openai.OpenAI:
    """Return the one client of a key; `close_clients` closes them all."""
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=180)
    _CLIENTS.append(api)
    return api


_CLIENTS: list[openai.OpenAI] = []


def close_clients() -> None:
    for api in _CLIENTS:
        api.close()


@dataclass(frozen=True)
class Reply:
    """A finished completion: the text, the `model` of the answer (of every chunk), and the module header."""

    text: str
    models: frozenset[str]
    module: str


def complete(api: openai.OpenAI, model: str, prompt: str, stream: bool = False, max_tokens: int = 16) -> Reply:
    asked = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    if not stream:
        raw = api.completions.with_raw_response.create(**asked)
        answer = raw.parse()
        return Reply(answer.choices[0].text, frozenset({answer.model}), raw.headers.get("x-mergeprobe-module", ""))
    with api.completions.with_streaming_response.create(**asked, stream=True) as raw:
        chunks = list(raw.parse())
        text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
        return Reply(text, frozenset(chunk.model for chunk in chunks), raw.headers.get("x-mergeprobe-module", ""))


@dataclass
class Traffic:
    """What steady traffic saw."""

    replies: list[Reply] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def steady_traffic(server: Server, models: Sequence[str], num_clients: int = 2) -> Iterator[Traffic]:
    """Ask the given models in turn, without a pause, until the block ends."""
    traffic, stop = Traffic(), threading.Event()

    def ask(number: int) -> None:
        api = client(server)
        while not stop.is_set():
            for index, model in enumerate(models):
                stream = (index + number) % 2 == 0
                try:
                    traffic.replies.append(complete(api, model, PROMPT.format("What is 2 and 3?"), stream, 6))
                except Exception as error:  # every failure is what the tests are about
                    traffic.failures.append(f"{model}: {error!r}")

    with ThreadPoolExecutor(num_clients) as pool:
        running = [pool.submit(ask, number) for number in range(num_clients)]
        try:
            yield traffic
        finally:
            stop.set()
            for one in running:
                one.result()
