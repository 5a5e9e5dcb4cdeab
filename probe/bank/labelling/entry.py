"""What the journal of labels holds: one module's answers to the rows of some adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from probe.bank.labelling.measurement import Measurement, Stage
from probe.bank.labelling.members import Member
from probe.bank.measuring import Answered


@dataclass(frozen=True, slots=True)
class Entry:
    """One measurement, done.

    Attributes
    ----------
    measurement
        What was asked.
    rank
        Output rank of the merge.
    contents
        Name -> content hashes of the adapter and of its rows, for all that were involved: an entry of other contents is
        no longer about this bank.
    answers
        Asked adapter -> the answers to its rows.
    kept_energy, norm_ratio
        As in `probe.bank.records.Label`; NaN without a merge.
    seconds
        Of merging and asking.
    """

    measurement: Measurement
    rank: int
    contents: Mapping[str, str]
    answers: Mapping[str, Answered]
    kept_energy: float
    norm_ratio: float
    seconds: float

    def is_about(self, members: Mapping[str, Member]) -> bool:
        """Say whether it was measured on these adapters and these rows."""
        return all(name in members and content_of(members[name]) == seen for name, seen in self.contents.items())

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values; `from_json` gives it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Make it from JSON values."""
        asked = dict(fields["measurement"])
        asked |= {name: tuple(asked[name]) for name in ("members", "asked")}
        asked |= {"stage": Stage(asked["stage"]), "weights": asked["weights"] and tuple(asked["weights"])}
        answers = {
            name: Answered(tuple(one["scores"]), tuple(one["log_likelihoods"]))
            for name, one in fields["answers"].items()
        }
        return cls(**{**fields, "measurement": Measurement(**asked), "answers": answers})


def content_of(member: Member) -> str:
    """Return what an entry remembers of an adapter."""
    return f"{member.record.revision[:16]} {member.record.row_set}"
