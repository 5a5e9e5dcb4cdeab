"""What a recipe is known by, today and in the databases of yesterday."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from probe.records import Pruned
from router.records import Recipe
from router.schema import Nested

PLAIN = Recipe(operator="ties", members=("a" * 64, "b" * 64), weights=(0.5, 1 / 3), norm="none", rank=16)
FULL = replace(
    PLAIN,
    weights=((1.0, 0.5, 2.0), 1.0),
    pruned=(Pruned(0, "model.layers.0.self_attn.q_proj"), Pruned(1, "model.layers.1.mlp.up_proj", 2)),
    hyper_parameters=(("density", 0.3),),
    seed=5,
)


def test_the_key_of_a_plain_recipe_is_the_one_that_databases_hold() -> None:
    assert PLAIN.key == "de11b5c90b8cb08aeeebe1e5a9f85ca2a9ac9063c61c7f144b06a801c6f280f3"


@pytest.mark.parametrize("part", ["weights", "pruned", "hyper_parameters", "seed"])
def test_every_part_is_in_the_key(part: str) -> None:
    assert replace(PLAIN, **{part: getattr(FULL, part)}).key != PLAIN.key


def test_equal_recipes_have_equal_keys_and_hashes() -> None:
    again = replace(FULL)
    assert (again.key, hash(again)) == (FULL.key, hash(FULL))


def test_a_recipe_with_every_part_goes_through_a_column_unchanged() -> None:
    column = Nested(Recipe)
    stored = column.process_bind_param(FULL, None)
    assert column.process_result_value(stored, None) == FULL


def test_a_stored_recipe_from_before_there_were_such_parts_is_read() -> None:
    old = {"operator": "ties", "members": list(PLAIN.members), "weights": [0.5, 1 / 3], "norm": "none", "rank": 16}
    assert TypeAdapter(Recipe).validate_python(old) == PLAIN
    assert Nested(Recipe).process_result_value(old, None) == PLAIN
