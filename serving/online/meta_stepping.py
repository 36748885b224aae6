"""Takes steps of the outer loop: asks the model server, judges, records."""

import logging

import numpy as np

from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_tasks import MetaBatch, MetaTask
from serving.errors import ServingError
from serving.models.backend import ModelServer
from serving.models.served_model import ServedModel
from serving.models.templates import Features
from serving.online.gone import users_gone
from serving.online.meta_gradient import meta_gradient
from serving.online.meta_lines import MetaLine, MetaLines
from serving.online.told import decode_told, known_features
from serving.store import AdaptiveStore

# Outcomes of a step. Overtaken: another process took one, or somebody rolled
# back, between its beginning and its end. Deserted: its users, or those who
# judge it, were all deleted.
PROMOTED = "promoted"
REFUSED = "refused"
OVERTAKEN = "overtaken"
DESERTED = "deserted"
FAILED = "failed"

_log = logging.getLogger(__name__)


class MetaStepping:
    """Moves lines of meta states; lives inside one event loop."""

    def __init__(
        self,
        backend: ModelServer,
        store: AdaptiveStore,
        config: OnlineMetaConfig,
        lines: MetaLines,
    ) -> None:
        """Sets it up.

        Args:
            backend: Answers `meta_gradient`.
            store: Knows who was deleted, by whichever process.
            config: How far meta states move.
            lines: Record where each has come to.
        """
        self._backend = backend
        self._store = store
        self._config = config
        self._lines = lines

    async def step(
        self,
        model: ServedModel,
        line: MetaLine,
        batch: MetaBatch[bytes],
    ) -> str:
        """Takes a step; what fails is logged, as no feedback must fail by it.

        Args:
            model: The version to ask.
            line: Goes on from where it is by then.
            batch: Tasks that move it, and tasks that judge.

        Returns:
            What became of it.
        """
        outcome = FAILED
        async with line.lock:
            try:
                outcome = await self._locked_step(model, line, batch)
            except ServingError as error:
                _log.warning(
                    "%s: the meta state stays as it is: %s", model.name, error
                )
            except Exception:
                _log.exception("%s: the meta state stays as is", model.name)
        return outcome

    async def _locked_step(
        self,
        model: ServedModel,
        line: MetaLine,
        batch: MetaBatch[bytes],
    ) -> str:
        # Whoever was deleted before the step begins has no part in it.
        batch = batch.without(
            await users_gone(self._store, model.name, batch.user_ids)
        )
        if not batch.tasks or not batch.held_back:
            return DESERTED
        tasks, held_back = (
            [_with_features(model, task) for task in each]
            for each in (batch.tasks, batch.held_back)
        )
        # Not as they may be at the end: a rollback meanwhile overtakes us.
        before, stamp = line.progress, line.stamp
        step = before.propose(
            await meta_gradient(self._backend, model, tasks, before.current),
            self._config,
        )
        losses_before, losses_after = [
            (await meta_gradient(self._backend, model, held_back, state)).losses
            for state in (before.current, step.candidate)
        ]
        after = before.judge(step, losses_before, losses_after, self._config)
        if not await self._lines.save(line, after, stamp):
            return OVERTAKEN
        outcome = PROMOTED if after.promoted > before.promoted else REFUSED
        _log.info(
            "%s: meta state %d %s, held-back loss %.5f after %.5f",
            model.name,
            step.candidate.version,
            outcome,
            float(np.mean(losses_after)),
            float(np.mean(losses_before)),
        )
        return outcome


def _with_features(
    model: ServedModel, task: MetaTask[bytes]
) -> MetaTask[Features]:
    """Decodes what a task's user told."""
    features = known_features(decode_told(task.context), model.user_features)
    return MetaTask(task.user_id, features, task.support, task.query_set)
