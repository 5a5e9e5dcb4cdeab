"""Merge operators once more, slowly: on dense updates, from the papers' formulas, without cores.

Every oracle takes a `Case` and returns the merged update (d_out, d_in) of one module. They share no code with
`probe/operators`; bases, where an operator needs them, come from decompositions of dense matrices.
"""

# ruff: noqa: N803, N806 - U, S, V and the like are what the papers call these matrices

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from probe.profiles import Calibration

SMALL = 1e-9
"""Relative size of what dense decompositions leave of a true zero, and more."""


@dataclass(frozen=True, eq=False)
class Case:
    """One module of a merge: dense updates D (n, d_out, d_in), absent ones zero."""

    D: Tensor
    weights: Tensor
    rank: int
    hyper_parameters: Mapping[str, float]
    moments: Tensor | None = None  # (n, d_in, d_in), E[x x^T]
    marginals: Sequence[tuple[Tensor, Tensor]] = ()  # of the Fisher: (d_out,) and (d_in,) for each member

    @property
    def present(self) -> Case:
        """The same without members that lack the module."""
        kept = [index for index, update in enumerate(self.D) if update.abs().max() > 0]
        return replace(
            self,
            D=self.D[kept],
            weights=self.weights[kept],
            moments=None if self.moments is None else self.moments[kept],
            marginals=[self.marginals[index] for index in kept] if self.marginals else (),
        )


def case_of(
    D: Tensor,
    weights: Sequence[float],
    rank: int,
    hyper_parameters: Mapping[str, float],
    calibrations: Sequence[Calibration],
    module: str,
) -> Case:
    """Return the case of one module, with what calibrations say written out densely."""
    parts = [calibration.modules[module] for calibration in calibrations]
    moments = []
    for part in parts:
        P = part.P_in.double()
        rest = torch.eye(len(P), dtype=torch.float64) - P @ P.T
        moments.append(P @ torch.diag(part.energy_in.double()) @ P.T + part.floor_in * rest)
    marginals = [(part.f_out.double(), part.f_in.double()) for part in parts]
    return Case(
        D,
        torch.tensor(weights, dtype=torch.float64),
        rank,
        hyper_parameters,
        moments=torch.stack(moments) if moments else None,
        marginals=marginals,
    )


def ta(case: Case) -> Tensor:
    return sum(w * D for w, D in zip(case.weights, case.D, strict=True))


def mean(case: Case) -> Tensor:
    return ta(case) / case.weights.sum()


def ties(case: Case) -> Tensor:
    left, right = shared_bases(case.D)
    entries = left.T @ case.present.D @ right
    return left @ ties_of(entries, case.present.weights, case.hyper_parameters["density"]) @ right.T


def pico(case: Case) -> Tensor:
    return ta(_pico_calibrated(case))


def pico_ties(case: Case) -> Tensor:
    left, right = shared_bases(case.D)
    calibrated = _pico_calibrated(case)
    entries = left.T @ calibrated.D @ right
    return left @ ties_of(entries, calibrated.weights, case.hyper_parameters["density"]) @ right.T


def gam(case: Case) -> Tensor:
    members, shares, reference = _gam_parts(case)
    U, S, V = members[reference]
    B_ref, A_ref = U @ S.sqrt(), S.sqrt() @ V.T
    left, right = torch.zeros_like(B_ref), torch.zeros_like(A_ref)
    for share, (u, s, v) in zip(shares, members, strict=True):
        B, A = u @ s.sqrt(), s.sqrt() @ v.T
        G = polar(B.T @ B_ref + A @ A_ref.T)
        left, right = left + share * B @ G, right + share * G.T @ A
    return left @ right


def gam_transport(case: Case) -> Tensor:
    members, shares, reference = _gam_parts(case)
    U_ref, _, V_ref = members[reference]
    total = 0
    for share, (u, s, v) in zip(shares, members, strict=True):
        total = total + share * polar(u.T @ U_ref).T @ s @ polar(v.T @ V_ref)
    return U_ref @ total @ V_ref.T


def fisher_core(case: Case) -> Tensor:
    left, right = shared_bases(case.D)
    total, weight = 0, 0
    for D, w, (f_out, f_in) in zip(case.present.D, case.present.weights, case.present.marginals, strict=True):
        proxy = torch.outer(f_out, f_in) / f_out.sum()
        core_fisher = torch.einsum("ok,il,oi->kl", left.square(), right.square(), proxy)
        trust = w * torch.maximum(
            core_fisher / core_fisher.norm(), torch.tensor(case.hyper_parameters["floor"]).double()
        )
        total, weight = total + trust * (left.T @ D @ right), weight + trust
    return left @ (total / weight) @ right.T


def lego(case: Case) -> Tensor:
    """Every unit a cluster of its own, as where the rank is large enough: sqrt(r/k) times the sum, units unweighted."""
    ranks = [len(s) for _, s, _ in map(svd, case.present.D)]
    assert sum(ranks) <= case.rank, "only without clustering is there a closed form"
    return case.present.D.sum(0) / np.sqrt(len(ranks))


def osrm_post(case: Case) -> Tensor:
    members = case.present
    total = 0
    for w, D, S in zip(members.weights, members.D, members.moments, strict=True):
        others = members.moments.sum(0) - S
        total = total + w * D @ S @ torch.linalg.inv(S + case.hyper_parameters["mu"] * others)
    return total


def regmean(case: Case) -> Tensor:
    members, shrink = case.present, case.hyper_parameters["shrink"]
    eye = torch.eye(case.D.shape[2], dtype=torch.float64)
    shrunk = [(1 - shrink) * S + shrink * S.trace() / len(S) * eye for S in members.moments]
    numerator = sum(w * D @ S for w, D, S in zip(members.weights, members.D, shrunk, strict=True))
    return numerator @ torch.linalg.inv(sum(shrunk))


def ctm(case: Case) -> Tensor:
    U, V = _tucker_subspace(case)
    return U @ U.T @ ta(case) @ V @ V.T


def ctm_ties(case: Case) -> Tensor:
    U, V = _tucker_subspace(case)
    inside = U.T @ case.present.D @ V
    return U @ ties_of(inside, case.present.weights, case.hyper_parameters["density"]) @ V.T


def knots_ties(case: Case) -> Tensor:
    members = case.present
    U, S, V = svd(torch.cat(tuple(members.D), dim=1))
    representations = torch.stack([S.diag() @ part.T for part in V.split(case.D.shape[2])])
    return U @ ties_of(representations, members.weights, case.hyper_parameters["density"])


def wudi_ridge(case: Case) -> Tensor:
    """Set the gradient of the loss to zero: M H = G, on the span of the members' rows."""
    members, ridge = case.present, case.hyper_parameters["ridge"]
    c = [1 / D.square().sum() for D in members.D]
    H = sum(k * D.T @ D for k, D in zip(c, members.D, strict=True))
    G = sum(k * w * D @ D.T @ D for k, w, D in zip(c, members.weights, members.D, strict=True))
    num_directions = len(svd(members.D.flatten(0, 1))[1])
    penalty = ridge * H.trace() / num_directions * torch.eye(len(H), dtype=torch.float64)
    return G @ torch.linalg.pinv(H + penalty, rtol=SMALL, hermitian=True)


def tsv(case: Case) -> Tensor:
    parts = [svd(D) for D in case.present.D]
    strengths = torch.cat([w * s for w, (_, s, _) in zip(case.present.weights, parts, strict=True)])
    U, V = torch.cat([u for u, _, _ in parts], 1), torch.cat([v for _, _, v in parts], 1)
    return polar(U) @ strengths.diag() @ polar(V).T


def iso(case: Case) -> Tensor:
    U, s, V = svd(ta(case))
    flatten = case.hyper_parameters["flatten"]
    return U @ ((1 - flatten) * s + flatten * s.mean()).diag() @ V.T


def svc(case: Case) -> Tensor:
    members, alpha = case.present, case.hyper_parameters["alpha"]
    U, s, V = svd(ta(case))
    calibrated = torch.zeros_like(case.D[0])
    for k in range(len(s)):
        merged = U[:, k] @ ta(case)
        total = 0.0
        for w, D in zip(members.weights, members.D, strict=True):
            own = w * U[:, k] @ D
            total += max(alpha, float(merged @ own / own.square().sum()))
        calibrated += s[k] * len(members.D) / total * torch.outer(U[:, k], V[:, k])
    return calibrated


ORACLES: Mapping[str, Callable[[Case], Tensor]] = {
    "ta": ta,
    "mean": mean,
    "concat": ta,
    "svd": ta,
    "ties": ties,
    "dare": ta,  # where nothing is dropped
    "della": lambda case: ties(replace(case, hyper_parameters={"density": 1.0})),  # where nothing is dropped
    "pico": pico,
    "pico_ties": pico_ties,
    "gam": gam,
    "gam_transport": gam_transport,
    "fisher_core": fisher_core,
    "lego": lego,
    "osrm_post": osrm_post,
    "regmean": regmean,
    "ctm": ctm,
    "ctm_ties": ctm_ties,
    "knots_ties": knots_ties,
    "wudi_ridge": wudi_ridge,
    "tsv": tsv,
    "iso": iso,
    "svc": svc,
}
"""Key of `OPERATORS` -> its oracle. Seeded operators have theirs where no random number matters."""


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, s, V of what is not rounding."""
    u, s, vh = np.linalg.svd(matrix.numpy(), full_matrices=False)
    kept = s > SMALL * s[0]
    return torch.from_numpy(u[:, kept]), torch.from_numpy(s[kept]), torch.from_numpy(vh[kept].T)


def shared_bases(D: Tensor) -> tuple[Tensor, Tensor]:
    """Return the left singular vectors of [B_1 ... B_n] and of [A_1^T ... A_n^T], all factors balanced."""
    parts = [svd(update) for update in D if update.abs().max() > 0]
    left = torch.cat([u * s.sqrt() for u, s, _ in parts], dim=1)
    right = torch.cat([v * s.sqrt() for _, s, v in parts], dim=1)
    return svd(left)[0], svd(right)[0]


def polar(matrix: Tensor) -> Tensor:
    u, _, v = svd(matrix)
    return u @ v.T


def ties_of(X: Tensor, weights: Tensor, density: float) -> Tensor:
    """TIES with loops over entries, on X (n, k, l)."""
    trimmed = []
    for x in X.numpy():
        order = np.argsort(-np.abs(x), axis=None)[: max(1, round(density * x.size))]
        kept = np.zeros(x.size)
        kept[order] = x.reshape(-1)[order]
        kept[np.abs(kept) < SMALL * np.abs(x).max()] = 0
        trimmed.append(kept.reshape(x.shape))
    merged = np.zeros(X.shape[1:])
    for place in np.ndindex(*merged.shape):
        votes = [(w, x[place]) for w, x in zip(weights.tolist(), trimmed, strict=True)]
        total = sum(w * x for w, x in votes)
        agreeing = [(w, x) for w, x in votes if x * total > 0]
        if agreeing:
            merged[place] = sum(w * x for w, x in agreeing) / sum(w for w, _ in agreeing)
    return torch.from_numpy(merged)


def _pico_calibrated(case: Case) -> Case:
    members = case.present
    stack = torch.cat([u * s.sqrt() for u, s, _ in map(svd, members.D)], dim=1)
    U, S, _ = svd(stack)
    share = S.square() / S.square().sum()
    a = 1 / (1 + (len(members.D) - 1) * share)
    return replace(members, D=members.D + U @ (a - 1).diag() @ U.T @ members.D)


def _gam_parts(case: Case) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor, int]:
    members = case.present
    parts = [(u, s.diag(), v) for u, s, v in map(svd, members.D)]
    lengths = [float(D.norm()) for D in members.D]
    return parts, members.weights / members.weights.sum(), lengths.index(max(lengths))


def _tucker_subspace(case: Case) -> tuple[Tensor, Tensor]:
    """Five alternations, by SVDs of unfoldings."""
    weighted = [w * D for w, D in zip(case.present.weights, case.present.D, strict=True)]
    lengths = [D.norm() for D in weighted]
    beta, middle = case.hyper_parameters["beta"], sum(lengths) / len(lengths)
    targets = [(beta * length + (1 - beta) * middle) * D / length for D, length in zip(weighted, lengths, strict=True)]
    U = svd(torch.cat(targets, dim=1))[0][:, : case.rank]
    V = svd(torch.cat([T.T for T in targets], dim=1))[0][:, : case.rank]
    for _ in range(5):
        U = svd(torch.cat([T @ V for T in targets], dim=1))[0][:, : case.rank]
        V = svd(torch.cat([T.T @ U for T in targets], dim=1))[0][:, : case.rank]
    return U, V
