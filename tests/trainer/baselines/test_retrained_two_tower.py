"""What the retrained model adds to the towers: a user's own embedding."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_world
from trainer.baselines.retrained_two_tower import (
    RetrainedTwoTower,
    RetrainSettings,
)
from trainer.stages import StageData

CATALOG = tiny_world.make_catalog()
NUM_USERS = 6
KNOWN_ROWS = 50.0


@pytest.fixture(scope="module")
def model():
    """All parameters random; vectors of three values."""
    data = StageData(None, None, tiny_world.SPACE, CATALOG)
    settings = RetrainSettings(
        vector_precision=5.0, bias_precision=2.0, own_rate=10.0
    )
    ids = tiny_world.make_user_ids(NUM_USERS)
    made = RetrainedTwoTower(data, ids, tiny_world.tiny_config(), settings)
    made.score(np.array([0]), np.array([[0]], np.int32))
    random = np.random.default_rng(0)
    for variable in made.variables:
        variable.assign(random.normal(0.0, 0.3, variable.shape))
    return made


def own_embeddings(model):
    [variable] = [v for v in model.variables if v.shape == [NUM_USERS, 4]]
    return 10.0 * variable.numpy()


def expected_scores(model):
    """Logits [users, items] in plain NumPy on top of the two towers."""
    user = model.two_tower.user_tower(tiny_world.make_user_ids(NUM_USERS))
    item = model.two_tower.item_tower(CATALOG.ids)
    own = own_embeddings(model)
    vectors = user.vector.numpy() + own[:, :3]
    biases = user.bias.numpy() + own[:, 3:]
    return vectors @ item.vector.numpy().T + biases + item.bias.numpy().T


def test_scores_add_the_users_own_vector_and_bias(model):
    users = np.array([2, 0])
    candidates = np.array([[1, 4, 8], [0, 0, 7]], np.int32)
    expected = np.take_along_axis(
        expected_scores(model)[users], candidates.astype(int), axis=1
    )
    np.testing.assert_allclose(
        model.score(users, candidates), expected, rtol=1e-4
    )


def test_the_loss_is_that_of_the_rows_and_the_priors_share(model):
    user, item = np.array([0, 3, 3, 1]), np.array([2, 8, 2, 5], np.int32)
    label = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    found = model.compute_loss(
        {
            "user": tf.constant(user),
            "item": tf.constant(item),
            "label": tf.constant(label),
            "known_rows": tf.constant([KNOWN_ROWS]),
        }
    )
    logits = expected_scores(model)[user, item]
    losses = np.logaddexp(0.0, logits) - label * logits
    own = own_embeddings(model)
    prior = (5.0 * own[:, :3] ** 2).sum() + (2.0 * own[:, 3] ** 2).sum()
    expected = losses.mean() + prior / 2 / KNOWN_ROWS
    assert found.numpy() == pytest.approx(expected, rel=1e-4)
