"""Build a bank from the shell: ``python -m probe.bank demo OUT --base FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from probe.bank.build import BuiltAdapter
from probe.bank.presets import PRESETS
from probe.bank.progress import Progress
from probe.bank.workers import build_in_processes
from probe.embedded import export_embedded_base
from probe.records import MergeProbeError


def main() -> int:
    """Build, print one line an adapter, and return 1 if any of them may not ship."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    try:
        built = _build(options)
    except MergeProbeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.writelines(_line(adapter) for adapter in built)
    return 1 if any(adapter.gate_failures for adapter in built) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m probe.bank", description=__doc__)
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("out", type=Path, help="folder for the adapters; what it holds is kept")
    parser.add_argument("--base", type=Path, help="folder of the base model (default: the embedded one, in OUT/.base)")
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads, of all jobs")
    parser.add_argument("--jobs", type=int, default=1, help="processes that build side by side (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="build these adapters (default: all)")
    return parser


def _build(options: argparse.Namespace) -> tuple[BuiltAdapter, ...]:
    base = options.base or export_embedded_base(options.out / ".base")
    preset = PRESETS[options.preset]
    return build_in_processes(preset, options.out, base, options.jobs, options.device, _show, options.only)


def _show(progress: Progress) -> None:
    if sys.stderr.isatty():
        left = "" if progress.seconds_left is None else f", {progress.seconds_left / 60:.0f} min left"
        sys.stderr.write(f"\r\033[K{progress.adapter}: {progress.activity} {progress.share:4.0%}{left} ")


def _line(adapter: BuiltAdapter) -> str:
    scores = adapter.scores
    verdict = "; ".join(adapter.gate_failures) or "ships"
    return (
        f"{adapter.recipe.name:16} base {scores.base.value:.3f}  single {scores.single.value:.3f}  "
        f"gain {scores.gain.value:+.3f} +- {scores.gain.standard_error:.3f}  {verdict}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
