"""Every preset and solver behind the signatures, against the model itself."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from serving.contract.features import USER_ROW
from serving.contract.manifest import AdaptiveManifest
from tests.helpers import raw_examples, tiny_world
from trainer.config import (
    GRADIENT,
    LEARNED,
    LOW_RANK,
    NEWTON,
    PARTITION_PRESETS,
)
from trainer.export import export_model
from trainer.learned_partition import reduce_partition
from trainer.served_model import ServedModel
from trainer.stages import StageData
from trainer.two_tower import PartitionedTwoTower

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
NUM_USERS = 2
USERS = {
    "gender": tf.constant(["f", ""]),
    "age": tf.constant([33.0, np.nan]),
    "hobbies": tf.constant([["go", "chess"], ["", ""]]),
}


class Shop:
    """Episodes, the transform graph and the catalog's item ids."""

    def __init__(self, tiny_episodes, folder):
        self.output = tft.TFTransformOutput(str(tiny_episodes.graph))
        self.data = StageData.read(
            [tiny_episodes.pattern("meta_train")],
            [tiny_episodes.pattern("meta_valid")],
            self.output,
            [feature.to_dict() for feature in raw_examples.USER_FEATURES],
            [feature.to_dict() for feature in raw_examples.ITEM_FEATURES],
        )
        self.item_ids = [i.decode() for i in self.data.catalog.item_ids]
        self.item_ids_file = str(folder / "item_ids")
        (folder / "item_ids").write_text("\n".join(self.item_ids) + "\n")

    def model(self, preset, solver):
        config = tiny_world.tiny_config(
            partition=preset, solver=solver, adapter_rank=2
        )
        model = PartitionedTwoTower(self.data.space, config)
        model.item_tower(self.data.catalog.ids)
        names = [f.name for f in self.data.space.user_features]
        ids = dict.fromkeys([*names, USER_ROW], tf.zeros([1, 1], tf.int64))
        model.user_tower(ids)
        random = np.random.default_rng(3)
        for variable in model.variables:
            log = "log_" in variable.name
            start = variable.numpy() + 1.0 if log else 0.0
            variable.assign(start + random.normal(0.0, 0.4, variable.shape))
        if preset == LEARNED:
            reduce_partition(model, max_bytes=0)
        return model

    def served(self, model):
        return ServedModel(
            model,
            self.data.catalog,
            self.data.space,
            self.output,
            self.item_ids_file,
        )


@pytest.fixture(scope="module")
def shop(tiny_episodes, tmp_path_factory):
    return Shop(tiny_episodes, tmp_path_factory.mktemp("shop"))


def support(shop):
    random = np.random.default_rng(1)
    return {
        "item_id": tf.constant(random.choice(shop.item_ids, [NUM_USERS, 6])),
        "label": tf.constant(
            [[1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 1, 0]], tf.float32
        ),
        "weight": tf.constant([[1.0] * 6, [1.0] * 4 + [0.0] * 2]),
    }


def meta_state(model):
    return {
        "meta_init": model.partition.meta_init(),
        "log_inner_lr": tf.identity(model.inner_loop.log_inner_lr),
    }


@pytest.mark.parametrize(
    ("preset", "solver"),
    [(preset, GRADIENT) for preset in PARTITION_PRESETS]
    + [(p, NEWTON) for p in PARTITION_PRESETS if p in (LOW_RANK, LEARNED)],
)
def test_learned_weights_rank_and_recommend_alike(shop, preset, solver):
    """`recommend` finds what sorting the scores of `rank` finds."""
    model = shop.model(preset, solver)
    served = shop.served(model)
    start = model.initial_weights(NUM_USERS)
    learned = served.learning.adapt(
        **USERS, **support(shop), **meta_state(model), adaptive_weights=start
    )
    weights = learned["adaptive_weights"]
    assert weights.shape == [NUM_USERS, model.partition.size]
    assert (learned["loss_after"] != learned["loss_before"]).numpy().all()
    everything = tf.constant([shop.item_ids] * NUM_USERS)
    score = served.rank(**USERS, item_id=everything, adaptive_weights=weights)[
        "score"
    ].numpy()
    before = served.rank(**USERS, item_id=everything, adaptive_weights=start)[
        "score"
    ].numpy()
    assert np.abs(score - before).max() > 0.05
    found = served.recommend(
        **USERS,
        adaptive_weights=weights,
        k=tf.constant(7),
        exclude_item_id=tf.constant([[""]] * NUM_USERS),
    )
    for user in range(NUM_USERS):
        best = np.argsort(-score[user])[:7]
        np.testing.assert_allclose(
            found["score"][user], score[user][best], **TOLERANCE
        )
        assert [i.decode() for i in found["item_id"][user].numpy()] == [
            shop.item_ids[i] for i in best
        ]


@pytest.mark.parametrize(
    ("preset", "solver"), [(LEARNED, GRADIENT), (LOW_RANK, NEWTON)]
)
def test_saved_model_serves_without_python(shop, tmp_path, preset, solver):
    """Fixed halves of adapters and reduced partitions travel along."""
    model = shop.model(preset, solver)
    data = shop.data
    exported = export_model(
        str(tmp_path), model, data.catalog, data.space, shop.output, "m"
    )
    manifest = AdaptiveManifest.load(tmp_path)
    assert manifest == exported
    assert manifest.parameters == model.partition.parameters
    assert manifest.num_adaptive == model.partition.size
    loaded = tf.saved_model.load(str(tmp_path)).signatures
    start = model.initial_weights(NUM_USERS)
    inputs = {**USERS, **support(shop), **meta_state(model)}
    found = loaded["adapt"](**inputs, adaptive_weights=start)
    learning = shop.served(model).learning
    expected = learning.adapt(**inputs, adaptive_weights=start)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, **TOLERANCE)
