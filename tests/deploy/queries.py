"""Every query that `deploy/` ships: what the dashboard's panels and Prometheus' rules ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "mergeprobe.json"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
RULES = DEPLOY / "prometheus" / "rules.yml"

GRAFANA_VARIABLES = {"$__rate_interval": "5m"}
"""What Grafana would fill in; any window of some scrapes will do."""


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel, in plain PromQL, and the labels that its legend or table shows."""

    panel: str
    query: str
    labels: frozenset[str]


def dashboard() -> dict[str, Any]:
    """Read the shipped dashboard."""
    return json.loads(DASHBOARD.read_text())


def panels() -> Iterator[dict[str, Any]]:
    """Yield the dashboard's panels and rows, those inside of collapsed rows too."""
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", ())


def dashboard_targets() -> list[Target]:
    """Return every query of every panel, with Grafana's variables filled in."""
    return [_target(panel, target) for panel in panels() for target in panel.get("targets", ())]


def dashboard_queries() -> list[str]:
    """Return every query of the dashboard as plain PromQL, ready for `/api/v1/query`."""
    return [target.query for target in dashboard_targets()]


def rules() -> list[dict[str, Any]]:
    """Return every recording and alerting rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def rule_queries() -> list[str]:
    """Return the expression of every recording and alerting rule."""
    return [rule["expr"] for rule in rules()]


def series_names(query: str) -> set[str]:
    """Return the names of the series that a query selects.

    Examples
    --------
    >>> sorted(series_names('sum by (le) (rate(a_bucket{x="b c"}[5m])) unless on (y) r:d:5m offset 1h'))
    ['a_bucket', 'r:d:5m']
    """
    rest = re.sub(r'"[^"]*"', "", query)
    rest = re.sub(r"\{[^}]*\}|\[[^]]*\]|\boffset\s+\w+", " ", rest)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", rest)
    names = re.findall(r"\b[a-zA-Z_][\w:]*\b(?!\s*\()", rest)
    return set(names) - {"and", "or", "unless", "bool"}


def _target(panel: dict[str, Any], target: dict[str, Any]) -> Target:
    query = target["expr"]
    for variable, value in GRAFANA_VARIABLES.items():
        query = query.replace(variable, value)
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    for transformation in panel.get("transformations", ()):
        shown |= set(transformation["options"].get("indexByName", ()))
    return Target(panel["title"], query, frozenset(shown))
