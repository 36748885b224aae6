"""The online outer loop: a guarded step on gradients the model returned.

    batch = collector.observe(...)
    gradient = ask(batch.tasks, progress.current)
    step = progress.propose(gradient, config)
    before, after = (ask(batch.held_back, s).losses
                     for s in (progress.current, step.candidate))
    progress = progress.judge(step, before, after, config)

where `ask` calls the signature `meta_gradient`, in process or over the wire.
Nothing here does I/O, and the same calls give the same bits, so that the
evaluator and the gateway arrive at the same meta states.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.adam import Adam, Doubles
from serving.contract.errors import MetaStateError
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_gradient import MetaGradient
from serving.contract.meta_state import Floats, MetaState

FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class MetaStep:
    """A proposed step.

    Attributes:
        candidate: The meta state after it.
        adam: The optimizer after it.
    """

    candidate: MetaState
    adam: Adam


@dataclasses.dataclass(frozen=True, eq=False)
class MetaProgress:
    """Everything the online outer loop has come to, of one fixed part.

    Attributes:
        exported: The meta state that the model came with.
        history: Promoted versions that are kept, the newest last; without
            the exported one.
        adam: The optimizer.
        last_version: The highest version number ever given.
        promoted: How many candidates became the newest meta state.
        refused: How many did worse on held-back users, or came of gradients
            that were not finite.
    """

    exported: MetaState
    history: tuple[MetaState, ...]
    adam: Adam
    last_version: int
    promoted: int = 0
    refused: int = 0

    @classmethod
    def start(cls, exported: MetaState) -> "MetaProgress":
        """Begins at the exported meta state."""
        return cls(exported, (), _fresh_adam(exported), exported.version)

    @property
    def current(self) -> MetaState:
        """The meta state to serve with."""
        return self.history[-1] if self.history else self.exported

    @property
    def max_shift(self) -> float:
        """How far the farthest value is from the exported one."""
        shift = _stacked(self.current) - _stacked(self.exported)
        return float(np.abs(shift).max(initial=0.0))

    def propose(
        self, gradient: MetaGradient, config: OnlineMetaConfig
    ) -> MetaStep:
        """Takes a step of Adam, no further than allowed from the export.

        Args:
            gradient: Of the newest tasks at `current`.
            config: Step size and bound.

        Returns:
            The step, for `judge`. If the gradient is not finite it leads
            nowhere: the candidate is `current`, the optimizer as it was.
        """
        state = self.current
        mean_gradient = np.concatenate(
            [
                np.asarray(gradient.meta_init, np.float64)[np.newaxis],
                np.asarray(gradient.log_inner_lr, np.float64),
            ]
        ) / max(len(gradient.losses), 1)
        if not np.isfinite(mean_gradient).all():
            return MetaStep(state, self.adam)
        adam = self.adam.after(mean_gradient, config)
        moved = _stacked(state) - adam.descent(config)
        exported = _stacked(self.exported)
        moved = np.clip(
            moved, exported - config.max_shift, exported + config.max_shift
        )
        return MetaStep(
            MetaState(moved[0], moved[1:], self.last_version + 1), adam
        )

    def judge(
        self,
        step: MetaStep,
        before: NDArray[np.floating[Any]],
        after: NDArray[np.floating[Any]],
        config: OnlineMetaConfig,
    ) -> "MetaProgress":
        """Promotes a candidate unless held-back users do worse with it.

        A step that leads nowhere is refused as well: it is no new version.

        Args:
            step: What `propose` gave.
            before: Query loss of held-back tasks at `current`, shape [B].
            after: The same at the candidate.
            config: How many versions to keep.

        Returns:
            The progress after the decision.
        """
        # Written so that NaN is refused.
        is_no_worse = float(np.mean(after)) <= float(np.mean(before))
        if step.candidate is self.current or not is_no_worse:
            return dataclasses.replace(self, refused=self.refused + 1)
        return dataclasses.replace(
            self,
            history=(*self.history, step.candidate)[-config.history :],
            adam=step.adam,
            last_version=step.candidate.version,
            promoted=self.promoted + 1,
        )

    def roll_back(self, version: int) -> "MetaProgress":
        """Makes an earlier version the current one.

        Later ones are dropped; their numbers are not given again, so that a
        number always means the same values.

        Args:
            version: The exported version, or one in `history`.

        Raises:
            MetaStateError: That version is not kept.
        """
        versions = [state.version for state in self.history]
        if version == self.exported.version:
            kept = 0
        elif version in versions:
            kept = versions.index(version) + 1
        else:
            raise MetaStateError(
                f"Version {version} of the meta state is not kept; there are "
                f"{[self.exported.version, *versions]}."
            )
        return dataclasses.replace(
            self,
            history=self.history[:kept],
            # The old direction led to what is being undone.
            adam=_fresh_adam(self.exported),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values that `from_dict` reads exactly."""
        return {
            "format": FORMAT,
            "exported": self.exported.to_dict(),
            "history": [state.to_dict() for state in self.history],
            "adam": self.adam.to_dict(),
            "last_version": self.last_version,
            "promoted": self.promoted,
            "refused": self.refused,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MetaProgress":
        """Reads what `to_dict` wrote.

        Raises:
            MetaStateError: The values are no progress of this format.
        """
        try:
            if values["format"] != FORMAT:
                raise MetaStateError(
                    f"It has format {values['format']!r}, this version reads "
                    f"{FORMAT}."
                )
            exported = MetaState.from_dict(values["exported"])
            adam = Adam.from_dict(values["adam"])
            progress = cls(
                exported,
                tuple(map(MetaState.from_dict, values["history"])),
                adam,
                *(
                    int(values[name])
                    for name in ("last_version", "promoted", "refused")
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MetaStateError(
                f"These values are no record of meta states ({error!r})."
            ) from error
        shape = _stacked(exported).shape
        if not (
            adam.mean.shape == adam.square.shape == shape
            and all(map(exported.fits, progress.history))
        ):
            raise MetaStateError(
                "The record's meta states and moments differ in shape."
            )
        return progress


def _stacked(state: MetaState) -> Doubles:
    """Both parts as rows of one array, [1 + T, P]."""
    rows: Floats = np.concatenate(
        [state.meta_init[np.newaxis], state.log_inner_lr]
    )
    return rows.astype(np.float64)


def _fresh_adam(state: MetaState) -> Adam:
    return Adam.fresh(_stacked(state).shape)
