"""The library's front door: every public name is there, and none is paid for before it is used."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import probe
from tests import tiny

README = Path(__file__).parents[2] / "README.md"


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


def test_the_readmes_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    [example] = [block for block in blocks if "from probe import" in block]
    for seed, name in enumerate(("math", "code")):
        tiny.write_adapter(tmp_path / name, seed=seed)
    monkeypatch.chdir(tmp_path)
    callbacks: list[object] = []
    exec(example, {"trainer": SimpleNamespace(add_callback=callbacks.append)})
    assert "subspace collision" in capsys.readouterr().out
    assert probe.read_adapter(tmp_path / "both").rank <= 16
    assert isinstance(callbacks[0], probe.MergeProbeCallback)
