"""LoRA on a CPU, by group: a vLLM plugin that multiplies the tokens of one adapter together.

vLLM's CPU path gathers an adapter's matrices anew for every token, which makes a batch of n tokens move n copies of
them, and it lets tokens without an adapter (index -1) read the last slot, so that a request for the base is answered by
whatever adapter lies there. Here the tokens of one slot are one matrix product, and tokens without an adapter add
nothing. vLLM finds `register` through the entry point `vllm.general_plugins`, in every process of the engine.
"""

from __future__ import annotations

from torch import Tensor


def apply_by_slot(inputs: Tensor, weights: Tensor, slots: Tensor) -> Tensor:
    """Multiply each token by the matrix of its slot.

    Parameters
    ----------
    inputs
        (tokens, d_in), of the result's type.
    weights
        (slots, d_out, d_in), or (slots, 1, d_out, d_in) as vLLM stacks them.
    slots
        (tokens,): index of each token's adapter, negative for none.

    Returns
    -------
    Tensor
        (tokens, d_out); zero where a token has no adapter.
    """
    matrices = (weights.squeeze(1) if weights.dim() == 4 else weights).to(inputs.dtype)
    used = sorted(set(slots.tolist()))
    if len(used) == 1 and used[0] >= 0:
        return inputs @ matrices[used[0]].T
    outputs = inputs.new_zeros(len(inputs), matrices.shape[1])
    for slot in used:
        if slot >= 0:
            tokens = slots == slot
            outputs[tokens] = inputs[tokens] @ matrices[slot].T
    return outputs


def bgmv_shrink(inputs: Tensor, weights: Tensor, output: Tensor, slots: Tensor, scaling: float = 1.0) -> None:
    """Write scaling * (A x) of each token into `output` (tokens, at least rank)."""
    shrunk = apply_by_slot(inputs.to(output.dtype), weights, slots)
    output[:, : shrunk.shape[1]] = scaling * shrunk


def bgmv_expand(inputs: Tensor, weights: Tensor, output: Tensor, slots: Tensor, add_inputs: bool = True) -> None:
    """Write or add B x of each token to `output`, as many columns as both have: vLLM may pad either."""
    width = min(weights.shape[-2], output.shape[1])
    bgmv_expand_slice(inputs, weights[..., :width, :], output, slots, 0, width, add_inputs)


def bgmv_expand_slice(
    inputs: Tensor,
    weights: Tensor,
    output: Tensor,
    slots: Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """Write or add B x of each token to columns `slice_offset` to `slice_offset + slice_size` of `output`."""
    expanded = apply_by_slot(inputs.to(output.dtype), weights, slots)
    columns = output[: len(expanded), slice_offset : slice_offset + slice_size]
    if add_inputs:
        columns += expanded
    else:
        columns.copy_(expanded)


REPLACEMENTS = {"bgmv_shrink": bgmv_shrink, "bgmv_expand": bgmv_expand, "bgmv_expand_slice": bgmv_expand_slice}


def register() -> None:
    """Put the grouped products in the place of vLLM's, on CPU only; its `sgmv_...` functions end in these too."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    for module in (lora_ops, punica_cpu):
        for name, replacement in REPLACEMENTS.items():
            setattr(module, name, replacement)
