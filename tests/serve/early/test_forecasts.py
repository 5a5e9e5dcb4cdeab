"""`POST /bank/forecast`: what a bank answers of an adapter in training, what it refuses, and that nothing stays."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from probe.forecasting.comparison import Comparison
from probe.records import MergeProbeError
from probe.rows import Row, write_rows
from router.intake import Registration
from router.sources import SourceError, fetch_file
from serve.admin import admin_app
from serve.early.forecasts import EarlyComparison
from serve.early.source import MAX_CHECKPOINTS
from serve.errors import TYPES
from serve.limited.task import NoRoom, TaskCrashed, TaskOutOfMemory, TaskTimedOut
from tests import tiny
from tests.probe.forecasting.seen import predictor_folder, write_bundle, write_checkpoint, write_zero
from tests.probe.test_reference import write_character_base
from tests.serve.bank import TinyBank

ROWS = [{"prompt": f"<|im_start|>{number}<|im_end|>", "answer": str(number), "scorer": "forced"} for number in range(6)]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return predictor_folder(tmp_path_factory.mktemp("fitted") / "predictor")


@pytest.fixture
def bank(tmp_path: Path, predictor: Path) -> Iterator[TinyBank]:
    bank = TinyBank(tmp_path, overrides={"policy__predictor": str(predictor)})
    for name, domain in (("art", "math"), ("code", "code"), ("safety", "safety")):
        bank.register(name, domain=domain)
    unproven = tiny.write_adapter(bank.folder / "unproven", seed=77)
    bank.bank.registrar.register(Registration("unproven", str(unproven)), None)
    yield bank
    bank.registry.close()


def ask(client: TestClient, source: Path | str, **fields: object) -> dict[str, Any]:
    answer = client.post("/bank/forecast", json={"source": str(source), **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_bundle_is_forecast_beside_every_mergeable_adapter_and_nothing_stays(
    bank: TinyBank, client: TestClient
) -> None:
    bundle, before = write_bundle(bank.folder / "mine"), (bank.state(), bank.registry.events(100))
    told = ask(client, bundle)
    assert told["adapter"]["name"] == "mine"
    assert (told["adapter"]["rho"], told["adapter"]["checkpoints"]) == (0.05, [0.02, 0.05])
    assert (told["adapter"]["domain"], told["adapter"]["rank"]) == ("math", 4)
    assert {one["adapter"] for one in told["partners"]} == {"art", "code"}
    assert set(told["left_out"]) == {"safety", "unproven"}
    for one in told["partners"]:
        assert one["signals"] == "no calibration" or one["signals"] == "weights only"
        assert [(recipe["operator"], recipe["norm"]) for recipe in one["recipes"]] == [
            ("mean", "none"),
            ("mean", "mean_source"),
            ("ta", "none"),
        ]
        assert 0 <= one["safe_probability"] <= 1
        assert one["sentence"].startswith("Merged by")
    assert told["most_conflicting"] in {"art", "code"}
    assert 0 < told["predicted_gain"] < 2
    assert told["action"]["action"] in {"merge", "reweight", "prune", "route"}
    assert told["action"]["reason"].startswith("mine: ")
    warned = any("only a measurement can show" in sentence for sentence in told["sentences"])
    assert warned == told["action"]["needs_measuring"]
    assert told["advice"] == [] or all(one["retention"]["low"] > 0 for one in told["advice"])
    assert (bank.state(), bank.registry.events(100)) == before
    assert list((bank.config.store / "staging").iterdir()) == []


def test_a_newer_training_of_a_known_adapter_is_told_apart_from_it(bank: TinyBank, client: TestClient) -> None:
    told = ask(client, write_bundle(bank.folder / "again" / "art"))
    assert told["adapter"]["name"] == "art (new)"
    assert {one["adapter"] for one in told["partners"]} == {"art", "code"}
    assert told["action"]["reason"].startswith("art (new): ")


def test_a_store_that_does_not_answer_is_not_a_checkpoint_without_a_state(
    bank: TinyBank, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(source: str, *where: Any) -> None:
        if source.endswith("trainer_state.json"):
            raise SourceError(f"Source {source!r} cannot be read (TimeoutError).")
        fetch_file(source, *where)

    monkeypatch.setattr("serve.early.source.fetch_file", fetch)
    answer = client.post("/bank/forecast", json={"source": str(write_checkpoint(bank.folder / "slow"))})
    assert answer.status_code == 400
    assert "TimeoutError" in answer.json()["error"]["message"]


def test_a_checkpoint_tells_how_far_it_is_and_may_be_told(bank: TinyBank, client: TestClient) -> None:
    place = write_checkpoint(bank.folder / "checkpoint-7", 7)
    assert ask(client, place)["adapter"]["rho"] == 0.07
    told = ask(client, f"{place}/", rho=0.5, domain="science")
    assert (told["adapter"]["rho"], told["adapter"]["domain"]) == (0.5, "science")
    assert told["adapter"]["name"] == "checkpoint-7"


def test_a_candidate_of_a_protected_domain_stays_separate(bank: TinyBank, client: TestClient) -> None:
    told = ask(client, write_checkpoint(bank.folder / "mine"), domain="safety")
    assert told["action"]["action"] == "route"
    assert "protected" in told["action"]["reason"]


def test_rows_may_be_sent_named_or_lie_beside_and_narrow_what_is_unknown(tmp_path: Path, predictor: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"policy__predictor": str(predictor)})
    # A base that reads text; its modules have the shapes of the one that was there.
    write_character_base(bank.folder / "base")
    rows = bank.folder / "rows.jsonl"
    write_rows(rows, [Row(**row) for row in ROWS])
    for name in ("art", "code"):
        bank.register(name, domain="math", calibration=str(rows))
    place = write_bundle(bank.folder / "mine")
    client = bank.client()
    without = ask(client, place)
    assert {one["conflict"]["is_fisher_weighted"] for one in without["partners"]} == {False}
    sent, named = ask(client, place, calibration=ROWS), ask(client, place, calibration=str(rows))
    assert sent == named
    assert {one["conflict"]["is_fisher_weighted"] for one in sent["partners"]} == {True}
    assert {one["signals"] for one in sent["partners"]} != {one["signals"] for one in without["partners"]}
    write_rows(place / "calibration.jsonl", [Row(**row) for row in ROWS])
    assert ask(client, place) == sent
    bank.registry.close()


def test_the_work_and_what_comes_of_it_pass_between_processes(bank: TinyBank, client: TestClient) -> None:
    """As they do where a worker measures."""
    passed: list[bytes] = []

    def elsewhere(work: EarlyComparison) -> Comparison:
        passed.append(pickle.dumps(work))
        found: Comparison = pickle.loads(pickle.dumps(pickle.loads(passed[0])(bank.place)))
        return found

    place = write_bundle(bank.folder / "mine")
    assert answer_of(bank, place, elsewhere).json() == ask(client, place)
    assert "beside 2 adapters" in str(pickle.loads(passed[0]))


def rows_file(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text(text)
    return str(folder / "rows.jsonl")


def damaged(folder: Path, **changes: object) -> dict[str, Any]:
    """Return the body for a bundle whose record was changed."""
    bundle = write_bundle(folder / "bundle")
    record = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(record | changes))
    return {"source": str(bundle)}


def escaping(folder: Path) -> dict[str, Any]:
    bundle = write_bundle(folder / "bundle")
    record = json.loads((bundle / "bundle.json").read_text())
    record["checkpoints"][0]["folder"] = "../../../state"
    (bundle / "bundle.json").write_text(json.dumps(record))
    return {"source": str(bundle)}


def crowded(folder: Path) -> dict[str, Any]:
    bundle = write_bundle(folder / "bundle")
    record = json.loads((bundle / "bundle.json").read_text())
    record["checkpoints"] *= MAX_CHECKPOINTS
    (bundle / "bundle.json").write_text(json.dumps(record))
    return {"source": str(bundle)}


def linked(folder: Path) -> dict[str, Any]:
    """Return the body for a bundle of which a part leads out of the roots."""
    bundle = write_bundle(folder / "bundle")
    outside = Path("/etc/hostname")
    (bundle / "bundle.json").unlink()
    (bundle / "bundle.json").symlink_to(outside)
    return {"source": str(bundle)}


CASES: dict[str, tuple[Callable[[Path], dict[str, Any]], int, str | None, str]] = {
    "outside the roots": (lambda folder: {"source": "/etc"}, 400, "source", "forbidden_source"),
    "a link out of the roots": (linked, 400, "source", "forbidden_source"),
    "absent": (lambda folder: {"source": str(folder / "none")}, 400, "source", "malformed"),
    "another base": (
        lambda folder: {"source": str(write_bundle(folder / "b", base_name="org/other"))},
        422,
        "adapter_config.base_model_name_or_path",
        "incompatible",
    ),
    "too large a rank": (
        lambda folder: {"source": str(write_checkpoint(folder / "c", rank=32))},
        422,
        "adapter_config.r",
        "incompatible",
    ),
    "no checkpoint yet": (
        lambda folder: {"source": str(write_bundle(folder / "b", rhos=()))},
        409,
        "source",
        "no_checkpoint_yet",
    ),
    "nothing learnt yet": (
        lambda folder: {"source": str(write_zero(folder / "z"))},
        409,
        "source",
        "no_checkpoint_yet",
    ),
    "a newer bundle": (lambda folder: damaged(folder, schema_version=2), 400, "source", "malformed"),
    "a damaged bundle": (lambda folder: damaged(folder, adapter=1), 400, "source", "malformed"),
    "a record that is no object": (lambda folder: damaged(folder, checkpoints=3), 400, "source", "malformed"),
    "a bundle that leads out of itself": (escaping, 400, "source", "malformed"),
    "too many checkpoints": (crowded, 413, "source", "too_large"),
    "a share for a bundle": (
        lambda folder: {"source": str(write_bundle(folder / "b")), "rho": 0.5},
        400,
        "source",
        "malformed",
    ),
    "a share outside training": (lambda folder: {"source": "x", "rho": 1.5}, 400, "rho", "malformed"),
    "rows that are none": (
        lambda folder: {"source": str(write_checkpoint(folder / "c")), "calibration": rows_file(folder, "{}\n")},
        400,
        "calibration",
        "malformed",
    ),
    "sent rows that are none": (
        lambda folder: {"source": str(write_checkpoint(folder / "c")), "calibration": [{"prompt": "a"}]},
        400,
        "calibration",
        "malformed",
    ),
    "too many rows": (
        lambda folder: {"source": str(write_checkpoint(folder / "c")), "calibration": ROWS * 50},
        413,
        "calibration",
        "too_large",
    ),
    "a domain that is none": (
        lambda folder: {"source": str(write_checkpoint(folder / "c")), "domain": ""},
        400,
        "domain",
        "malformed",
    ),
    "a field too many": (lambda folder: {"source": "x", "name": "y"}, 400, "name", "malformed"),
    "no source": (lambda folder: {}, 400, "source", "malformed"),
}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, predictor: Path) -> Iterator[TinyBank]:
    overrides = {"engine__max_lora_rank": 16, "policy__predictor": str(predictor)}
    bank = TinyBank(tmp_path_factory.mktemp("bank"), overrides=overrides)
    bank.register("kept")
    yield bank
    bank.registry.close()


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_says_why_in_the_envelope_and_changes_nothing(refusing: TinyBank, case: str) -> None:
    prepare, status, param, code = CASES[case]
    folder = refusing.folder / case.replace(" ", "-")
    folder.mkdir()
    body, before = prepare(folder), refusing.state()
    answer = refusing.client().post("/bank/forecast", json=body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == (TYPES[status], param, code)
    assert len(error["message"]) > 15
    assert "staging" not in error["message"], "clients cannot see staging"
    assert refusing.state() == before


def test_a_bank_without_a_predictor_says_so(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path)
    answer = bank.client().post("/bank/forecast", json={"source": str(write_bundle(bank.folder / "mine"))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_predictor")
    assert "policy.predictor is none" in answer.json()["error"]["message"]
    bank.registry.close()


def test_a_bank_without_anybody_to_merge_with_says_so(tmp_path: Path, predictor: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"policy__predictor": str(predictor)})
    answer = bank.client().post("/bank/forecast", json={"source": str(write_bundle(bank.folder / "mine"))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "nobody_to_merge_with")
    bank.registry.close()


def test_the_admin_key_is_asked_for(tmp_path: Path) -> None:
    bank = TinyBank(tmp_path, overrides={"server__admin_key": "secret"})
    assert bank.client().post("/bank/forecast", json={"source": "x"}).status_code == 401
    bank.registry.close()


def test_there_is_one_forecast_at_a_time(refusing: TinyBank) -> None:
    early = refusing.bank.early_forecasts
    with early._turn:
        answer = refusing.client().post("/bank/forecast", json={"source": "x"})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    # A refused one gives its turn back.
    assert refusing.client().post("/bank/forecast", json={"source": "x"}).status_code == 400


@pytest.mark.parametrize(
    ("error", "status"),
    [(NoRoom("no CPU is free"), 503), (TaskTimedOut("too long"), 503), (TaskOutOfMemory("too large"), 413)],
)
def test_a_worker_that_meets_its_limits_is_told(refusing: TinyBank, error: MergeProbeError, status: int) -> None:
    answer = with_worker(refusing, error)
    assert answer.status_code == status
    assert str(error) in answer.json()["error"]["message"]


def test_a_worker_that_crashed_is_an_error_of_the_server(refusing: TinyBank) -> None:
    assert with_worker(refusing, TaskCrashed("lost its worker")).status_code == 500


def with_worker(bank: TinyBank, error: MergeProbeError) -> Any:
    def fail(work: EarlyComparison) -> Comparison:
        raise error

    place = bank.folder / "mine"
    return answer_of(bank, place if place.exists() else write_bundle(place), fail)


def answer_of(bank: TinyBank, source: Path, compare: Callable[[EarlyComparison], Comparison]) -> Any:
    """Return the answer of a bank that has comparisons made in another way."""
    other = replace(bank.bank, early_forecasts=replace(bank.bank.early_forecasts, compare=compare))
    return TestClient(admin_app(other), root_path="/bank").post("/bank/forecast", json={"source": str(source)})
