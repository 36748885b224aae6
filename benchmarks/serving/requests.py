"""The requests that are sent: of items and features that the model knows."""

import itertools
from pathlib import Path

import numpy as np

from serving.contract.features import CATEGORICAL_LIST, NUMERIC, Feature
from serving.contract.manifest import AdaptiveManifest
from serving.models.templates import RankRow, RequestTemplates
from serving.protos import recommender_pb2 as pb

MODEL = "adaptower"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
RANK = "/adaptower.v1.Recommender/Rank"
FEEDBACK = "/adaptower.v1.Recommender/SubmitFeedback"

CANDIDATES = 100
EVENTS = 10


class Requests:
    """Draws requests of items and features that the model knows."""

    def __init__(self, version: Path, seed: int = 0) -> None:
        """Reads the vocabularies that lie in a version's SavedModel."""
        assets = version / "assets"
        self.manifest = AdaptiveManifest.load(version)
        self._values = {
            feature.name: (assets / feature.name).read_text().splitlines()
            for feature in self.manifest.user_features
            if (assets / feature.name).exists()
        }
        self._item_ids = (assets / "item_ids").read_text().splitlines()
        self._templates = RequestTemplates(
            MODEL, int(version.name), self.manifest
        )
        self._random = np.random.default_rng(seed)
        self._event_numbers = itertools.count()

    def rank(self, user_id: str) -> pb.RankRequest:
        """Asks the gateway for the scores of candidates."""
        request = pb.RankRequest(
            user_id=user_id, item_ids=self._items(CANDIDATES)
        )
        self._add_features(request)
        return request

    def rank_of_stranger(self, user_id: str) -> pb.RankRequest:
        """Asks it for a user whose features nobody else has told."""
        request = self.rank(user_id)
        for feature in self.manifest.user_features:
            if feature.kind != NUMERIC:
                values = request.features[feature.name].strings.values
                values[0] = f"{values[0]}-{user_id}"
        return request

    def feedback(
        self, user_id: str, events: int = EVENTS
    ) -> pb.SubmitFeedbackRequest:
        """Tells the gateway of events that nobody told it of before."""
        request = pb.SubmitFeedbackRequest(user_id=user_id)
        for item_id in self._items(events):
            request.events.add(
                event_id=f"{user_id}-{next(self._event_numbers)}",
                item_id=item_id,
                label=float(self._random.integers(2)),
            )
        self._add_features(request)
        return request

    def predict(self) -> bytes:
        """Asks the model server what the gateway asks it for a Rank."""
        weights = self._random.normal(0, 0.1, self.manifest.num_adaptive)
        row = RankRow(
            weights.astype(np.float32),
            {
                feature.name: 1.0
                if feature.kind == NUMERIC
                else [self._value(feature)]
                if feature.kind == CATEGORICAL_LIST
                else self._value(feature)
                for feature in self.manifest.user_features
            },
            self._items(CANDIDATES),
        )
        return self._templates.rank([row])

    def _items(self, count: int) -> list[str]:
        indices = self._random.integers(len(self._item_ids), size=count)
        return [self._item_ids[index] for index in indices]

    def _add_features(
        self, request: pb.RankRequest | pb.SubmitFeedbackRequest
    ) -> None:
        for feature in self.manifest.user_features:
            values = request.features[feature.name]
            if feature.kind == NUMERIC:
                values.numbers.values.append(1.0)
            else:
                values.strings.values.append(self._value(feature))

    def _value(self, feature: Feature) -> str:
        values = self._values.get(feature.name, [""])
        return values[int(self._random.integers(len(values)))]
