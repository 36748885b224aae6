"""A search as one value that can be handed to other processes."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import tensorflow_transform as tft

from trainer.config import TrainerConfig
from trainer.stages import StageData
from trainer.tuning.options import TuningOptions


@dataclasses.dataclass(frozen=True)
class SearchRequest:
    """What is searched, on which data, and where the trials are kept.

    Attributes:
        directory: Folder of all searches of a run.
        train_patterns: Files of split meta_train.
        valid_patterns: Files of split meta_valid.
        transform_graph: Folder of Transform's output.
        user_features: As `Feature.to_dict` gives them.
        item_features: The same.
        draw_weights: By prefix of user ids, how often such users are drawn.
        training: Hyper-parameters that the dataset's spec suggests; where the
            search starts.
        overrides: Hyper-parameters that are given and not searched.
        options: How it is searched.
        code_fingerprint: Digest of the trainer's code.
    """

    directory: str
    train_patterns: list[str]
    valid_patterns: list[str]
    transform_graph: str
    user_features: list[dict[str, Any]]
    item_features: list[dict[str, Any]]
    draw_weights: dict[str, float] = dataclasses.field(default_factory=dict)
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: TuningOptions = dataclasses.field(default_factory=TuningOptions)
    code_fingerprint: str = ""

    @property
    def project(self) -> str:
        """Name of the folder of this search's trials.

        A search with another budget, oracle, seed, data or code is another
        one. With more trials it is the same, and goes on.
        """
        values = dataclasses.asdict(self)
        del values["directory"]
        del values["options"]["max_trials"]
        text = json.dumps(values, sort_keys=True)
        return "search-" + hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def folder(self) -> pathlib.Path:
        """Folder of this search's trials."""
        return pathlib.Path(self.directory) / self.project

    @property
    def base(self) -> TrainerConfig:
        """Where the search starts."""
        return TrainerConfig.from_dict({**self.training, **self.overrides})

    def read_data(self) -> StageData:
        """Opens what trials train on and are judged by."""
        return StageData.read(
            train_patterns=self.train_patterns,
            valid_patterns=self.valid_patterns,
            transform_output=tft.TFTransformOutput(self.transform_graph),
            user_features=self.user_features,
            item_features=self.item_features,
            draw_weights=self.draw_weights,
        )

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "SearchRequest":
        """Reads what `to_json` wrote."""
        values = json.loads(text)
        options = TuningOptions(**values.pop("options"))
        return cls(**values, options=options)
