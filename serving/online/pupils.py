"""Users to run the inner loop for, in padded batches.

Padding costs as much as events do, so users share a call with those of about
the same support size.
"""

import collections
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.contract.support import Support
from serving.models.served_model import ServedModel
from serving.models.templates import ADAPTIVE_WEIGHTS, Features
from serving.online.model_calls import encode_request, padded

_ADAPT = "adapt"
# Smaller supports are padded to so many events.
_MIN_WIDTH = 16
# Of one call: users, and events with their padding.
_MAX_ROWS = 256
_MAX_EVENTS = 32_768


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


class PupilBatch:
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
        self.sizes = np.array([len(support.events) for support in supports])
        is_event = np.arange(self.label.shape[1]) < self.sizes[:, np.newaxis]
        self._weight = is_event.astype(np.float32)
        self.num_new = np.array([pupil.num_new for pupil in pupils])
        self.start = np.array(
            [pupil.start if start is None else start for pupil in pupils],
            np.float32,
        )

    def request(self, model: ServedModel) -> bytes:
        """Returns the request of `adapt`."""
        return encode_request(
            model,
            _ADAPT,
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


def places_by_call(pupils: Sequence[Pupil]) -> Iterator[list[int]]:
    """Yields places of those that share a call."""
    by_width: dict[int, list[int]] = collections.defaultdict(list)
    for place, pupil in enumerate(pupils):
        size = max(len(pupil.support.events), _MIN_WIDTH)
        by_width[1 << (size - 1).bit_length()].append(place)
    for width, places in by_width.items():
        rows = max(1, min(_MAX_ROWS, _MAX_EVENTS // width))
        for start in range(0, len(places), rows):
            yield places[start : start + rows]
