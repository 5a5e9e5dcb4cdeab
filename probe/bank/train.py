"""Train one LoRA adapter on rows: plain supervised fine-tuning on the answers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import Tensor

from probe.embedded import EMBEDDED_NAME
from probe.encoding import EncodedRow, encode_row
from probe.reference import answer_logits, quiet_peft
from probe.rows import Row

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ATTENTION_MLP = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Training:
    """How an adapter is trained.

    Parameters
    ----------
    rank
        Rank of the update, at least 1.
    modules
        ``attention`` (q, k, v, o) or ``attention+mlp`` (those, gate, up and down).
    learning_rate
        Peak of AdamW; it rises over `warmup_share` of the steps, then falls to 0 as a cosine.
    alpha
        The update is scaled by ``alpha / rank``.
    num_rows, num_epochs, batch_rows
        Distinct training rows, passes over them, rows a step.
    """

    rank: int
    modules: Literal["attention", "attention+mlp"]
    learning_rate: float
    alpha: int
    num_rows: int = 400
    num_epochs: int = 2
    batch_rows: int = 8
    warmup_share: float = 0.06

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Names of the adapted projections."""
        return ATTENTION if self.modules == "attention" else ATTENTION_MLP

    def lora_config(self) -> LoraConfig:
        """Return the PEFT configuration: plain LoRA, without bias or dropout."""
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.target_modules),
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )

    def peft_fields(self) -> dict[str, Any]:
        """Return the fields of ``adapter_config.json``: those that every PEFT version reads.

        PEFT itself would write all its fields, and its module names in an order of the day.
        """
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": EMBEDDED_NAME,
            "inference_mode": True,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "target_modules": list(self.target_modules),
            "bias": "none",
            "use_rslora": False,
            "use_dora": False,
        }


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """What training gives: tensors in PEFT's names (bfloat16), and how it went.

    `losses` are mean nats per answer token, one a step.
    """

    tensors: dict[str, Tensor]
    num_tokens: int
    num_steps: int
    losses: tuple[float, ...]


def train_adapter(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    training: Training,
    data_seed: int,
    a_seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainedAdapter:
    """Train an adapter on `rows` and give the base model back as it was.

    The loss counts answer tokens and the end token, never the prompt.

    Parameters
    ----------
    model, tokenizer
        A loaded base model in float32; it is wrapped while training runs.
    data_seed
        Order of the rows.
    a_seed
        Start of the A matrices. Adapters that share it share their row spaces, which looks like
        agreement to every geometric signal, so each adapter of a bank has its own.
    on_step
        Called with steps done and steps in all.
    """
    with quiet_peft():
        wrapped = get_peft_model(model, training.lora_config())
    try:
        draw_a_matrices(wrapped, a_seed)
        encoded = [encode_row(tokenizer, row) for row in rows]
        batches = list(_batches(encoded, training, data_seed))
        losses = _optimise(wrapped, batches, tokenizer.eos_token_id, training, on_step)
        tensors = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        return TrainedAdapter(
            tensors={name: t.detach().to("cpu", torch.bfloat16) for name, t in tensors.items()},
            num_tokens=sum(row.num_tokens for batch in batches for row in batch),
            num_steps=len(batches),
            losses=losses,
        )
    finally:
        wrapped.unload().__dict__.pop("peft_config", None)
        for parameter in model.parameters():
            parameter.requires_grad_(False)


def draw_a_matrices(wrapped: Any, a_seed: int) -> None:
    """Fill every A (r, d_in) uniformly in +-1/sqrt(d_in), from `a_seed` alone.

    The bound is that of PEFT's own start; the generator is ours, so that the draw depends neither
    on global state nor on anything the task did before.
    """
    generator = torch.Generator().manual_seed(a_seed)
    named = sorted((n, p) for n, p in wrapped.named_parameters() if "lora_A" in n)
    for _, parameter in named:
        bound = 1.0 / math.sqrt(parameter.shape[1])
        start = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
        parameter.data.copy_(start)


def _batches(encoded: Sequence[EncodedRow], training: Training, seed: int) -> Iterator[list[EncodedRow]]:
    """Yield shuffled batches of rows of like length, so that little of a batch is padding."""
    rng = random.Random(seed)  # noqa: S311 - an order, not a key
    for _ in range(training.num_epochs):
        order = sorted(encoded, key=lambda row: (row.num_tokens, rng.random()))
        size = training.batch_rows
        batches = [list(order[start : start + size]) for start in range(0, len(order), size)]
        rng.shuffle(batches)
        yield from batches


def _optimise(
    wrapped: Any,
    batches: Sequence[Sequence[EncodedRow]],
    pad_id: int,
    training: Training,
    on_step: Callable[[int, int], None] | None,
) -> tuple[float, ...]:
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate_share(step, len(batches), training.warmup_share)
    )
    losses: list[float] = []
    wrapped.train()
    for step, batch in enumerate(batches, start=1):
        logits, targets = answer_logits(wrapped.get_base_model(), batch, pad_id)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
        if on_step:
            on_step(step, len(batches))
    wrapped.eval()
    return tuple(losses)


def _rate_share(step: int, num_steps: int, warmup_share: float) -> float:
    """Return the share of the peak learning rate at `step`: a linear rise, then a cosine to 0."""
    warmup = max(1, round(warmup_share * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
