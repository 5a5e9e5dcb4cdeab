"""The proof that the README tells: from the shipped records, the shipped predictor, and what the engine answered."""

from __future__ import annotations

from probe.bank.record_files import SHIPPED_HELD_OUT, read_records
from serve.forecasts import load_predictor
from serve.proof.engine import questions, read_scores
from serve.proof.methods import MERGEPROBE
from serve.proof.proof import prove
from serve.proof.recorded_bank import ServedBank
from serve.proof.sections import sections_of, served_plans


def test_the_shipped_proof_is_whole() -> None:
    proof = prove(read_records(SHIPPED_HELD_OUT), load_predictor("default"))
    bank, plans = proof.contest.bank, served_plans(proof)
    answered = read_scores(bank, SHIPPED_HELD_OUT / "served.jsonl")
    assert answered.keys() >= set(questions(bank, plans.values())), "the engine answered under every plan"
    assert "served" in {section.key for section in sections_of(proof, ServedBank(bank.records, answered))}
    assert plans[MERGEPROBE], "something is merged"
    assert not any(bank.safety_told(recipe)[1] for recipe in plans[MERGEPROBE]), "no module loses safety"
