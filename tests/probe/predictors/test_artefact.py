"""A predictor as a folder: bit for bit what was fitted, refused where it is not, and read without torch."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from probe.bank.records import Records
from probe.predictors.artefact import (
    CALIBRATION_FILE,
    CARD_FILE,
    NARROW_FILES,
    SCHEMA_FILE,
    SETS_FILE,
    WIDE_FILES,
    ArtefactMissing,
    DamagedArtefact,
)
from probe.predictors.fitting import fit, records_hash, write_predictor
from probe.predictors.forecast import Merge, MergeRecipe, SchemaMismatch
from probe.predictors.predictor import Predictor
from probe.vectors import SCHEMA_VERSION
from tests.planted_bank import Planting, Truth, planted_bank
from tests.probe.predictors.small import OPTIONS, evidence_of

ROOT = Path(__file__).parents[3]
MEMBERS = ("code-1", "instruction-0", "math-3")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewritten(folder: Path, name: str, change: dict[str, object]) -> None:
    """Change fields of a file of the folder, and its hash on the card."""
    fields = json.loads((folder / name).read_text()) | change
    (folder / name).write_text(json.dumps(fields))
    card = json.loads((folder / CARD_FILE).read_text())
    card["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / CARD_FILE).write_text(json.dumps(card))


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return shutil.copytree(folder, tmp_path / "own")


def test_a_predictor_comes_back_bit_for_bit(
    planted: tuple[Records, Truth], fitted: Predictor, folder: Path, tmp_path: Path
) -> None:
    again = Predictor.load(folder)
    evidence = evidence_of(planted[0], MEMBERS)
    merges = [Merge(MEMBERS[:size], MergeRecipe(operator)) for size in (2, 3) for operator in ("ta", "pico")]
    assert again.forecast(merges, evidence) == fitted.forecast(merges, evidence)
    assert again.gain(evidence.adapters[MEMBERS[0]]) == fitted.gain(evidence.adapters[MEMBERS[0]])
    assert again.card == fitted.card
    write_predictor(tmp_path / "second", again)
    assert content(tmp_path / "second") == content(folder)


def test_the_card_says_what_it_was_fitted_on(planted: tuple[Records, Truth], folder: Path) -> None:
    card = Predictor.load(folder).card
    assert card.records_hash == records_hash(planted[0])
    assert card.date == "2026-11-03"
    assert card.num_adapters == 20
    assert card.num_pair_labels == 2 * 190 * 2
    assert card.num_set_merges == 2 * 20
    assert set(card.revisions) == {one.revision for one in planted[0].adapters}
    assert {one.kind for one in card.metrics} == {"pairs", "sets"}


def test_equal_records_have_equal_hashes() -> None:
    first, again, other = (planted_bank(Planting(per_domain=1, seed=seed))[0] for seed in (0, 0, 1))
    assert records_hash(first) == records_hash(again) != records_hash(other)


def test_no_folder_is_told_from_a_damaged_one(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactMissing, match="mergeprobe fit"):
        Predictor.load(tmp_path / "nothing")
    (own / WIDE_FILES[0]).unlink()
    with pytest.raises(DamagedArtefact, match=f"{WIDE_FILES[0]} is missing"):
        Predictor.load(own)


@pytest.mark.parametrize("name", [SCHEMA_FILE, *WIDE_FILES, *NARROW_FILES, SETS_FILE, CALIBRATION_FILE])
def test_a_file_that_is_not_what_was_written_is_found(own: Path, name: str) -> None:
    spoilt = bytearray((own / name).read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    (own / name).write_bytes(bytes(spoilt))
    with pytest.raises(DamagedArtefact, match=rf"{name} has the sha256"):
        Predictor.load(own)


@pytest.mark.parametrize("name", [*WIDE_FILES, *NARROW_FILES, SETS_FILE, CALIBRATION_FILE])
def test_a_file_that_makes_no_sense_is_an_error_of_ours(own: Path, name: str) -> None:
    (own / name).write_text("{}")
    card = json.loads((own / CARD_FILE).read_text())
    card["files"][name] = hashlib.sha256(b"{}").hexdigest()
    (own / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(DamagedArtefact, match=name):
        Predictor.load(own)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {}}', "not JSON"])
def test_a_spoilt_card_is_an_error_of_ours(own: Path, text: str) -> None:
    (own / CARD_FILE).write_text(text)
    with pytest.raises(DamagedArtefact, match=CARD_FILE):
        Predictor.load(own)


@pytest.mark.parametrize("change", [{"version": SCHEMA_VERSION + 1}, {"format": 99}])
def test_another_schema_is_refused(own: Path, change: dict[str, object]) -> None:
    rewritten(own, SCHEMA_FILE, change)
    with pytest.raises(SchemaMismatch, match="fit again"):
        Predictor.load(own)


def test_an_unfinished_folder_is_not_read(own: Path, fitted: Predictor) -> None:
    """The card is written last: without it there is no predictor, whatever else is there."""
    (own / CARD_FILE).unlink()
    with pytest.raises(ArtefactMissing):
        Predictor.load(own)
    write_predictor(own, fitted)
    assert Predictor.load(own).card == fitted.card


FORECAST = """
import sys
import numpy as np
from pathlib import Path
from probe.predictors.forecast import AdapterEvidence, Evidence, Merge, MergeRecipe
from probe.predictors.predictor import Predictor
from probe.vectors import Features, PairFeatures

heavy = {"torch", "pandas", "sklearn", "xgboost"} & set(sys.modules)
assert not heavy, heavy
predictor = Predictor.load(Path(sys.argv[1]))
schema, names = predictor.artefact.schema, ("a", "b", "c")
part = lambda columns: Features(np.linspace(0, 1, len(columns)), {})
pair = PairFeatures(part(schema.directed), part(schema.directed), part(schema.symmetric))
evidence = Evidence(
    {name: AdapterEvidence(part(schema.adapter).values, 1.0) for name in names},
    {("a", "b"): pair, ("a", "c"): pair, ("b", "c"): pair},
)
found = predictor.forecast([Merge(names[:2], MergeRecipe("ta")), Merge(names, MergeRecipe("ta"))], evidence)
assert predictor.gain(evidence.adapters["a"]) < 2
assert "torch" not in sys.modules
print(len(found))
"""


def test_forecasts_need_no_torch(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORECAST, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"]


def test_a_fit_without_sets_and_gains_is_written_and_read(tmp_path: Path) -> None:
    records, _ = planted_bank(Planting(per_domain=2, operators=("ta",), rhos=()))
    predictor = fit(records, OPTIONS)
    write_predictor(tmp_path, predictor)
    again = Predictor.load(tmp_path)
    assert again.artefact.sets.layers == {}
    assert again.artefact.set_calibration == {}
    members = ("code-0", "math-1", "science-0")
    (found,) = again.forecast([Merge(members, MergeRecipe("ta"))], evidence_of(records, members))
    assert found.worst_lower_bound == -float("inf")
