"""Answers a request with one version of a model, from first to last."""

import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from serving.errors import UnknownModelError
from serving.experiments.treatments import Treatment
from serving.models.registry import ModelRegistry
from serving.models.served_model import ServedModel

_Answer = TypeVar("_Answer")


async def on_current_version(
    registry: ModelRegistry,
    treatment: Treatment,
    answer: Callable[[ServedModel], Awaitable[_Answer]],
) -> _Answer:
    """Answers with the pinned version, or once more with its successor.

    The model server may drop a version between two looks at its status. A
    version that an experiment names, but that is gone, is succeeded by the
    current one as well: users are answered, and the answer tells by whom.
    """
    # What was not there at the last look, or is no model of ours, is worth no
    # look of its own: it would take one for each request.
    model = await _pinned(registry, treatment)
    try:
        return await answer(model)
    except UnknownModelError:
        await registry.refresh()
        successor = registry.resolve(treatment.model)
        if successor is model:
            raise
        return await answer(successor)


async def _pinned(registry: ModelRegistry, treatment: Treatment) -> ServedModel:
    if treatment.version is not None:
        name = treatment.model or registry.default_model
        with contextlib.suppress(UnknownModelError):
            return await registry.version(name, treatment.version)
    return registry.resolve(treatment.model)


async def current_version(
    registry: ModelRegistry, treatment: Treatment
) -> ServedModel:
    """Returns the version that answers, or its successor."""

    async def itself(model: ServedModel) -> ServedModel:
        return model

    return await on_current_version(registry, treatment, itself)


def features_elsewhere(
    registry: ModelRegistry, treatment: Treatment
) -> Collection[str]:
    """Returns names of features that other models have, in an experiment.

    Whoever asks does not know which arm's model answers.
    """
    if treatment.place is None:
        return ()
    return {name for model in registry.in_use for name in model.user_features}
