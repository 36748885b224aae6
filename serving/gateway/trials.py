"""What experiments mean for a request, and what they learn from it.

Requests that name a model are answered as they ask, whoever the user is.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from serving.errors import ServingError
from serving.experiments.assignment import Assignment, assign
from serving.experiments.config import ExperimentsConfig
from serving.experiments.exposure_log import ExposureLog
from serving.experiments.treatments import Treatment, treatment_of
from serving.gateway.ranker import Ranking
from serving.gateway.rpcs.call import Call
from serving.models.served_model import ServedModel
from serving.protos import recommender_pb2 as pb

# Shadows must not take what users' own requests need.
MAX_SHADOWS = 16

# For the exposure log: a disk that works has written it long before.
_CLOSE_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Trials:
    """The experiments of a gateway; lives inside one event loop."""

    def __init__(
        self,
        config: ExperimentsConfig | None,
        count_lost: Callable[[str], None],
    ) -> None:
        """Opens the exposure log.

        Args:
            config: What is tried; None: nothing.
            count_lost: See `ExposureLog`.

        Raises:
            LaunchError: The exposure log can't be written.
        """
        self._experiments = config.experiments if config else ()
        self._exposures = (
            ExposureLog(config.log, config.key, count_lost) if config else None
        )
        # And for whom.
        self._shadows: dict[asyncio.Task[None], str] = {}
        # Calls that something may be noted of, and their users.
        self._noted: weakref.WeakKeyDictionary[Call, str] = (
            weakref.WeakKeyDictionary()
        )
        self._forgetting: list[str] = []

    def treat(self, user_id: str, model: str, call: Call) -> Treatment:
        """Returns how to answer, and notes the arm in the call."""
        if not self._experiments or model:
            return Treatment(model)
        place = assign(self._experiments, user_id)
        if place is None:
            return Treatment()
        call.arm = place.label
        if user_id not in self._forgetting:
            self._noted[call] = user_id
        return treatment_of(place.arm, place)

    def user_of(self, call: Call) -> str | None:
        """Returns whose call it is; None if nothing is noted of it.

        That is so for users in no experiment, and for those who were deleted
        after the call had begun.
        """
        return self._noted.get(call)

    def shown(
        self,
        place: Assignment | None,
        call: Call,
        model: ServedModel,
        ranking: Ranking,
        ms: float | None = None,
    ) -> float | None:
        """Notes what the user was shown, or would have been.

        Args:
            place: Experiment and arm.
            call: The user's.
            model: What scored the items.
            ranking: The items.
            ms: When it was shown; None: now.

        Returns:
            When that was; None if nothing is noted.
        """
        user_id = self.user_of(call)
        if self._exposures is None or place is None or user_id is None:
            return None
        return self._exposures.exposure(
            place,
            user_id,
            model.name,
            model.version,
            ranking.item_ids,
            ranking.scores,
            ms,
        )

    def answered(
        self,
        call: Call,
        events: Iterable[pb.FeedbackEvent],
    ) -> None:
        """Notes what the user made of items."""
        user_id = self.user_of(call)
        if self._exposures is not None and user_id is not None:
            for event in events:
                self._exposures.outcome(
                    user_id, event.event_id, event.item_id, event.label
                )

    async def forget(self, user_id: str) -> None:
        """Has reports leave out a user who was deleted, durably.

        Of calls that began before it is durable, nothing is noted any more.

        Raises:
            ExposureLogError: The exposure log can't be written.
        """
        # What they noted after this would count as of somebody who came back.
        for call, of_user in [*self._noted.items()]:
            if of_user == user_id:
                del self._noted[call]
        for task, of_user in self._shadows.items():
            if of_user == user_id:
                task.cancel()
        if self._exposures is not None:
            self._forgetting.append(user_id)
            try:
                await self._exposures.forget(user_id)
            finally:
                self._forgetting.remove(user_id)

    def in_shadow(self, user_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Does work that no answer waits for; what fails is logged only.

        With `MAX_SHADOWS` at work already it is left out.
        """
        if len(self._shadows) >= MAX_SHADOWS:
            work.close()
            return
        task = asyncio.create_task(_harmless(work))
        self._shadows[task] = user_id
        task.add_done_callback(self._shadows.pop)

    async def close(self) -> None:
        """Ends what is done in the shadow, and closes the log."""
        for task in self._shadows:
            task.cancel()
        await asyncio.gather(*self._shadows, return_exceptions=True)
        if self._exposures is not None:
            self._exposures.close(_CLOSE_SECONDS)


async def _harmless(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except ServingError as error:
        _log.info("A shadow was not asked: %s", error)
    except Exception:
        _log.exception("A shadow failed")
