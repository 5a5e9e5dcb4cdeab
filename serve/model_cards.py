"""How an adapter is described to clients, in `/v1/models` and under `/bank`."""

from __future__ import annotations

from router.records import Placement, Route


def describe_route(route: Route, epoch: int) -> dict[str, object]:
    """Return the fields that a model card adds to vLLM's: the module as `root`, and the `mergeprobe` object."""
    return {
        "root": route.module,
        "mergeprobe": {
            "module": route.module,
            "placement": route.placement.value,
            "action": route.action.value,
            "epoch": epoch,
            "predicted_retention": route.predicted_retention,
            "lower_bound": route.lower_bound,
            "measured_retention": route.measured_retention,
            "protected": route.placement is Placement.PROTECTED,
        },
    }
