"""Throughput and latency against plain `vllm serve`: same engine arguments, one adapter, blocks alternated ABBA.

Run with `make bench`, or `python -m tests.bench.against_vllm --help`. Both servers are up all the time; one is asked
and the other idles, in the order A B B A A B B A ..., so that drift of the machine falls on both alike.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from probe.records import MergeProbeError
from serve.config import read_config
from tests.bench.load import Load, LoadError, greedy_text, prompts, run_block
from tests.bench.machine import describe_machine
from tests.bench.report import Block, as_json, print_report
from tests.bench.servers import Server, ServerError, bank_config, our_server, vllm_server
from tests.bench.usage import CpuMeter, ThreadUse, ThreadWatch

NUM_TEXTS = 4
OURS, THEIRS = 0, 1
console = Console()


class DifferentTexts(RuntimeError):
    """The servers' greedy texts differ, so they do not run the same model."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What one run does."""

    num_blocks: int
    """Blocks a server."""
    load: Load
    seed: int


def order(num_blocks: int) -> list[int]:
    """Return whose turn it is: ABBA, and again; two that follow one another make a pair."""
    return [server for pair in range(num_blocks) for server in ((OURS, THEIRS) if pair % 2 == 0 else (THEIRS, OURS))]


def measure(servers: tuple[Server, Server], settings: Settings) -> list[Block]:
    """Run all blocks in turn; the two blocks of a pair ask the same prompts."""
    blocks = []
    with _progress() as progress:
        bar = progress.add_task("blocks", total=2 * settings.num_blocks)
        for index, turn in enumerate(order(settings.num_blocks)):
            server, idle, pair = servers[turn], servers[1 - turn], index // 2
            progress.update(bar, description=f"{server.name}, pair {pair + 1}/{settings.num_blocks}")
            meter = CpuMeter(server.pid, idle.pid)
            measured = run_block(server.url, settings.load, f"{settings.seed}-{pair}")
            blocks.append(Block(server.name, pair, measured, meter.read()))
            progress.advance(bar)
    return blocks


def check_same_texts(servers: tuple[Server, Server], settings: Settings) -> None:
    """Check that both servers answer a few prompts with the same greedy text.

    Raises
    ------
    DifferentTexts
        If they do not; the message has both.
    """
    for prompt in prompts(NUM_TEXTS, f"{settings.seed}-texts"):
        ours, theirs = (greedy_text(server.url, prompt, settings.load.num_tokens) for server in servers)
        if ours != theirs:
            raise DifferentTexts(f"to {prompt!r} {servers[OURS].name} says {ours!r}, {servers[THEIRS].name} {theirs!r}")


def warm(servers: tuple[Server, Server], settings: Settings) -> dict[str, list[ThreadUse]]:
    """Run one block on each server that is not counted, and return the threads that its engine computed with."""
    threads = {}
    for server in servers:
        watch = ThreadWatch(server.pid)
        measured = run_block(server.url, settings.load, f"{settings.seed}-warm")
        threads[server.name] = watch.seen(measured.seconds + sum(measured.single_seconds))
    return threads


@contextmanager
def both_servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Start ours and then theirs, which serves the module that ours built; both end with the block."""
    config_file = bank_config(folder)
    with ExitStack() as running:
        with console.status("starting mergeprobe serve (unpacks the base, starts Ray and vLLM; a minute or two)"):
            ours, module = running.enter_context(our_server(config_file))
        with console.status("starting vllm serve (a minute or so)"):
            theirs = running.enter_context(vllm_server(read_config(config_file), module, folder / "vllm.log"))
        yield ours, theirs


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


def run(settings: Settings, json_file: Path) -> None:
    """Run the benchmark, print its tables and write its JSON."""
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="mergeprobe-bench-") as folder, both_servers(Path(folder)) as servers:
        check_same_texts(servers, settings)
        console.print(f"both servers give the same greedy text on {NUM_TEXTS} prompts; warming up")
        threads = warm(servers, settings)
        blocks = measure(servers, settings)
        result = as_json(
            machine=machine,
            command=shlex.join(sys.orig_argv),
            seed=settings.seed,
            load=settings.load,
            servers=servers,
            threads=threads,
            blocks=blocks,
        )
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(result, indent=2) + "\n")
    print_report(result, console)
    console.print(f"written to {json_file}")


def main(
    blocks: Annotated[int, typer.Option(min=2, help="Blocks a server; an even number closes every ABBA.")] = 6,
    requests: Annotated[int, typer.Option(min=1, help="Requests in a block.")] = 32,
    clients: Annotated[int, typer.Option(min=1, help="Of these, how many run at once.")] = 8,
    single: Annotated[int, typer.Option(min=1, help="Requests alone, after each block.")] = 4,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens that each request generates.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the prompts and the bootstrap.")] = 0,
    json_file: Annotated[Path, typer.Option("--json", help="Where the result goes.")] = Path(
        "build/bench/against_vllm.json"
    ),
) -> None:
    """Compare `mergeprobe serve` with `vllm serve`: same engine arguments, one adapter, alternated ABBA."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped then, too
    settings = Settings(blocks, Load(requests, clients, single, tokens), seed)
    try:
        run(settings, json_file)
    except (MergeProbeError, ServerError, LoadError, DifferentTexts) as error:
        console.print(f"the benchmark stopped: {error}", style="bold red", markup=False)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
