"""Searches over the tiny episodes, and trainings that take no time."""

import dataclasses
import pathlib
from typing import Any

from tests.helpers import raw_examples
from tests.helpers.tiny_episodes import TinyEpisodes
from trainer.tuning.options import TuningOptions
from trainer.tuning.request import SearchRequest

# What is left to search are regularization, step size and inner steps.
TINY = {
    "partition": "user_offset",
    "solver": "gradient",
    "vector_size": 2,
    "hidden_size": 4,
    "feature_size": 2,
    "meta_batch_size": 4,
    "max_support_events": 20,
    "ema_momentum": 0.5,
    "max_steps": 1,
    "steps_per_evaluation": 1,
}


def make_request(
    episodes: TinyEpisodes,
    folder: pathlib.Path,
    overrides: dict[str, Any] | None = None,
    **options: Any,
) -> SearchRequest:
    """A search of two trials at random."""
    return SearchRequest(
        directory=str(folder),
        train_patterns=[episodes.pattern("meta_train")],
        valid_patterns=[episodes.pattern("meta_valid")],
        transform_graph=str(episodes.graph),
        **raw_examples.features_config(),
        overrides=TINY if overrides is None else overrides,
        options=TuningOptions(
            **{"max_trials": 2, "oracle": "random", **options}
        ),
    )


def with_trials(request: SearchRequest, max_trials: int) -> SearchRequest:
    """The same search with another number of trials."""
    options = dataclasses.replace(request.options, max_trials=max_trials)
    return dataclasses.replace(request, options=options)
