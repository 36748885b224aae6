"""One user's record: adaptive weights, where they come from, how they go on."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.support import SupportEvent

# Of a fingerprint, and of the owner.
DIGEST_BYTES = 8
# The version that serves, the one that follows, one to go back to and one
# more in an experiment.
MAX_VERSIONS = 4

_NO_FINGERPRINT = bytes(DIGEST_BYTES)


@functools.lru_cache(maxsize=64)
def fingerprint_digest(fingerprint: str) -> bytes:
    """Returns the 8 bytes by which a record names a fingerprint."""
    return _digest(fingerprint.encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


@dataclasses.dataclass(frozen=True)
class UserKey:
    """Whose record, and for which model.

    Attributes:
        model: Name the model is served under; holds no NUL.
        user_id: The user.
    """

    model: str
    user_id: str

    def to_bytes(self) -> bytes:
        """Returns the key as stored; unique because models hold no NUL."""
        return f"{self.model}\0{self.user_id}".encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "UserKey":
        """Returns the key that `to_bytes` stored."""
        model, _, user_id = data.decode().partition("\0")
        return cls(model, user_id)

    @property
    def digest(self) -> bytes:
        """The 8 bytes by which a record names its owner."""
        return _digest(self.to_bytes())


@dataclasses.dataclass(frozen=True, eq=False)
class VersionWeights:
    """A user's weights for one fixed part.

    Attributes:
        fingerprint: `fingerprint_digest` of the fixed part that the weights
            were learned for; they are never applied under another.
        weights: Adaptive weights, finite, float32 or float16, shape [P].
        support_count: How many events they rest on.
    """

    fingerprint: bytes
    weights: NDArray[np.floating[Any]]
    support_count: int


@dataclasses.dataclass(frozen=True, eq=False)
class UserRecord:
    """What is stored of one user under one model.

    The events are kept once, the weights for each of several versions of the
    fixed part: after a rollback those of the old version are still there, and
    what was learned in the meantime is in the reservoir.

    Attributes:
        key: Owner and model.
        fingerprint: `fingerprint_digest` of the fixed part that learned last.
        sequence: 1 for the first record of a user, then one more each time.
        support_count: How many of the user's events were seen.
        weights: What was learned last: adaptive weights, finite, float32 or
            float16, shape [P]; none, shape [0], if that version was retired.
        reservoir: The user's own events that are kept, oldest first.
        updated_ms: When it was written, milliseconds since 1970, UTC.
        earlier: Weights for other fixed parts, those learned last first.
        log_position: Where in the event log the newest of the events is; 0
            if they did not come from a log. What the log delivers at or
            before it is learned already.
        features: What was last told of the user, as the log has it; the
            store does not look inside.
    """

    key: UserKey
    fingerprint: bytes
    sequence: int
    support_count: int
    weights: NDArray[np.floating[Any]]
    reservoir: Sequence[SupportEvent] = ()
    updated_ms: int = 0
    earlier: tuple[VersionWeights, ...] = ()
    log_position: int = 0
    features: bytes = b""

    @property
    def versions(self) -> tuple[VersionWeights, ...]:
        """All the weights, those learned last first."""
        latest = VersionWeights(
            self.fingerprint, self.weights, self.support_count
        )
        return (latest, *self.earlier)

    def weights_for(
        self, fingerprint: str, num_adaptive: int
    ) -> VersionWeights | None:
        """Returns the weights that may be applied under a fixed part."""
        digest = fingerprint_digest(fingerprint)
        for version in self.versions:
            if version.fingerprint == digest:
                fits = version.weights.shape == (num_adaptive,)
                return version if fits else None
        return None

    def earlier_than(self, fingerprint: bytes) -> tuple[VersionWeights, ...]:
        """Returns `earlier` of the record that follows this one.

        Args:
            fingerprint: `fingerprint_digest` of the fixed part that learns.
        """
        others = (
            version
            for version in self.versions
            if version.fingerprint != fingerprint and version.weights.size
        )
        return tuple(others)[: MAX_VERSIONS - 1]

    def without(self, fingerprint: bytes) -> "UserRecord | None":
        """Returns the next record with the weights for a fixed part dropped.

        None if there are no such weights.
        """
        latest = self.fingerprint == fingerprint
        if not any(v.fingerprint == fingerprint for v in self.versions):
            return None
        return dataclasses.replace(
            self,
            sequence=self.sequence + 1,
            fingerprint=_NO_FINGERPRINT if latest else self.fingerprint,
            weights=self.weights[:0] if latest else self.weights,
            earlier=tuple(
                v for v in self.earlier if v.fingerprint != fingerprint
            ),
        )
