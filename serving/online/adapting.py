"""The inner loop of many users: padded calls of the model's `adapt`, guarded.

Padding costs as much as events do, so users share a call with those of about
the same support size.
"""

import asyncio
import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.contract.guard import HELD_BACK, Adapted
from serving.contract.support import Support
from serving.errors import BackendError
from serving.gateway.backend import ModelServer
from serving.gateway.batcher import ITEM_KNOWN
from serving.gateway.registry import ServedModel
from serving.gateway.templates import ADAPTIVE_WEIGHTS, Features
from serving.online.model_calls import encode_request, padded
from serving.tf_serving import decode_tensor

ADAPT = "adapt"
# Losses of events, from models that tell them.
_EVENT_LOSSES = ("event_loss", "event_loss_meta_init")
# Smaller supports are padded to so many events.
_MIN_WIDTH = 16
# Of one call: users, and events with their padding.
_MAX_ROWS = 256
_MAX_EVENTS = 32_768

OnGuard = Callable[[str, int], None]


class Pupil(NamedTuple):
    """A user to run the inner loop for.

    Attributes:
        features: Those that are known.
        support: What is learned from.
        num_new: How many of its events, the last ones, are new.
        start: Weights to start from, float32, shape [P].
    """

    features: Features
    support: Support
    num_new: int
    start: NDArray[np.float32]


class Adaptation(NamedTuple):
    """What became of one.

    Attributes:
        weights: As they are to be stored, shape [P].
        loss_before: Mean loss of the support set where the loop started.
        loss_after: The same where it ended, before the guard.
        known: Which support events' items the model knows, bool, shape [S];
            None if it does not tell.
    """

    weights: NDArray[np.floating[Any]]
    loss_before: float
    loss_after: float
    known: NDArray[np.bool_] | None


class Adapting:
    """Runs inner loops; lives inside one event loop."""

    def __init__(
        self,
        backend: ModelServer,
        weights_dtype: str = "float32",
        on_guard: OnGuard | None = None,
    ) -> None:
        """Sets it up.

        Args:
            backend: Has the models.
            weights_dtype: How weights are stored.
            on_guard: Told how many users it stopped, by reason.
        """
        self._backend = backend
        self._dtype = np.dtype(weights_dtype)
        self._on_guard = on_guard

    async def adapt(
        self, model: ServedModel, pupils: Sequence[Pupil]
    ) -> list[Adaptation]:
        """Learns from each user's support set.

        Args:
            model: The version that learns.
            pupils: Different users.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server failed, or gave outputs of another
                shape.
        """
        batches = list(_batches(pupils))
        answers = await asyncio.gather(
            *(
                self._adapt(model, [pupils[place] for place in places])
                for places in batches
            )
        )
        outcomes: list[Adaptation | None] = [None] * len(pupils)
        for places, answer in zip(batches, answers, strict=True):
            for place, outcome in zip(places, answer, strict=True):
                outcomes[place] = outcome
        return outcomes  # type: ignore[return-value]

    async def _adapt(
        self, model: ServedModel, pupils: Sequence[Pupil]
    ) -> list[Adaptation]:
        batch = _Batch(pupils)
        adapted, known = await self._run(model, batch)
        misled = model.guard.misled(adapted, batch.num_new, batch.sizes)
        if len(misled):
            over = _Batch([pupils[row] for row in misled], model.meta_init)
            batch.start[misled] = over.start
            adapted.put(misled, (await self._run(model, over))[0])
        weights, reasons = model.guard.check(
            batch.start, adapted, model.meta_init
        )
        if self._on_guard is not None:
            self._on_guard(HELD_BACK, len(misled))
            for reason, users in reasons.items():
                self._on_guard(reason, int(users.sum()))
        return list(
            map(
                Adaptation,
                weights.astype(self._dtype),
                adapted.loss_before.tolist(),
                adapted.loss_after.tolist(),
                known,
            )
        )

    async def _run(
        self, model: ServedModel, batch: "_Batch"
    ) -> tuple[Adapted, Iterable[NDArray[np.bool_] | None]]:
        """Calls the model; returns what it learned, and items it knows."""
        response = await self._backend.run(model.name, batch.request(model))
        outputs = {
            name: decode_tensor(tensor)
            for name, tensor in response.outputs.items()
        }
        users, events = batch.label.shape
        expected = {
            ADAPTIVE_WEIGHTS: (users, model.manifest.num_adaptive),
            "loss_before": (users,),
            "loss_after": (users,),
        }
        expected |= {
            name: (users, events)
            for name in (*_EVENT_LOSSES, ITEM_KNOWN)
            if name in outputs
        }
        for name, shape in expected.items():
            if name not in outputs or outputs[name].shape != shape:
                raise BackendError(
                    f"The inner loop of version {model.version} of "
                    f"{model.name!r} gave no {name} of shape {list(shape)}. "
                    "Roll it back and check how it was exported."
                )
        # As they would be stored: what is too large for float16 is infinite.
        with np.errstate(over="ignore"):
            stored = outputs[ADAPTIVE_WEIGHTS].astype(self._dtype)
        adapted = Adapted(
            stored.astype(np.float32),
            np.array(outputs["loss_before"]),
            np.array(outputs["loss_after"]),
            *map(outputs.get, _EVENT_LOSSES),
        )
        if ITEM_KNOWN not in outputs:
            return adapted, [None] * users
        sizes = batch.sizes.tolist()
        return adapted, [
            row[:size]
            for row, size in zip(outputs[ITEM_KNOWN], sizes, strict=True)
        ]


class _Batch:
    """Some users' inputs, as arrays.

    Attributes:
        sizes: Support events of each, [B].
        label: [B, S].
        num_new: How many of them are new, [B].
        start: Weights to start from, [B, P].
    """

    def __init__(
        self,
        pupils: Sequence[Pupil],
        start: NDArray[np.float32] | None = None,
    ) -> None:
        """Pads the users.

        Args:
            pupils: The users.
            start: Where all of them start, [P]; each its own if None.
        """
        self._pupils = pupils
        supports = [pupil.support for pupil in pupils]
        self.label = padded([[e.label for e in s.events] for s in supports])
        self._weight = padded([support.weights for support in supports])
        self.sizes = np.array([len(support.events) for support in supports])
        self.num_new = np.array([pupil.num_new for pupil in pupils])
        self.start = np.array(
            [pupil.start if start is None else start for pupil in pupils],
            np.float32,
        )

    def request(self, model: ServedModel) -> bytes:
        """Returns the request of `adapt`."""
        return encode_request(
            model,
            ADAPT,
            [pupil.features for pupil in self._pupils],
            {
                "item_id": [
                    [event.item_id for event in pupil.support.events]
                    for pupil in self._pupils
                ]
            },
            {
                "label": self.label,
                "weight": self._weight,
                ADAPTIVE_WEIGHTS: self.start,
                **model.meta_state.inputs(),
            },
        )


def _batches(pupils: Sequence[Pupil]) -> Iterator[list[int]]:
    """Yields places of those that share a call."""
    by_width: dict[int, list[int]] = collections.defaultdict(list)
    for place, pupil in enumerate(pupils):
        size = max(len(pupil.support.events), _MIN_WIDTH)
        by_width[1 << (size - 1).bit_length()].append(place)
    for width, places in by_width.items():
        rows = max(1, min(_MAX_ROWS, _MAX_EVENTS // width))
        for start in range(0, len(places), rows):
            yield places[start : start + rows]
