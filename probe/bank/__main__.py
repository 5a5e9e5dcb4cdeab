"""Build a bank from the shell: ``python -m probe.bank demo OUT --base FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from probe.bank.build import BuiltAdapter, build_bank
from probe.bank.presets import PRESETS
from probe.embedded import export_embedded_base
from probe.records import MergeProbeError


def main() -> int:
    """Build, print one line an adapter, and return 1 if any of them may not ship."""
    parser = argparse.ArgumentParser(prog="python -m probe.bank", description=__doc__)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("out", type=Path, help="folder for the adapters; what it holds is kept")
    parser.add_argument("--base", type=Path, help="folder of the base model (default: the embedded one, in OUT/.base)")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="build these adapters (default: all)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        base = options.base or export_embedded_base(options.out / ".base")
        preset = PRESETS[options.preset]
        built = build_bank(preset, options.out, base, options.device, _show, options.only)
    except MergeProbeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.writelines(_line(adapter) for adapter in built)
    return 1 if any(adapter.gate_failures for adapter in built) else 0


def _show(name: str, activity: str, share: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{name}: {activity} {share:4.0%} ")


def _line(adapter: BuiltAdapter) -> str:
    scores = adapter.scores
    verdict = "; ".join(adapter.gate_failures) or "ships"
    return (
        f"{adapter.recipe.name:16} base {scores.base.value:.3f}  single {scores.single.value:.3f}  "
        f"gain {scores.gain.value:+.3f} +- {scores.gain.standard_error:.3f}  {verdict}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
