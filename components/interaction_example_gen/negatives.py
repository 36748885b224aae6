"""Negatives for implicit events, the same ones in every run.

An event's negatives are drawn from the items known by its time, in
proportion to popularity^power, and never from the items that its user took.
The draws depend on the user's id, the event's position and the item
statistics alone: not on shards, workers or the order of files.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.interaction_example_gen.arrow import flat

# An event gives up after this many draws per negative: its user has taken
# nearly all items that were known by then.
_DRAWS_PER_NEGATIVE = 20

# Columns of the item statistics, one row per item of the log. `count` and
# `first_seen` go by the events of meta_train users; others have count 0.
STATISTICS = pa.schema(
    [
        ("item_id", pa.string()),
        ("count", pa.int64()),
        ("first_seen", pa.int64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Items to draw negatives from, in the order they became known.

    Attributes:
        item_id: Their ids, [m].
        first_seen: When a meta_train user first took each, in s, ascending,
            [m].
        cumulative: Cumulative sum of popularity^power, [m].
    """

    item_id: pa.Array
    first_seen: NDArray[np.int64]
    cumulative: NDArray[np.float64]

    @classmethod
    def from_statistics(
        cls, statistics: pa.Table, power: float
    ) -> "Candidates":
        """Orders the items that meta_train users took."""
        taken = statistics.filter(pc.greater(statistics["count"], 0))
        taken = taken.sort_by(
            [("first_seen", "ascending"), ("item_id", "ascending")]
        ).combine_chunks()
        weights = taken["count"].to_numpy().astype(np.float64) ** power
        return cls(
            flat(taken["item_id"]),
            taken["first_seen"].to_numpy(),
            np.cumsum(weights),
        )


def count_items(arranged: pa.Table) -> pa.Table:
    """Returns the statistics (`STATISTICS`) of the items of a shard."""
    trained = pc.equal(arranged["split"], 0)
    time = arranged["timestamp"]
    rows = pa.table(
        {
            "item_id": arranged["item_id"],
            "count": trained.cast(pa.int64()),
            "first_seen": pc.if_else(
                trained, time, pa.scalar(None, pa.int64())
            ),
        }
    )
    return _sum_up(rows)


def merge_counts(tables: list[pa.Table]) -> pa.Table:
    """Returns the statistics of several shards as one."""
    return _sum_up(pa.concat_tables([STATISTICS.empty_table(), *tables]))


def _sum_up(rows: pa.Table) -> pa.Table:
    grouped = rows.group_by("item_id").aggregate(
        [("count", "sum"), ("first_seen", "min")]
    )
    columns = ["item_id", "count_sum", "first_seen_min"]
    return (
        grouped.select(columns)
        .rename_columns(STATISTICS.names)
        .cast(STATISTICS)
        .sort_by("item_id")
    )


def sample_negatives(
    user_hash: NDArray[np.uint64],
    position: NDArray[np.int64],
    timestamp: NDArray[np.int64],
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    candidates: Candidates,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws negatives for events of whole users.

    Args:
        user_hash: `fingerprint64` of each event's user, [n].
        position: Each event's position, [n].
        timestamp: Each event's time in s, [n].
        user: A number of each event's user, [n].
        item: Index of each event's item in `candidates`, -1 if none, [n].
        candidates: What to draw from.
        count: Negatives per event; all different.

    Returns:
        Indices of events and, for each, of one candidate; sorted by event,
        then in the order they were drawn. An event has fewer than `count`
        where too few items were known by its time.
    """
    size = len(candidates.item_id)
    known = np.searchsorted(candidates.first_seen, timestamp, side="right")
    taken = np.unique((user * size + item)[item >= 0])
    drawn = np.full((len(user), count), -1, np.int64)
    found = np.zeros(len(user), np.int64)
    for draw in range(_DRAWS_PER_NEGATIVE * count):
        open_events = np.flatnonzero((found < count) & (known > 0))
        if not len(open_events):
            break
        total = candidates.cumulative[known[open_events] - 1]
        point = total * _uniform(
            user_hash[open_events], position[open_events], draw
        )
        choice = np.searchsorted(candidates.cumulative, point, side="right")
        choice = np.minimum(choice, known[open_events] - 1)
        code = user[open_events] * size + choice
        is_new = (drawn[open_events] != choice[:, None]).all(axis=1)
        is_new &= ~_contains(taken, code)
        rows = open_events[is_new]
        drawn[rows, found[rows]] = choice[is_new]
        found[rows] += 1
    events, places = np.nonzero(drawn >= 0)
    return events, drawn[events, places]


def _contains(
    sorted_codes: NDArray[np.int64], codes: NDArray[np.int64]
) -> NDArray[np.bool_]:
    if not len(sorted_codes):
        return np.zeros(len(codes), bool)
    place = np.searchsorted(sorted_codes, codes)
    place = np.minimum(place, len(sorted_codes) - 1)
    return sorted_codes[place] == codes


def _uniform(
    user_hash: NDArray[np.uint64], position: NDArray[np.int64], draw: int
) -> NDArray[np.float64]:
    """Numbers in [0, 1) by hash: no state, so no order to keep.

    The mixer is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    """
    with np.errstate(over="ignore"):
        step = position.astype(np.uint64) << np.uint64(16)
        bits = _mix(user_hash + _mix(step + np.uint64(draw)))
    return (bits >> np.uint64(11)).astype(np.float64) / 2.0**53


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
