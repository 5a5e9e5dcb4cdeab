from __future__ import annotations

import resource

import pytest
import torch

from serve.limited.memory import limited_memory

LIMIT = 32 << 20
TOO_MUCH = 4 << 30  # more than the allocator could have kept free from the tests before


@pytest.mark.parametrize("allocate", [bytearray, lambda size: torch.zeros(size, dtype=torch.uint8)])
def test_what_python_and_torch_ask_for_beyond_the_limit_is_a_memory_error(allocate: type[bytearray]) -> None:
    with pytest.raises(MemoryError), limited_memory(LIMIT):
        allocate(TOO_MUCH)


def test_what_fits_is_given() -> None:
    with limited_memory(TOO_MUCH):
        assert len(bytearray(LIMIT)) == LIMIT


def test_the_limit_ends_with_the_block() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(MemoryError), limited_memory(LIMIT):
        bytearray(TOO_MUCH)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert len(bytearray(TOO_MUCH)) == TOO_MUCH


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="planted"), limited_memory(LIMIT):
        raise RuntimeError("planted")
