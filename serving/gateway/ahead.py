"""Gets a version ready before it serves: its items, and users met lately.

Else those who come right after a switch would ask for the same items, all at
the same moment, and for their own vectors; and who has no weights for the
version would be answered without. So their weights are learned again, and
vectors asked for, while the version before still answers: a few at a time,
with rests between them. Whoever is not reached in time is as well off as
without.
"""

import asyncio
import itertools
import logging
from collections.abc import Sequence

from serving.errors import ServingError
from serving.gateway.kept_vectors import MAX_USERS, Met
from serving.gateway.scoring import Scoring
from serving.models.ladder import Ladder, UserState
from serving.models.served_model import ServedModel
from serving.models.templates import RankRow
from serving.online.stragglers import Stragglers
from serving.store import AdaptiveStore, UserKey

_log = logging.getLogger(__name__)

# So long a switch to a new version may wait for it.
_AHEAD_SECONDS = 10.0
# So many users are made ready at a time; then comes a rest, so many times as
# long as that took.
_USERS = 16
_REST = 3.0


class Ahead:
    """What is done ahead of a switch; lives inside one event loop."""

    def __init__(
        self,
        scoring: Scoring,
        store: AdaptiveStore,
        ladder: Ladder,
        stragglers: Stragglers,
    ) -> None:
        """Sets it up.

        Args:
            scoring: Keeps the vectors.
            store: The users' weights.
            ladder: Says which weights apply for a user.
            stragglers: Learns users again for the version.
        """
        self._scoring = scoring
        self._store = store
        self._ladder = ladder
        self._stragglers = stragglers

    async def prepare(self, model: ServedModel) -> None:
        """Gets a version ready, as far as that goes soon."""
        if not self._scoring.keeps(model):
            return
        try:
            await asyncio.wait_for(self._prepare(model), _AHEAD_SECONDS)
        except asyncio.TimeoutError:
            _log.info("%s: not all who were met are ready", model.name)
        except ServingError as error:
            _log.warning("%s: users are not ready: %s", model.name, error)

    async def _prepare(self, model: ServedModel) -> None:
        clock = asyncio.get_running_loop().time
        await self._scoring.ask_for_items(model)
        kept = self._scoring.kept
        forgotten = kept.forgotten
        # More would push out those who came last.
        met = itertools.islice(kept.users_met(model), MAX_USERS // 2)
        while users := [*itertools.islice(met, _USERS)]:
            begin = clock()
            await self._expect(model, users, forgotten)
            if kept.forgotten != forgotten:
                # Those who are left are forgotten.
                return
            await asyncio.sleep(_REST * (clock() - begin))

    async def _expect(
        self, model: ServedModel, met: Sequence[Met], forgotten: int
    ) -> None:
        """Learns users who are behind, and asks for everybody's vector."""
        users = await self._read(model, [each.user_id for each in met])
        behind = [user_id for user_id, user in users.items() if user.behind]
        if behind:
            keys = [UserKey(model.name, user_id) for user_id in behind]
            await self._stragglers.learn(model, keys)
            users |= await self._read(model, behind)
        await asyncio.gather(
            *(
                self._scoring.ask_ahead(
                    model,
                    RankRow(user.weights, each.features, ()),
                    user_id,
                    forgotten,
                )
                for each in met
                # Not of somebody who is gone.
                if (user := users[user_id := each.user_id]).record
                or not user_id
            )
        )

    async def _read(
        self, model: ServedModel, user_ids: Sequence[str]
    ) -> dict[str, UserState]:
        """Finds the weights; of the empty id those that nobody has."""
        known = sorted({*user_ids} - {""})
        keys = [UserKey(model.name, user_id) for user_id in known]
        records = await self._store.aget_many(keys)
        return {
            user_id: self._ladder.state_of(model, record)
            for user_id, record in zip(
                ["", *known], [None, *records], strict=True
            )
        }
