"""Who has no record: deleted, by whichever process, or expired."""

import asyncio
import itertools
from collections.abc import Collection

from serving.store import AdaptiveStore, UserKey

# Users whose records are looked for at a time.
_MAX_USERS = 256


async def users_gone(
    store: AdaptiveStore, model: str, user_ids: Collection[str]
) -> set[str]:
    """Returns those of a model's users who have no record.

    Args:
        store: Has the records.
        model: Name of the model.
        user_ids: Whom to look for.

    Raises:
        StoreError: Records can't be read.
    """
    gone = set[str]()
    left = iter(user_ids)
    while some := list(itertools.islice(left, _MAX_USERS)):
        records = await asyncio.to_thread(
            store.get_many, [UserKey(model, each) for each in some]
        )
        gone.update(
            user_id
            for user_id, record in zip(some, records, strict=True)
            if record is None
        )
    return gone
