"""Flips under load: no request fails, and every answer is its own module's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from serve.client import BankClient
from tests.e2e.conftest import Server, demo
from tests.e2e.traffic import PROMPT, client, complete

CONTENTS = ("code", "instruction")
PROMPTS = tuple(
    PROMPT.format(question)
    for question in (
        "What is 3 and 4?",
        "Name a metal.",
        "Write a sentence about rain.",
        "What is the capital of France?",
    )
)
NUM_REQUESTS, NUM_FLIPS, MAX_IN_FLIGHT = 200, 5, 16


def test_five_flips_over_two_hundred_requests(server: Server, bank: BankClient) -> None:
    for content in CONTENTS:
        bank.register(demo(f"own-{content}", content, with_rows=False))
    bank.register(demo("flipping", CONTENTS[0], with_rows=False))
    modules = {content: bank.wait_until_served(f"own-{content}")["module"] for content in CONTENTS}
    assert bank.wait_until_served("flipping")["module"] == modules[CONTENTS[0]], "equal content shares a module"

    api = client(server)
    own = {
        (modules[content], prompt): complete(api, f"own-{content}", prompt).text
        for content in CONTENTS
        for prompt in PROMPTS
    }
    assert all(own[modules[CONTENTS[0]], prompt] != own[modules[CONTENTS[1]], prompt] for prompt in PROMPTS[:1])

    epoch = bank.get("/bank")["epoch"]
    with ThreadPoolExecutor(MAX_IN_FLIGHT) as pool:
        running = [
            pool.submit(complete, api, "flipping", PROMPTS[number % len(PROMPTS)], number % 2 == 0)
            for number in range(NUM_REQUESTS)
        ]
        for flip in range(1, NUM_FLIPS + 1):
            bank.register(demo("flipping", CONTENTS[flip % 2], with_rows=False))
            assert bank.wait_until_served("flipping")["module"] == modules[CONTENTS[flip % 2]]
        replies = [one.result() for one in running]  # raises whatever a request raised

    assert bank.get("/bank")["epoch"] == epoch + NUM_FLIPS
    for number, reply in enumerate(replies):
        assert reply.models == {"flipping"}
        assert reply.text == own[reply.module, PROMPTS[number % len(PROMPTS)]], f"request {number} by {reply.module}"
    assert {reply.module for reply in replies} == set(modules.values())
    after = complete(api, "flipping", PROMPTS[0])
    assert (after.module, after.text) == (modules[CONTENTS[1]], own[modules[CONTENTS[1]], PROMPTS[0]])
