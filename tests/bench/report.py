"""The result: one JSON tree, and the tables printed from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.load import Load, Measured
from tests.bench.ratios import CONFIDENCE, Ratio, paired_ratio
from tests.bench.servers import Server
from tests.bench.usage import CpuShares, ThreadUse

AIM = 1.05
QUIET_CORES = 0.1
"""More CPU time than this used elsewhere, in cores, and the numbers are marked as disturbed."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block: who was asked, in which pair, and what it took."""

    server: str
    pair: int
    measured: Measured
    cpu: CpuShares

    @property
    def p50_seconds(self) -> float:
        return float(np.median(self.measured.latencies_seconds))

    @property
    def single_p50_seconds(self) -> float:
        return float(np.median(self.measured.single_seconds))


def as_json(
    *,
    machine: Mapping[str, Any],
    command: str,
    seed: int,
    load: Load,
    servers: tuple[Server, Server],
    threads: Mapping[str, Sequence[ThreadUse]],
    blocks: Sequence[Block],
) -> dict[str, Any]:
    """Return everything that is known about a run, as plain data."""
    ours, theirs = servers
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": seed,
        "machine": dict(machine),
        "load": asdict(load),
        "servers": {server.name: _of_server(server, threads[server.name], blocks) for server in servers},
        "ratios": {key: asdict(ratio) for key, ratio in ratios(blocks, ours.name, theirs.name, seed).items()},
        "ratio_confidence": CONFIDENCE,
        "aim": AIM,
        "elsewhere_cores": float(np.median([block.cpu.elsewhere for block in blocks])),
        "blocks": [asdict(block) for block in blocks],
    }


def ratios(blocks: Sequence[Block], ours: str, theirs: str, seed: int) -> dict[str, Ratio]:
    """Return how much slower ours is, so that below 1 is faster: over the pairs, in the same order for both."""
    a, b = (
        sorted((block for block in blocks if block.server == name), key=lambda block: block.pair)
        for name in (ours, theirs)
    )
    return {
        "throughput": paired_ratio(
            [block.measured.tokens_per_second for block in b], [block.measured.tokens_per_second for block in a], seed
        ),
        "p50_latency": paired_ratio([block.p50_seconds for block in a], [block.p50_seconds for block in b], seed),
        "p50_alone": paired_ratio(
            [block.single_p50_seconds for block in a], [block.single_p50_seconds for block in b], seed
        ),
    }


def _of_server(server: Server, threads: Sequence[ThreadUse], blocks: Sequence[Block]) -> dict[str, Any]:
    own = [block for block in blocks if block.server == server.name]
    latencies = [seconds for block in own for seconds in block.measured.latencies_seconds]
    alone = [seconds for block in own for seconds in block.measured.single_seconds]
    return {
        "command": list(server.command),
        "tokens_per_second": float(np.median([block.measured.tokens_per_second for block in own])),
        "p50_seconds": float(np.quantile(latencies, 0.5)),
        "p95_seconds": float(np.quantile(latencies, 0.95)),
        "alone_p50_seconds": float(np.quantile(alone, 0.5)),
        "alone_p95_seconds": float(np.quantile(alone, 0.95)),
        "cores_asked": float(np.median([block.cpu.asked for block in own])),
        "cores_idle": float(np.median([block.cpu.idle for block in blocks if block.server != server.name])),
        "engine_threads": [asdict(use) for use in threads],
    }


def print_report(result: Mapping[str, Any], console: Console) -> None:
    """Print the tables of a result."""
    load, machine = result["load"], result["machine"]
    console.print(
        f"{machine['num_cpus']} x {machine['cpu']}, load {machine['load_average'][0]:.1f} before the start; "
        + ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    )
    console.print(_server_table(result))
    console.print(_ratio_table(result))
    for name, server in result["servers"].items():
        for use in server["engine_threads"]:
            cores = ", ".join(str(list(allowed)) for allowed in use["cores"]) or "none"
            console.print(
                f"{name}: {use['process']} computed with {use['num_busy']} threads, bound to {cores}; "
                f"{use['cpu_share']:.2f} cores of CPU time, niceness {use['niceness']}"
            )
    console.print(
        f"{load['num_requests']} requests a block, {load['num_clients']} at once, {load['num_tokens']} tokens each; "
        f"{load['num_single']} alone after each block; seed {result['seed']}; {result['date']}"
    )
    if (elsewhere := result["elsewhere_cores"]) > QUIET_CORES:
        disturbed = f"disturbed: other processes used {elsewhere:.2f} cores meanwhile; repeat it on a quiet machine"
        console.print(disturbed, style="bold yellow")


def _server_table(result: Mapping[str, Any]) -> Table:
    table = Table(
        "server",
        "tokens/s",
        "p50 s",
        "p95 s",
        "alone p50 s",
        "alone p95 s",
        "cores asked",
        "cores idle",
        title="Per server",
    )
    for name, server in result["servers"].items():
        figures = ("p50_seconds", "p95_seconds", "alone_p50_seconds", "alone_p95_seconds")
        cores = (f"{server[key]:.2f}" for key in ("cores_asked", "cores_idle"))
        table.add_row(name, f"{server['tokens_per_second']:.1f}", *(f"{server[key]:.3f}" for key in figures), *cores)
    return table


def _ratio_table(result: Mapping[str, Any]) -> Table:
    share = f"{result['ratio_confidence']:.0%} interval"
    table = Table(
        "slower by a factor of",
        "median",
        share,
        "pairs",
        f"aim <= {AIM}",
        title="mergeprobe / vllm serve, paired blocks",
    )
    for name, ratio in result["ratios"].items():
        met = "met" if ratio["high"] <= AIM else "missed" if ratio["low"] > AIM else "open"
        interval = f"[{ratio['low']:.3f}, {ratio['high']:.3f}]"
        table.add_row(name.replace("_", " "), f"{ratio['median']:.3f}", interval, str(ratio["num_pairs"]), met)
    return table
