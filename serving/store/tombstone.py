"""What stays of a deleted user, so that a late event brings nothing back."""

import dataclasses
import time

from serving.errors import DeletedUserError
from serving.packing import Reader, put_varint, seal, unseal
from serving.store.record import UserKey

# No record starts so; see `record_bytes.py`.
TOMBSTONE_FORMAT = 0x54


def now_ms() -> int:
    """Returns the milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


@dataclasses.dataclass(frozen=True)
class Retention:
    """How long a store or log keeps what.

    Attributes:
        ttl_seconds: Records of users unseen for so long expire; None keeps
            them for good.
        tombstone_seconds: For so long nothing of a deleted user is taken in.
            Longer than any event may be on its way.
    """

    ttl_seconds: float | None = None
    tombstone_seconds: float = 30 * 24 * 3600.0

    def expires_ms(self, updated_ms: int) -> int | None:
        """Returns when a record expires; None if never."""
        if self.ttl_seconds is None:
            return None
        return updated_ms + int(self.ttl_seconds * 1000)

    def expired(self, updated_ms: int) -> bool:
        """Whether a record written then has expired."""
        expires_ms = self.expires_ms(updated_ms)
        return expires_ms is not None and expires_ms <= now_ms()


@dataclasses.dataclass(frozen=True)
class Tombstone:
    """The mark that a user was deleted; the receipt of `delete` rests on it.

    Attributes:
        deleted_ms: When, milliseconds since 1970, UTC.
        expires_ms: Until then nothing of the user is stored.
    """

    deleted_ms: int
    expires_ms: int

    @classmethod
    def now(cls, retention: Retention) -> "Tombstone":
        """Returns the tombstone of a user deleted at this moment."""
        moment = now_ms()
        kept = int(retention.tombstone_seconds * 1000)
        return cls(moment, moment + kept)

    @property
    def expired(self) -> bool:
        """Whether the user may come back."""
        return self.expires_ms <= now_ms()

    @classmethod
    def live(cls, data: bytes | None) -> "Tombstone | None":
        """Decodes a stored value; None if it is no tombstone, or expired."""
        found = None if data is None else cls.from_bytes(data)
        return None if found is None or found.expired else found

    def to_bytes(self) -> bytes:
        """Encodes the tombstone."""
        out = bytearray((TOMBSTONE_FORMAT,))
        put_varint(out, self.deleted_ms)
        put_varint(out, self.expires_ms)
        return seal(out)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tombstone | None":
        """Decodes a stored value; None if it is no tombstone.

        Damaged bytes are none: they count as a damaged record.
        """
        if data[:1] != bytes((TOMBSTONE_FORMAT,)):
            return None
        try:
            reader = Reader(unseal(data), 1)
            tombstone = cls(reader.varint(), reader.varint())
            reader.end()
        except ValueError:
            return None
        return tombstone


def deleted(key: UserKey) -> DeletedUserError:
    """Returns the error for a user with a tombstone."""
    return DeletedUserError(
        f"User {key.user_id!r} was deleted; nothing about the user is taken "
        "in until the tombstone expires."
    )
