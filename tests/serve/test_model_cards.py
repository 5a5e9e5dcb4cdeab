"""What clients read about an adapter in `/v1/models`."""

from __future__ import annotations

from dataclasses import replace

from router.records import Action, Placement, Route
from serve.model_cards import describe_route

ROUTE = Route("math", "0" * 64, "merged-1", Placement.MERGED, Action.MERGE, "measured", "ta", 0.93)


def test_a_merged_adapter_shows_what_was_measured_and_nothing_predicted() -> None:
    assert describe_route(ROUTE, epoch=7) == {
        "root": "merged-1",
        "mergeprobe": {
            "module": "merged-1",
            "placement": "merged",
            "action": "merge",
            "epoch": 7,
            "predicted_retention": None,
            "lower_bound": None,
            "measured_retention": 0.93,
            "protected": False,
        },
    }


def test_only_a_protected_placement_is_protected() -> None:
    shown = {
        placement: describe_route(replace(ROUTE, placement=placement), 1)["mergeprobe"]["protected"]
        for placement in Placement
    }
    assert shown == {Placement.MERGED: False, Placement.SEPARATE: False, Placement.PROTECTED: True}


def test_what_was_not_measured_is_none() -> None:
    assert describe_route(replace(ROUTE, measured_retention=None), 1)["mergeprobe"]["measured_retention"] is None
