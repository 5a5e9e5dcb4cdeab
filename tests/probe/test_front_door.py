"""The library's front door: every public name is there, and none is paid for before it is used."""

import subprocess
import sys

import pytest

import probe


@pytest.mark.parametrize("name", probe.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(probe, name) is not None
    assert name in dir(probe) or hasattr(probe, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'magic'"):
        probe.magic  # noqa: B018


def test_records_do_not_pay_for_torch() -> None:
    code = "import sys, probe.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
