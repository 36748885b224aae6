"""What all regimes of a dataset are trained on and judged by."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from numpy.typing import NDArray

from benchmarks.quality.artifacts import Artifacts
from serving.contract.features import Feature
from serving.contract.intervals import Rows
from serving.contract.protocol import (
    FEW_SHOT_SUPPORT_SIZES,
    META_TEST,
    META_TRAIN,
    META_VALID,
)
from trainer.episodes import expand, read_episodes
from trainer.stages import StageData
from trainer.stream import (
    JudgedRows,
    StreamStep,
    StreamUsers,
    few_shot_step,
    stream_steps,
)

_MAX_USERS = 1_000_000


class Judged:
    """Judged users with their stream and their few-shot sets.

    Attributes:
        users: The users.
        steps: Their stream.
        stream_rows: The stream's judged rows.
        few_shot: Support sets and query sets by k.
        few_shot_rows: The query sets' rows, the same ones for every k.
    """

    def __init__(self, users: StreamUsers) -> None:
        """Cuts the users' rows."""
        self.users = users
        self.steps: Sequence[StreamStep] = stream_steps(users)
        self._stream = JudgedRows([step.judged for step in self.steps[1:]])
        self.stream_rows: Rows = self._stream.rows
        self.few_shot: Mapping[int, StreamStep] = {
            size: few_shot_step(users, size) for size in FEW_SHOT_SUPPORT_SIZES
        }
        self._few_shot = JudgedRows([self.few_shot[0].judged])
        self.few_shot_rows: Rows = self._few_shot.rows

    def flat(
        self, windows: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Scores [users, N] of each window as the rows of `stream_rows`."""
        return self._stream.flat(windows)

    def flat_few_shot(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores [users, N] as the rows of `few_shot_rows`."""
        return self._few_shot.flat([scores])


@dataclasses.dataclass(frozen=True)
class Arrivals:
    """Who the users of a split are, and when they did what.

    Attributes:
        user_ids: In the order of the episodes.
        timestamps: Seconds of each user's rows.
    """

    user_ids: Sequence[str]
    timestamps: Sequence[NDArray[np.int64]]

    @classmethod
    def read(cls, files: Sequence[str]) -> "Arrivals":
        """Reads episode files."""
        spec = {
            "user_id": tf.io.FixedLenFeature([], tf.string),
            "timestamp": tf.io.RaggedFeature(tf.int64),
        }
        records = list(tf.data.TFRecordDataset(files, compression_type="GZIP"))
        parsed = tf.io.parse_example(tf.stack(records), spec)
        times = parsed["timestamp"]
        return cls(
            [user.decode() for user in parsed["user_id"].numpy()],
            np.split(times.values.numpy(), times.row_splits[1:-1]),
        )


@dataclasses.dataclass(frozen=True)
class Inputs:
    """One dataset.

    Attributes:
        data: meta_train, meta_valid, features and items.
        valid: Judged users of meta_valid, for tuning.
        test: Users that figures are of: those of meta_test, but for trying
            things out.
        arrivals: Of these users.
    """

    data: StageData
    valid: Judged
    test: Judged
    arrivals: Arrivals


def load_inputs(
    artifacts: Artifacts,
    user_features: Sequence[Feature],
    item_features: Sequence[Feature],
    judged_split: str = META_TEST,
) -> Inputs:
    """Reads the artifacts of one dataset; `judged_split` is for `test`."""

    def as_dicts(features: Sequence[Feature]) -> list[dict[str, Any]]:
        return [feature.to_dict() for feature in features]

    data = StageData.read(
        [artifacts.pattern(META_TRAIN)],
        [artifacts.pattern(META_VALID)],
        tft.TFTransformOutput(str(artifacts.transform_graph)),
        as_dicts(user_features),
        as_dicts(item_features),
    )
    files = expand([artifacts.pattern(judged_split)])
    meta_test = read_episodes(files, data.space, data.catalog)
    return Inputs(
        data=data,
        valid=Judged(StreamUsers.read(data.meta_valid, data.space, _MAX_USERS)),
        test=Judged(StreamUsers.read(meta_test, data.space, _MAX_USERS)),
        arrivals=Arrivals.read(files),
    )
