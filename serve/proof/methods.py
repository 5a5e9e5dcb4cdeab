"""Ways to plan a bank, one row each: what each merges, and how many merges it has to measure for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from router.partition import best_partition
from serve.proof.contest import Contest, Outcome, Plan, scored
from serve.proof.recorded_forecasts import cosines

MERGEPROBE, ORACLE = "MergeProbe", "oracle"
MERGE_ALL, MERGE_FREE, RANDOM, COSINE = "merge all", "merge all but safety", "random groups", "cosine groups"

Method = Callable[[Contest], Outcome]


def mergeprobe(contest: Contest) -> Outcome:
    """Forecast, measure what is worth it, serve what passed."""
    return contest.mergeprobe


def separate(_: Contest) -> Outcome:
    """Merge nothing."""
    return Outcome(((),))


def merge_all(operator: str, with_protected: bool = True) -> Method:
    """Return the method that merges the whole bank by one operator, measured or not."""

    def method(contest: Contest) -> Outcome:
        bank = contest.bank
        members = frozenset((*bank.free, *bank.guests) if with_protected else bank.free)
        return Outcome(
            tuple((one,) for one in bank.recipes if frozenset(one.members) == members and one.operator == operator)
        )

    return method


def random_groups(operator: str) -> Method:
    """Return the method that merges by chance, at MergeProbe's cost: every partition is equally likely."""

    def method(contest: Contest) -> Outcome:
        return Outcome(tuple(partitions(contest, operator, contest.num_modules)))

    return method


def partitions(contest: Contest, operator: str, modules: int) -> Iterator[Plan]:
    """Yield every plan of so many modules whose groups one operator merges."""
    recipes = {frozenset(one.members): one for one in contest.bank.groups if one.operator == operator}
    largest = max(map(len, recipes))
    wanted = modules - len(contest.bank.guests)
    for blocks in _set_partitions(list(contest.bank.free), wanted, largest):
        yield tuple(recipes[block] for block in map(frozenset, blocks) if len(block) > 1)


def _set_partitions(items: Sequence[str], count: int, largest: int) -> Iterator[list[list[str]]]:
    """Yield every way to part items into `count` blocks of at most `largest`."""
    if not items:
        if count == 0:
            yield []
        return
    first, rest = items[0], items[1:]
    for blocks in _set_partitions(rest, count - 1, largest) if count > 0 else ():
        yield [[first], *blocks]
    for blocks in _set_partitions(rest, count, largest) if len(rest) >= count else ():
        for place, block in enumerate(blocks):
            if len(block) < largest:
                yield [*blocks[:place], [first, *block], *blocks[place + 1 :]]


def cosine_groups(operator: str) -> Method:
    """Return the method that merges updates which point the same way, at MergeProbe's cost.

    Two groups are joined while every cosine between them passes a threshold, which is lowered until the plan is as
    cheap as MergeProbe's.
    """
    return lambda contest: Outcome((cosine_plan(contest, operator, contest.num_modules),))


def cosine_plan(contest: Contest, operator: str, modules: int) -> Plan:
    """Return the plan of so many modules, or of as few as there can be."""
    known, recipes = cosines(contest.bank), contest.bank.groups
    by_members = {frozenset(one.members): one for one in recipes if one.operator == operator}
    blocks = [frozenset((name,)) for name in contest.bank.free]
    while len(blocks) + len(contest.bank.guests) > modules:
        joins = [
            (min(known[frozenset((a, b))] for a in one for b in other), one, other)
            for place, one in enumerate(blocks)
            for other in blocks[:place]
            if one | other in by_members
        ]
        if not joins:
            break
        _, one, other = max(joins, key=lambda join: (join[0], sorted(join[1]), sorted(join[2])))
        blocks = [block for block in blocks if block not in (one, other)] + [one | other]
    return tuple(by_members[block] for block in blocks if len(block) > 1)


def verified_at_random(contest: Contest) -> Outcome:
    """Measure as many merges as MergeProbe did, in random order, and serve the best of what passed."""
    budget = contest.mergeprobe.num_verified
    found = (best_partition(contest.passed(order[:budget])) for order in contest.random_orders())
    return Outcome(tuple(tuple(group.recipe for group in partition) for partition in found), budget)


def oracle(contest: Contest) -> Outcome:
    """Serve what is best by the report rows, which no other method may see, with every group measured."""
    known = {recipe: contest.bank.told(recipe) for recipe in contest.bank.groups}
    target = contest.settings.target_retention
    groups = [
        scored(recipe, told, contest.settings)
        for recipe, told in known.items()
        if all(kept >= target for kept in told.values()) and not contest.bank.safety_told(recipe)[1]
    ]
    return Outcome((tuple(group.recipe for group in best_partition(groups)),), len(known))


def methods(contest: Contest) -> Mapping[str, Method]:
    """Return name -> method, MergeProbe first and the oracle last."""
    grouped = sorted({one.operator for one in contest.bank.groups})
    of_all = sorted({one.operator for one in contest.bank.of_all})
    return {
        MERGEPROBE: mergeprobe,
        "all separate": separate,
        **{f"{MERGE_ALL}, {operator}": merge_all(operator) for operator in of_all},
        **{f"{MERGE_FREE}, {operator}": merge_all(operator, with_protected=False) for operator in of_all},
        **{f"{RANDOM}, {operator}": random_groups(operator) for operator in grouped},
        **{f"{COSINE}, {operator}": cosine_groups(operator) for operator in grouped},
        "verified in random order": verified_at_random,
        ORACLE: oracle,
    }
