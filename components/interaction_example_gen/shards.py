"""Puts the events of a shard of users in order.

A shard is all events of the users whose id hashes to it: small enough to sit
in memory, and closed, since everything here is about one user at a time.
"""

import dataclasses

import farmhash
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.interaction_example_gen.arrow import flat
from components.interaction_example_gen.dead_letters import (
    INTERACTIONS,
    DeadLetter,
)
from components.interaction_example_gen.parsing import place_of
from serving.contract.protocol import (
    META_TRAIN,
    MIN_JUDGED_EVENTS,
    SPLITS,
    split_of_bucket,
)

_BUCKETS = 100
# Columns of an arranged shard; `split` is an index into SPLITS.
ARRANGED = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("label", pa.float32()),
        ("timestamp", pa.int64()),
        ("position", pa.int64()),
        ("split", pa.int8()),
    ]
)


def fingerprint64(texts: pa.Array) -> NDArray[np.uint64]:
    """Returns FarmHash's fingerprint of each text, [n]."""
    encoded = texts.dictionary_encode()
    hashes = [farmhash.fingerprint64(t) for t in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    return np.array(hashes, np.uint64)[codes]


def partition(
    batch: pa.RecordBatch, key: str, num_shards: int
) -> list[tuple[int, pa.RecordBatch]]:
    """Cuts a batch by shard of its key.

    The hash is the one that splits go by, but another part of it, so that a
    shard holds users of every split.
    """
    hashes = fingerprint64(batch.column(batch.schema.get_field_index(key)))
    shards = (hashes // np.uint64(_BUCKETS)) % np.uint64(num_shards)
    rows = np.argsort(shards, kind="stable")
    batch = batch.take(pa.array(rows))
    # None of a batch of which no row can be used.
    present, starts, counts = np.unique(
        shards[rows], return_index=True, return_counts=True
    )
    return [
        (int(shard), batch.slice(start, count))
        for shard, start, count in zip(present, starts, counts, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class ArrangedShard:
    """The events of a shard, ready to be joined.

    Attributes:
        events: Schema `ARRANGED`; sorted by user, and of a user by timestamp
            and item.
        letters: Dead letters of duplicate events.
        users: Users by split, as [len(SPLITS)].
        short_users: Users that the hash would judge but that have too few
            events for it.
    """

    events: pa.Table
    letters: list[DeadLetter]
    users: NDArray[np.int64]
    short_users: int


def arrange(
    events: pa.Table, files: list[str], never_judged: tuple[str, ...] = ()
) -> ArrangedShard:
    """Sorts events, drops duplicates, numbers positions, names splits.

    Args:
        events: Events of the shard, schema `parsing.EVENTS`, in any order.
        files: The log's files, for dead letters.
        never_judged: Users whose ids start so stay in meta_train.
    """
    user = _ranks(events.column("user_id"))
    item = _ranks(events.column("item_id"))
    time = events.column("timestamp").to_numpy()
    order = events.column("order").to_numpy()
    sort = np.lexsort((order, item, time, user))
    user, item, time = user[sort], item[sort], time[sort]
    repeats = np.zeros(len(sort), bool)
    repeats[1:] = (
        (user[1:] == user[:-1])
        & (time[1:] == time[:-1])
        & (item[1:] == item[:-1])
    )
    letters = _duplicates(events.take(pa.array(sort[repeats])), files)
    sort, user = sort[~repeats], user[~repeats]
    events = events.take(pa.array(sort))

    starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]][: len(user)])
    counts = np.diff(np.append(starts, len(user)))
    position = np.arange(len(user)) - np.repeat(starts, counts)
    ids = flat(events.column("user_id")).take(pa.array(starts))
    buckets = fingerprint64(ids) % np.uint64(_BUCKETS)
    splits = _splits(buckets, counts)
    hashed = _splits(buckets, np.maximum(counts, MIN_JUDGED_EVENTS))
    if never_judged:
        kept = [user_id.startswith(never_judged) for user_id in ids.to_pylist()]
        splits[kept] = hashed[kept] = SPLITS.index(META_TRAIN)
    arranged = pa.table(
        [
            events.column("user_id"),
            events.column("item_id"),
            events.column("label"),
            events.column("timestamp"),
            pa.array(position),
            pa.array(np.repeat(splits, counts)),
        ],
        schema=ARRANGED,
    )
    users = np.bincount(splits, minlength=len(SPLITS))
    short = int(np.count_nonzero(splits != hashed))
    return ArrangedShard(arranged, letters, users, short)


def _splits(
    buckets: NDArray[np.uint64], counts: NDArray[np.int64]
) -> NDArray[np.int8]:
    names = map(split_of_bucket, buckets.tolist(), counts.tolist())
    return np.array([SPLITS.index(name) for name in names], np.int8)


def _ranks(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """Ranks of texts in byte order, equal for equal texts, [n]."""
    encoded = flat(texts).dictionary_encode()
    sort = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(sort), np.int64)
    ranks[sort] = np.arange(len(sort))
    return ranks[encoded.indices.to_numpy()]


def _duplicates(events: pa.Table, files: list[str]) -> list[DeadLetter]:
    letters = []
    for event in events.to_pylist():
        file, row = place_of(event["order"])
        value = f"{event['user_id']}, {event['item_id']}, {event['timestamp']}"
        letters.append(
            DeadLetter("duplicate_event", INTERACTIONS, files[file], row, value)
        )
    return letters
