"""The inner loop of many users: calls of the model's `adapt`, guarded."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.contract.guard import HELD_BACK, Adapted
from serving.errors import BackendError
from serving.models.backend import ModelServer
from serving.models.served_model import ServedModel
from serving.models.templates import ADAPTIVE_WEIGHTS, ITEM_KNOWN
from serving.online.pupils import Pupil, PupilBatch, places_by_call
from serving.tf_serving import decode_tensor
from serving.together import together

# Losses of events, from models that tell them.
_EVENT_LOSSES = ("event_loss", "event_loss_meta_init")

OnGuard = Callable[[str, int], None]


class Adaptation(NamedTuple):
    """What became of one.

    Attributes:
        weights: As they are to be stored, shape [P].
        finite: Whether the outcome was; if not, `weights` are those that the
            loop started from.
        loss_before: Mean loss of the support set where the loop started.
        loss_after: The same where it ended, before the guard.
        known: Which support events' items the model knows, bool, shape [S];
            None if it does not tell.
    """

    weights: NDArray[np.floating[Any]]
    finite: bool
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
        batches = list(places_by_call(pupils))
        answers = await together(
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
        batch = PupilBatch(pupils)
        adapted, known = await self._run(model, batch)
        misled = model.guard.misled(adapted, batch.num_new, batch.sizes)
        if len(misled):
            over = PupilBatch([pupils[row] for row in misled], model.meta_init)
            batch.start[misled] = over.start
            adapted.put(misled, (await self._run(model, over))[0])
        guarded = model.guard.check(batch.start, adapted, model.meta_init)
        if self._on_guard is not None:
            self._on_guard(HELD_BACK, len(misled))
            for reason, users in guarded.reasons.items():
                self._on_guard(reason, int(users.sum()))
        return list(
            map(
                Adaptation,
                guarded.weights.astype(self._dtype),
                guarded.finite.tolist(),
                adapted.loss_before.tolist(),
                adapted.loss_after.tolist(),
                known,
            )
        )

    async def _run(
        self, model: ServedModel, batch: PupilBatch
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
