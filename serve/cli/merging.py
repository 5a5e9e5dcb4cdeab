"""The command that merges adapters; it works on files and needs neither Ray nor vLLM."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from probe.layers import BANDS
from probe.records import Pruned, Weight
from probe.rows import CALIBRATION_FILE
from serve.cli.profiling import Base, Cache, Device, profiler
from serve.cli.running import AsJson

if TYPE_CHECKING:
    from probe.factors import LoraUpdate
    from probe.operators import Merged, Recipe
    from probe.profiles import Calibration

console = Console()

Dtype = Literal["bfloat16", "float32"]

OUTPUT_RANK_HELP = "Output rank; none: the largest member's, rounded up to one that vLLM has."


def merge(
    adapters: Annotated[list[Path] | None, typer.Argument(help="PEFT folders, one or more.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; it must not exist.")] = None,
    operator: Annotated[str, typer.Option(help="How to merge; 'list' shows the operators.")] = "mean",
    rank: Annotated[int | None, typer.Option(min=1, help=OUTPUT_RANK_HELP)] = None,
    norm: Annotated[str | None, typer.Option(help="none, mean_source or ta; left out: the operator's own.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="One for each adapter, in order; 1 or 1,0.5,0.5 by layer band; repeatable.")
    ] = None,
    prune: Annotated[
        list[str] | None,
        typer.Option(help="Modules of one member to leave out, NAME:PATTERN; repeatable."),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter of the operator, NAME=NUMBER; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of operators that draw random numbers.")] = 0,
    dtype: Annotated[Dtype, typer.Option(help="Of the tensors that are written.")] = "bfloat16",
    base: Base = None,
    device: Device = "cpu",
    cache: Cache = Path("var"),
    as_json: AsJson = False,
) -> None:
    """Merge adapters into one that vLLM and PEFT load.

    The base model is not needed, except by operators that read what the adapters' own rows say (DIR/calibration.jsonl).

    Example: `mergeprobe merge ./math ./code --operator ctm --rank 16 --out ./both`, or
    `mergeprobe merge ./math ./code --weight 1 --weight 0.5 --prune 'code:*.layers.2[0-9].*' --out ./both`, or
    `mergeprobe merge --operator list`
    """
    from probe.adapter_io import read_adapter  # imports torch, which `--help` must not wait for
    from probe.operators import OPERATORS, MergeError, Recipe
    from probe.operators import merge as merge_updates

    if operator == "list":
        _print_operators(as_json)
        return
    if not adapters or out is None:
        raise typer.BadParameter("name the adapters' folders, and where to write: --out DIR")
    if out.exists():
        raise MergeError(f"{out} exists already; name another folder, or remove it first.")
    base_name = _common_base(adapters)
    updates = [read_adapter(folder) for folder in adapters]
    recipe = Recipe(
        operator=operator,
        weights=tuple(map(_weight, weight)) if weight else None,
        norm=norm,  # type: ignore[arg-type]  # `merge` refuses what it does not know
        rank=rank,
        pruned=tuple(part for one in prune or () for part in _pruned(one, adapters, updates)),
        hyper_parameters=_settings(setting or []),
        seed=seed,
    )
    reads_data = operator in OPERATORS and bool(OPERATORS[operator].needs)
    merged = merge_updates(updates, recipe, _calibrations(adapters, cache, base, device) if reads_data else None)
    _write(out, merged, base_name, dtype)
    _print_merged(adapters, out, recipe, merged, as_json)


def _calibrations(adapters: Sequence[Path], cache: Path, base: Path | None, device: str) -> list[Calibration]:
    with profiler(cache, base, device) as work:
        found = [work.profile(folder, folder / CALIBRATION_FILE).calibration for folder in adapters]
    return [calibration for calibration in found if calibration is not None]


def _weight(given: str) -> Weight:
    try:
        numbers = tuple(float(number) for number in given.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == len(BANDS):
        return numbers[0], numbers[1], numbers[2]
    raise typer.BadParameter(f"--weight {given!r}: expected one number, or three, for the {', '.join(BANDS)} layers")


def _pruned(given: str, adapters: Sequence[Path], updates: Sequence[LoraUpdate]) -> list[Pruned]:
    """Return the modules of one member whose names fit a pattern."""
    name, _, pattern = given.partition(":")
    members = [index for index, folder in enumerate(adapters) if folder.name == name]
    modules = [module for index in members for module in updates[index].factors if fnmatchcase(module, pattern)]
    if len(members) != 1 or not modules:
        known = ", ".join(folder.name for folder in adapters)
        raise typer.BadParameter(
            f"--prune {given!r}: {len(members)} adapters of that name (there are {known}) and {len(modules)} modules "
            "that fit; expected NAME:PATTERN, such as 'code:*.layers.2[0-9].*'"
        )
    return [Pruned(members[0], module) for module in modules]


def _settings(given: Sequence[str]) -> Mapping[str, float]:
    settings = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            settings[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"--set {one!r}: expected NAME=NUMBER, such as density=0.3") from None
    return settings


def _common_base(adapters: Sequence[Path]) -> str:
    from probe.adapter_io import read_config
    from probe.operators import MergeError

    names = [read_config(folder).base_name for folder in adapters]
    if names[0] is None or len(set(names)) > 1:
        told = ", ".join(f"{folder}: {name}" for folder, name in zip(adapters, names, strict=True))
        raise MergeError(f"The adapters must name one base model; seen: {told}. Correct base_model_name_or_path.")
    return names[0]


def _write(out: Path, merged: Merged, base_name: str, dtype: Dtype) -> None:
    """Write the adapter by one rename, so that a stopped merge leaves nothing that looks finished."""
    import torch

    from probe.adapter_io import write_adapter

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        write_adapter(Path(work) / "merged", merged.update, base_name, getattr(torch, dtype))
        (Path(work) / "merged").rename(out)


def _print_merged(adapters: Sequence[Path], out: Path, recipe: Recipe, merged: Merged, as_json: bool) -> None:
    told: dict[str, Any] = {
        "out": str(out),
        "operator": recipe.operator,
        "members": [str(folder) for folder in adapters],
        "rank": merged.update.rank,
        "modules": len(merged.update.factors),
        "kept_energy": merged.kept_energy,
        "norm_ratio_mean_source": merged.norm_ratio_mean_source,
        "norm_ratio_ta": merged.norm_ratio_ta,
    }
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    table = Table("merged", str(out), title=f"{len(adapters)} adapters by {recipe.operator}")
    table.add_row("rank, modules", f"{told['rank']}, {told['modules']}")
    table.add_row("energy kept by truncation", f"{merged.kept_energy:.3f}")
    table.add_row("norm, of the mean member's", f"{merged.norm_ratio_mean_source:.2f}")
    table.add_row("norm, of the members' sum", f"{merged.norm_ratio_ta:.2f}")
    console.print(table)


def _print_operators(as_json: bool) -> None:
    from probe.operators import OPERATORS

    if as_json:
        rows = {
            key: {
                "hyper_parameters": {p.name: {"default": p.default, "bounds": p.bounds} for p in row.hyper_parameters},
                "needs": sorted(row.needs),
                "norm": row.norm,
                "properties": sorted(row.properties),
                "source": row.source,
            }
            for key, row in OPERATORS.items()
        }
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("operator", "takes", "norm", "reads", "source")
    for key, row in OPERATORS.items():
        takes = "\n".join(f"{parameter.name}={parameter.default:g}" for parameter in row.hyper_parameters)
        table.add_row(key, takes, row.norm, ", ".join(sorted(need.name.lower() for need in row.needs)), row.source)
    console.print(table)
