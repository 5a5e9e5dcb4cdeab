"""Records and the base error that every module of MergeProbe shares."""

from __future__ import annotations


class MergeProbeError(Exception):
    """Base of every error that a user of MergeProbe can cause or mend.

    The message says what was seen, what was expected and what to do next.
    """
