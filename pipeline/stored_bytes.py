"""What a user costs in the store, read from the records themselves."""

from typing import TypedDict

from serving.store import AdaptiveStore
from serving.store.record_bytes import encode_record


class BytesPerUser(TypedDict):
    """Means over users, in bytes.

    Attributes:
        weights: Adaptive weights alone.
        record: All that is kept of a user: weights, reservoir, features,
            owner, checksum.
    """

    weights: float
    record: float


def bytes_per_user(
    store: AdaptiveStore, model: str, prefix: str = ""
) -> BytesPerUser:
    """Measures a model's records.

    Args:
        store: The store; that of a running gateway may be opened a second
            time by another process.
        model: Name the model is served under.
        prefix: Only users whose id starts so, as `Session.prefix` gives it.

    Returns:
        Bytes per user; NaN if there is no such user.
    """
    count, weights, whole = 0, 0, 0
    for record in store.iterate(model):
        if record.key.user_id.startswith(prefix):
            count += 1
            weights += record.weights.nbytes
            whole += len(encode_record(record))
    if not count:
        return {"weights": float("nan"), "record": float("nan")}
    return {"weights": weights / count, "record": whole / count}
