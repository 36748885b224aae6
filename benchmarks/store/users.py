"""Users as MovieLens-1M has them, to fill a store with."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from serving.contract.support import RESERVOIR_EVENTS, SupportEvent
from serving.event_log.event_log import POSITION_TIME_BITS
from serving.online.told import encode_told
from serving.packing import seal
from serving.protos import recommender_pb2 as pb
from serving.store import (
    UserKey,
    UserRecord,
    fingerprint_digest,
    pack_events,
)
from serving.store.packed_events import PackedEvents
from serving.store.record_bytes import encode_record
from serving.store.tombstone import now_ms

WEIGHTS = 17
ITEMS = 3952
FILL_BATCH = 50_000
RESERVOIRS = 1000
# Films that a user of MovieLens-1M rated, one number for every tenth of them;
# no more than a reservoir holds.
EVENTS = (23, 32, 44, 60, 81, 109, 148, *(3 * (RESERVOIR_EVENTS,)))


def key_of(user: int) -> UserKey:
    """Where a user's record lies."""
    # Numbers that are not in order, as user ids are.
    return UserKey("adaptower", str(1_000_000 + user))


_draw = random.Random(0)
_RESERVOIRS = [
    PackedEvents(
        pack_events(
            [
                SupportEvent(str(_draw.randint(1, ITEMS)), _draw.randint(0, 1))
                for _ in range(EVENTS[user % len(EVENTS)])
            ]
        )
    )
    for user in range(RESERVOIRS)
]


def features_of(user: int) -> bytes:
    """What a SubmitFeedback tells of a user of MovieLens-1M."""
    values = {
        "age": str(18 + user % 7),
        "gender": "FM"[user % 2],
        "occupation": str(user % 21),
        "zip_region": str(user % 10),
    }
    return encode_told(
        {
            name: pb.FeatureValues(strings=pb.StringList(values=[value]))
            for name, value in values.items()
        }
    )


def record_of(user: int) -> UserRecord:
    """A user's record as the online stage leaves it."""
    draw = np.random.default_rng(user)
    return UserRecord(
        key=key_of(user),
        fingerprint=fingerprint_digest("f"),
        sequence=1,
        support_count=200,
        weights=draw.standard_normal(WEIGHTS, np.float32),
        reservoir=_RESERVOIRS[user % RESERVOIRS],
        updated_ms=now_ms(),
        log_position=now_ms() << POSITION_TIME_BITS,
        features=features_of(user),
    )


def fill(write: Callable[[dict[bytes, bytes]], Any], users: int) -> None:
    """Stores the users in random order, past the interface: it is quicker."""
    templates = [encode_record(record_of(user)) for user in range(RESERVOIRS)]
    order = np.random.default_rng(0).permutation(users).tolist()
    for start in range(0, users, FILL_BATCH):
        batch = order[start : start + FILL_BATCH]
        write({key_of(u).to_bytes(): of_user(u, templates) for u in batch})


def of_user(user: int, templates: list[bytes]) -> bytes:
    """The bytes of one user's record, made of another's."""
    template = bytearray(templates[user % len(templates)][:-4])
    # After the format and the sequence comes the digest of the owner.
    template[2:10] = key_of(user).digest
    return seal(template)
