"""Merge operators: a table of short pure functions on cores, and the one procedure that applies them.

How to add one:

1. Write `probe/operators/<name>.py` with a pure function ``rule(members, *, my_parameter) -> core``. It sees one module
   at a time: `Members` holds every update as a small core C_i in shared orthonormal bases (D_i = Q_B C_i Q_A^T), so
   the rule never meets a long axis, and whatever it returns is truncated, scaled and written for it. Hyper-parameters
   come by keyword and have no default in the signature. Random numbers come from `members.generator` only. No shortcut
   for a single member: it must come out unchanged by the mathematics.
2. Add a row to `OPERATORS`: key, rule, hyper-parameters (default with its reason, bounds, the neutral value), source,
   the properties that it promises, the data that it needs.
3. Add a dense oracle for it to `tests/probe/oracles.py`. The contract test in `tests/probe/test_operators.py` runs
   every row against its oracle and holds it to its properties.

Everything else (weights, pruning, output rank, norm rule, mixed ranks, missing modules, files) works from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from probe.factors import LoraUpdate
from probe.operators.dropping import dare, della
from probe.operators.fisher import fisher_core
from probe.operators.gam import gam, gam_transport
from probe.operators.knots import knots_ties
from probe.operators.lego import lego
from probe.operators.linear import mean, task_arithmetic
from probe.operators.merging import Merged, merge_with
from probe.operators.operator import HyperParameter, Members, Need, Norm, Operator, Property, Space
from probe.operators.pico import pico, pico_ties
from probe.operators.recipe import OUTPUT_RANKS, MergeError, Recipe, joint_rank, output_rank
from probe.operators.regression import osrm_post, regmean, wudi_ridge
from probe.operators.spectrum import iso, svc, tsv
from probe.operators.subspace import ctm, ctm_ties
from probe.operators.ties import ties
from probe.profiles import Calibration
from probe.records import Pruned, Weight

__all__ = [
    "OPERATORS",
    "OUTPUT_RANKS",
    "HyperParameter",
    "Members",
    "MergeError",
    "Merged",
    "Need",
    "Norm",
    "Operator",
    "Property",
    "Pruned",
    "Recipe",
    "Space",
    "Weight",
    "joint_rank",
    "merge",
    "output_rank",
]

_DENSITY = HyperParameter(
    name="density",
    default=0.2,
    bounds=(0.01, 1.0),
    reason="TIES keeps the largest fifth of the entries.",
    neutral=1.0,
)
_BETA = HyperParameter(
    name="beta",
    default=0.5,
    bounds=(0.0, 1.0),
    reason="Halfway between equal attention to all members (0) and by length (1); the paper tries 0 to 0.75.",
)
_SUM = frozenset({Property.SCALE_EQUIVARIANT, Property.ZERO_NEUTRAL})
_AVERAGE = _SUM | {Property.IDEMPOTENT}

OPERATORS: Mapping[str, Operator] = {
    row.key: row
    for row in (
        Operator(
            key="ta",
            rule=task_arithmetic,
            hyper_parameters=(),
            source="Task arithmetic, arXiv 2212.04089",
            properties=_SUM | {Property.LINEAR},
        ),
        Operator(
            key="mean",
            rule=mean,
            hyper_parameters=(),
            source="Model soups, arXiv 2203.05482",
            properties=frozenset({Property.LINEAR, Property.SCALE_EQUIVARIANT, Property.IDEMPOTENT}),
        ),
        Operator(
            key="concat",
            rule=task_arithmetic,
            hyper_parameters=(),
            source="PEFT's combination_type 'cat': the sum at full rank",
            properties=_SUM | {Property.LINEAR, Property.LOSSLESS},
            norm="none",
        ),
        Operator(
            key="svd",
            rule=task_arithmetic,
            hyper_parameters=(),
            source="PEFT's combination_type 'svd': the best approximation of the sum at the output rank",
            properties=_SUM | {Property.LINEAR},
            norm="none",
        ),
        Operator(
            key="ties",
            rule=ties,
            hyper_parameters=(_DENSITY,),
            source="TIES-Merging, arXiv 2306.01708, in core coordinates (arXiv 2509.17786)",
            properties=_AVERAGE,
        ),
        Operator(
            key="dare",
            rule=dare,
            hyper_parameters=(
                HyperParameter("p", 0.5, (0.0, 0.99), "More adds only variance to cores as small as these.", 0.0),
            ),
            source="DARE, arXiv 2311.03099, in core coordinates",
            properties=_SUM | {Property.SEEDED},
        ),
        Operator(
            key="della",
            rule=della,
            hyper_parameters=(
                HyperParameter("density", 0.5, (0.3, 1.0), "As `dare` drops.", 1.0),
                HyperParameter("eps", 0.15, (0.0, 0.25), "mergekit's; least probability over 0.", 0.0),
            ),
            source="DELLA-Merging, arXiv 2406.11617, in core coordinates",
            properties=_AVERAGE | {Property.SEEDED},
        ),
        Operator(
            key="pico",
            rule=pico,
            hyper_parameters=(),
            source="Pico with task arithmetic, arXiv 2604.16826",
            properties=_SUM,
        ),
        Operator(
            key="pico_ties",
            rule=pico_ties,
            hyper_parameters=(_DENSITY,),
            source="Pico with TIES, arXiv 2604.16826",
            properties=_SUM,
        ),
        Operator(
            key="gam",
            rule=gam,
            hyper_parameters=(),
            source="GAM, arXiv 2606.00357, our reading: factors rotated onto a reference's gauge",
            properties=_AVERAGE,
        ),
        Operator(
            key="gam_transport",
            rule=gam_transport,
            hyper_parameters=(),
            source="GAM, arXiv 2606.00357, our other reading: cores moved into a reference's subspaces",
            properties=_AVERAGE,
        ),
        Operator(
            key="fisher_core",
            rule=fisher_core,
            hyper_parameters=(HyperParameter("floor", 1e-6, (1e-12, 1.0), "FusionBench's, for a Fisher of norm 1."),),
            source="Fisher merging, arXiv 2111.09832, with the Fisher of core entries",
            properties=_AVERAGE,
            needs=frozenset({Need.FISHER}),
        ),
        Operator(
            key="lego",
            rule=lego,
            hyper_parameters=(),
            source="LoRA-LEGO, arXiv 2409.16167, in the canonical gauge",
            properties=_AVERAGE | {Property.SEEDED},
        ),
        Operator(
            key="osrm_post",
            rule=osrm_post,
            hyper_parameters=(
                HyperParameter("mu", 0.1, (0.0, 10.0), "Leaks 23 % at 6 % own distortion on Gaussian factors.", 0.0),
            ),
            source="OSRM, arXiv 2505.22934, a stand-in after training",
            properties=_SUM,
            needs=frozenset({Need.INPUTS}),
        ),
        Operator(
            key="regmean",
            rule=regmean,
            hyper_parameters=(
                HyperParameter("shrink", 0.05, (0.0, 1.0), "FusionBench scales off-diagonals by 0.95.", 0.0),
            ),
            source="RegMean, arXiv 2212.09849, shrunk towards isotropic inputs",
            properties=_AVERAGE,
            needs=frozenset({Need.INPUTS}),
        ),
        Operator(
            key="ctm",
            rule=ctm,
            hyper_parameters=(_BETA,),
            source="Compress then Merge with task arithmetic, arXiv 2606.03723",
            properties=_SUM,
        ),
        Operator(
            key="ctm_ties",
            rule=ctm_ties,
            hyper_parameters=(_BETA, _DENSITY),
            source="Compress then Merge with TIES, arXiv 2606.03723",
            properties=_AVERAGE,
        ),
        Operator(
            key="knots_ties",
            rule=knots_ties,
            hyper_parameters=(_DENSITY,),
            source="KnOTS with TIES, arXiv 2410.19735",
            properties=_AVERAGE,
            space=Space.INPUTS,
        ),
        Operator(
            key="wudi_ridge",
            rule=wudi_ridge,
            hyper_parameters=(
                HyperParameter("ridge", 0.1, (0.0, 10.0), "Members of one row space grow 1.4-fold, not 249-fold.", 0.0),
            ),
            source="WUDI, arXiv 2503.08099, in closed form",
            properties=_AVERAGE,
        ),
        Operator(
            key="tsv",
            rule=tsv,
            hyper_parameters=(),
            source="TSV-Merge, arXiv 2412.00081, with k = r",
            properties=_AVERAGE,
        ),
        Operator(
            key="iso",
            rule=iso,
            hyper_parameters=(HyperParameter("flatten", 1.0, (0.0, 1.0), "Iso-C flattens all the way.", 0.0),),
            source="Iso-C, arXiv 2502.04959, over the sum's own rank",
            properties=_SUM,
        ),
        Operator(
            key="svc",
            rule=svc,
            hyper_parameters=(HyperParameter("alpha", 1.0, (0.1, 10.0), "The paper's: only ever shrinks."),),
            source="Singular value calibration, arXiv 2602.05536",
            properties=_AVERAGE,
        ),
    )
}


def merge(updates: Sequence[LoraUpdate], recipe: Recipe, calibrations: Sequence[Calibration] | None = None) -> Merged:
    """Merge updates into one, by a recipe, without forming Delta-W.

    Exact before truncation; members may differ in rank and in modules (an absent module is a zero update).

    Parameters
    ----------
    calibrations
        One a member, for operators that need data.

    Raises
    ------
    MergeError
        Unknown operator, hyper-parameter or norm rule; no updates, bad weights, rank or pruned parts; modules whose
        shapes differ; factors or results that are not finite; data that the operator needs and did not get.
    """
    if recipe.operator not in OPERATORS:
        raise MergeError(f"Operator {recipe.operator!r} is unknown; expected one of {sorted(OPERATORS)}.")
    return merge_with(OPERATORS[recipe.operator], updates, recipe, calibrations)
