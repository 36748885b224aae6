"""Where each user's adaptive weights are kept.

`AdaptiveStore` is the contract, `LmdbStore` the durable store of one machine,
`RedisStore` that of several gateways (in `redis_store`, so that redis-py is
loaded by those who need it), `MemoryStore` the one for tests. All of them
store the bytes of `record_bytes.py`.
"""

from serving.store.adaptive_store import AdaptiveStore
from serving.store.lmdb_store import LmdbStore
from serving.store.memory_store import MemoryStore
from serving.store.packed_events import pack_events
from serving.store.record import (
    UserKey,
    UserRecord,
    VersionWeights,
    fingerprint_digest,
)
from serving.store.tombstone import Retention, Tombstone

__all__ = [
    "AdaptiveStore",
    "LmdbStore",
    "MemoryStore",
    "Retention",
    "Tombstone",
    "UserKey",
    "UserRecord",
    "VersionWeights",
    "fingerprint_digest",
    "pack_events",
]
