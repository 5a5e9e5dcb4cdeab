"""The bank through the real `openai` client: everything that a client of vLLM expects, by adapter name."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from serve.client import BankClient, BankError
from tests.e2e.conftest import ADMIN_KEY, API_KEY, BASE, Server, demo
from tests.e2e.traffic import PROMPT, client, complete

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def served(server: Server, bank: BankClient) -> Server:
    bank.register(demo("math", with_rows=False))
    bank.register(demo("safety"))
    for name in ("math", "safety"):
        bank.wait_until_served(name)
    return server


def test_every_surface_answers_by_the_name_that_was_asked_for(served: Server) -> None:
    api = client(served)
    module = served.bank.get("/bank/adapters/math")["module"]
    assert module.startswith("separate-")

    chat = api.chat.completions.with_raw_response.create(
        model="math", messages=QUESTION, max_tokens=8, temperature=0, logprobs=True, top_logprobs=2
    )
    assert chat.headers["x-mergeprobe-module"] == module
    answer = chat.parse()
    assert answer.model == "math"
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2

    chunks = list(
        api.chat.completions.create(model="math", messages=QUESTION, max_tokens=8, temperature=0, stream=True)
    )
    assert {chunk.model for chunk in chunks} == {"math"}
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == answer.choices[0].message.content

    prompt = PROMPT.format("Ana has 7 shells and gives away 4. How many are left?")
    for stream in (False, True):
        reply = complete(api, "math", prompt, stream)
        assert reply.models == {"math"}
        assert reply.module == module
        assert reply.text.strip() == "3"
    assert complete(api, f"{BASE}:math", prompt).models == {f"{BASE}:math"}
    assert complete(api, f"{BASE}:math", prompt).module == module
    base = complete(api, BASE, prompt)
    assert (base.models, base.module) == ({BASE}, "")

    scored = api.completions.create(
        model="math", prompt=prompt, max_tokens=1, logprobs=3, extra_body={"prompt_logprobs": 1}
    )
    assert len(scored.choices[0].logprobs.top_logprobs[0]) == 3

    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    structured = api.chat.completions.create(
        model="math",
        messages=[{"role": "user", "content": 'Where is the Louvre? Answer like {"city": "Rome"}'}],
        max_tokens=60,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema}},
        extra_body={"repetition_penalty": 1.2},  # a small model may repeat blanks, which JSON allows, for ever
    )
    assert json.loads(structured.choices[0].message.content)["city"] in {"Paris", "Rome"}


def test_models_are_listed_and_retrieved_with_what_serves_them(served: Server) -> None:
    api = client(served)
    listed = {model.id: model for model in api.models.list()}
    assert set(listed) == {BASE, "math", "safety"}
    told = listed["safety"].model_extra["mergeprobe"]
    assert told["placement"] == "protected"
    assert told["protected"] is True
    assert told["predicted_retention"] is told["lower_bound"] is told["measured_retention"] is None
    assert told["module"].startswith("separate-")
    assert told["epoch"] >= 1
    for name in (BASE, "math", "safety", f"{BASE}:math"):
        assert api.models.retrieve(name).id == name.rpartition(":")[2]
    assert api.models.retrieve("math").model_extra["mergeprobe"] == listed["math"].model_extra["mergeprobe"]
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("nobody")


@pytest.mark.parametrize("name", ["nobody", "separate-0000000000000000", f"{BASE}:nobody", "the-module-of-math"])
def test_an_unknown_name_is_404_and_never_the_base(served: Server, name: str) -> None:
    if name == "the-module-of-math":
        name = served.bank.get("/bank/adapters/math")["module"]
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as caught:
            complete(client(served), name, "hello", stream)
        assert set(caught.value.response.json()["error"]) >= {"message", "type", "param", "code"}


def test_each_plane_wants_its_own_key(served: Server) -> None:
    for key in ("none", ADMIN_KEY):
        with pytest.raises(openai.AuthenticationError) as caught:
            client(served, key).models.list()
        assert caught.value.response.headers["www-authenticate"] == "Bearer"
        assert caught.value.code == "invalid_api_key"
    missing = httpx.get(f"{served.url}/v1/models")
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_api_key")
    for key in (None, API_KEY):
        with BankClient(served.url, key) as stranger, pytest.raises(BankError) as refused:
            stranger.get("/bank/adapters")
        assert refused.value.status == 401
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        answer = httpx.post(f"{served.url}{path}", headers={"Authorization": f"Bearer {API_KEY}"}, json={})
        assert answer.status_code == 401
    assert httpx.get(f"{served.url}/health").status_code == 200
    assert httpx.get(f"{served.url}/bank/health").status_code == 200


def test_vllm_s_own_routes_load_and_unload(server: Server, bank: BankClient) -> None:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    body = {"lora_name": "dropped-in", "lora_path": demo("math")["source"]}
    loaded = httpx.post(f"{server.url}/v1/load_lora_adapter", headers=admin, json=body, timeout=120)
    assert (loaded.status_code, loaded.text) == (200, "Success: LoRA adapter 'dropped-in' added successfully.")
    assert complete(client(server), "dropped-in", "hello").models == {"dropped-in"}
    unload = {"lora_name": "dropped-in"}
    gone = httpx.post(f"{server.url}/v1/unload_lora_adapter", headers=admin, json=unload, timeout=120)
    assert (gone.status_code, gone.text) == (200, "Success: LoRA adapter 'dropped-in' removed successfully.")
    with pytest.raises(openai.NotFoundError):
        complete(client(server), "dropped-in", "hello")
    outside = {"lora_name": "x", "lora_path": "/etc"}
    wrong = httpx.post(f"{server.url}/v1/load_lora_adapter", headers=admin, json=outside)
    assert wrong.status_code == 400
