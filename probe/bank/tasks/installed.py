"""Domains that other packages bring, as entry points of the group `mergeprobe.tasks`.

A package declares one by its domain name::

    [project.entry-points."mergeprobe.tasks"]
    geography = "my_package:GEOGRAPHY"

where the object is a `Task`, such as ``read_task(Path(__file__).with_name("geography.jsonl"))``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points

from probe.bank.tasks.problem import Task, TaskError

GROUP = "mergeprobe.tasks"


def declared_tasks(taken: Collection[str]) -> Mapping[str, EntryPoint]:
    """Return the entry points by domain, without loading them.

    Raises
    ------
    TaskError
        Two packages declare the same domain, or one declares a domain of `taken`.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name in taken:
            raise TaskError(f"{_label(point)} takes the name of a built-in domain; rename it or uninstall the package")
        other = found.setdefault(point.name, point)
        # An installed package can be seen twice, through two folders of the search path.
        if other.value != point.value:
            raise TaskError(f"{_label(point)} and {_label(other)} are one domain; uninstall one of the packages")
    return found


def load_task(point: EntryPoint) -> Task:
    """Load the task that `point` declares.

    Raises
    ------
    TaskError
        It does not load, is no `Task`, or has another domain than its entry point says.
    """
    try:
        task = point.load()
    except Exception as error:  # whatever a foreign package raises
        raise TaskError(
            f"{_label(point)} does not load ({type(error).__name__}: {error}); mend or uninstall the package"
        ) from error
    if not isinstance(task, Task):
        raise TaskError(f"{_label(point)} must be a Task, saw {type(task).__name__}")
    if task.domain != point.name:
        raise TaskError(f"{_label(point)} has the domain '{task.domain}'; give both the same name")
    return task


def _label(point: EntryPoint) -> str:
    owner = f" of package {point.dist.name}" if point.dist else ""
    return f"task '{point.name}' ({point.value}{owner})"
