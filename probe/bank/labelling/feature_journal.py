"""What was measured of features so far: rows of adapters and pairs, and what adapters do on each other's rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from probe.bank.labelling.entry import content_of
from probe.bank.labelling.journal import Journal
from probe.bank.labelling.members import Member
from probe.bank.labelling.workplace import Workplace
from probe.bank.records import FeatureRow
from probe.calibration import Displacements
from probe.calibration.joint_loss import NUM_ROWS as LOSS_ROWS
from probe.calibration.shift import NUM_ROWS as SHIFT_ROWS
from probe.profiles import CrossTask, JointLoss
from probe.vectors import SCHEMA_VERSION

FEATURES_FILE = "features.jsonl"
DISPLACEMENTS_FILE = "displacements.jsonl"
LOSSES_FILE = "losses.jsonl"

RowKey = tuple[tuple[str, ...], tuple[float, ...]]
"""Names, and the share of training of each."""
State = tuple[str, float]
"""An adapter at a share of its training."""


class FeatureJournal:
    """All of it but what is of adapters that have changed since, of another plan, or of another feature schema.

    Displacements are kept, not shifts: a shift, say of an early adapter on the rows of a finished one, follows from the
    displacements of both, and each of these is measured once for many shifts.
    """

    def __init__(self, place: Workplace, members: Mapping[str, Member]) -> None:
        self._features = Journal(place.work / FEATURES_FILE)
        self._displacements = Journal(place.work / DISPLACEMENTS_FILE)
        self._losses = Journal(place.work / LOSSES_FILE)
        self._place, self._members = place, members
        self._rows: dict[RowKey, FeatureRow] = {}
        self._moved: dict[str, Displacements[State]] = {}
        self._joint: dict[tuple[State, State], JointLoss] = {}
        for fields in self._features:
            self._keep_row(fields)
        for fields in self._displacements:
            self._keep_displacements(fields)
        for fields in self._losses:
            self._keep_losses(fields)

    def append(self, row: FeatureRow) -> None:
        """Keep features, on disk first."""
        fields = {"names": row.names, "rhos": row.rhos, "values": row.values, "of": self._of_row(row.names)}
        self._features.append(fields)
        self._keep_row(fields)

    def append_displacements(self, owner: str, found: Displacements[State]) -> None:
        """Keep how far adapters move the rows of one, on disk first."""
        fields = {
            "owner": owner,
            "of_base": found.of_base,
            "of_updates": [[*state, squares] for state, squares in found.of_updates.items()],
            "num_rows": found.num_rows,
            "of": self._of((owner, *(name for name, _ in found.of_updates)), SHIFT_ROWS),
        }
        self._displacements.append(fields)
        self._keep_displacements(fields)

    def append_losses(self, owner: State, found: Mapping[State, JointLoss]) -> None:
        """Keep what is left of an adapter's answers beside others, on disk first."""
        fields = {
            "owner": owner,
            "beside": [[*state, asdict(loss)] for state, loss in found.items()],
            "of": self._of((owner[0], *(name for name, _ in found)), LOSS_ROWS),
        }
        self._losses.append(fields)
        self._keep_losses(fields)

    def _of_row(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what the features of these adapters depend on."""
        return self._of(names, SHIFT_ROWS, LOSS_ROWS, SCHEMA_VERSION)

    def _of(self, names: Iterable[str], *numbers: int) -> dict[str, Any]:
        """Return what measurements of these adapters depend on: their contents and numbers of rows."""
        contents = {name: content_of(self._members[name]) for name in names if name in self._members}
        return contents | {"": [self._place.spec.calibration_rows, *numbers]}

    def _keep_row(self, fields: Mapping[str, Any]) -> None:
        names, rhos = tuple(fields["names"]), tuple(fields["rhos"])
        if fields["of"] == self._of_row(names):
            self._rows[names, rhos] = FeatureRow(names, rhos, fields["values"])

    def _keep_displacements(self, fields: Mapping[str, Any]) -> None:
        owner = fields["owner"]
        moved = {state: _squares(of) for state, of in self._unchanged(fields, owner, "of_updates", SHIFT_ROWS)}
        if not moved:
            return
        known = self._moved[owner].of_updates if owner in self._moved else {}
        self._moved[owner] = Displacements(_squares(fields["of_base"]), {**known, **moved}, fields["num_rows"])

    def _keep_losses(self, fields: Mapping[str, Any]) -> None:
        owner = tuple(fields["owner"])
        for state, loss in self._unchanged(fields, owner[0], "beside", LOSS_ROWS):
            self._joint[owner, state] = JointLoss(**loss)

    def _unchanged(
        self, fields: Mapping[str, Any], owner: str, what: str, num_rows: int
    ) -> Iterator[tuple[State, dict[str, Any]]]:
        """Yield what was measured of adapters that are the same now; nothing where the owner or the plan is not."""
        seen, now = fields["of"], self._of((owner, *(name for name, _, _ in fields[what])), num_rows)
        if all(seen[name] == now.get(name) for name in ("", owner)):
            yield from (((name, rho), own) for name, rho, own in fields[what] if seen[name] == now.get(name))

    def has_row(self, names: tuple[str, ...], rhos: tuple[float, ...]) -> bool:
        """Say whether these features were measured."""
        return (names, rhos) in self._rows

    def has_displacement(self, owner: str, state: State) -> bool:
        """Say whether it was measured how far an adapter moves the rows of another, or its own."""
        return owner in self._moved and state in self._moved[owner].of_updates

    def has_loss(self, owner: State, other: State) -> bool:
        """Say whether it was measured what is left of an adapter's answers beside another."""
        return (owner, other) in self._joint

    def cross_task(self, other: State, owner: State) -> CrossTask:
        """Return what an adapter does on the rows of another, both as they were at a share of their training."""
        return CrossTask(self._moved[owner[0]].shift(other, owner), self._joint[owner, other])

    def of_adapters(self) -> tuple[FeatureRow, ...]:
        """Return the rows of single adapters, sorted."""
        return tuple(row for key, row in sorted(self._rows.items()) if len(key[0]) == 1)

    def of_pairs(self) -> tuple[FeatureRow, ...]:
        """Return the rows of pairs, sorted."""
        return tuple(row for key, row in sorted(self._rows.items()) if len(key[0]) == 2)


def _squares(fields: Mapping[Any, float]) -> dict[int, float]:
    """Return block number -> sum of squares, whose keys JSON made texts."""
    return {int(number): value for number, value in fields.items()}
