"""What the bytes stand for that a store has of a user.

They are a record or a tombstone, either of them perhaps expired, or damaged:
then they count as none.
"""

import logging

from serving.errors import DeletedUserError, RecordError
from serving.store.record import UserKey, UserRecord
from serving.store.record_bytes import decode_record
from serving.store.tombstone import Retention, Tombstone, deleted

_log = logging.getLogger(__name__)


def live_record(
    data: bytes | None, key: UserKey, retention: Retention
) -> UserRecord | None:
    """Returns the record that stored bytes stand for.

    Raises:
        RecordError: The bytes are damaged.
    """
    if data is None or Tombstone.from_bytes(data) is not None:
        return None
    record = decode_record(data, key)
    return None if retention.expired(record.updated_ms) else record


def live_or_none(
    data: bytes | None, key: UserKey, retention: Retention
) -> UserRecord | None:
    """Like `live_record`, but logs what is damaged and returns None."""
    try:
        return live_record(data, key, retention)
    except RecordError as error:
        _log.warning("%s", error)
        return None


def may_follow(
    record: UserRecord, data: bytes | None, retention: Retention
) -> bool | DeletedUserError:
    """Whether a record may take the place of the stored bytes."""
    if Tombstone.live(data) is not None:
        return deleted(record.key)
    stored = live_or_none(data, record.key, retention)
    return record.sequence == (stored.sequence if stored else 0) + 1


def has_expired(data: bytes, key: UserKey, retention: Retention) -> bool:
    """Whether stored bytes are a record or tombstone that has expired."""
    if Tombstone.from_bytes(data) is not None:
        return Tombstone.live(data) is None
    try:
        return live_record(data, key, retention) is None
    except RecordError:
        # Damaged bytes stay until the user's next feedback replaces them.
        return False
