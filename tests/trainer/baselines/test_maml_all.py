"""Every parameter per user, against a loop that copies the whole model."""

import numpy as np
import pytest
import tensorflow as tf

from serving.contract.features import ITEM_INDEX
from tests.helpers import numpy_targets, tiny_world
from trainer.baselines.fast_two_tower import FastTwoTower
from trainer.baselines.fast_weights import floats_per_user
from trainer.baselines.maml_all import MamlAll, MamlLearner, MamlScorer
from trainer.features import PAD
from trainer.tasks import LabelledRows

CATALOG = tiny_world.make_catalog()
NUM_STEPS = 3
PRIOR_EVENTS = 2.0


def make_maml(**config):
    """All parameters random and none of them zero."""
    settings = tiny_world.tiny_config(num_inner_steps=NUM_STEPS, **config)
    model = FastTwoTower(tiny_world.SPACE, CATALOG, settings)
    maml = MamlAll(model, settings)
    MamlScorer(maml).learn(
        MamlScorer(maml).begin(tiny_world.make_user_ids(1)),
        LabelledRows(
            np.zeros([1, 1], np.int32), *np.zeros([2, 1, 1], np.float32)
        ),
    )
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.normal(0.0, 0.5, variable.shape))
    maml.log_inner_lr.assign(random.normal(-0.5, 0.5, [NUM_STEPS, 11]))
    maml.log_prior_events.assign(np.log(PRIOR_EVENTS))
    maml.label_shift.assign(random.normal(0.0, 0.2, maml.label_shift.shape))
    return maml


class WholeCopy:
    """One user's copy of the whole model, tables and all."""

    def __init__(self, maml):
        model = maml.model
        self._maml = maml

        def copies(tables):
            return {n: tf.Variable(t.embeddings) for n, t in tables.items()}

        self.user_tables = copies(model._user_embedding._tables)
        self.item_tables = copies(model._item_embedding._tables)
        self.id_table = tf.Variable(model._id_embedding.embeddings)
        self.user_dense, self.item_dense = (
            [
                tf.Variable(variable)
                for variable in (
                    dense.hidden_kernel,
                    dense.hidden_bias,
                    dense.output_kernel,
                    dense.output_bias,
                )
            ]
            for dense in (model._user_dense, model._item_dense)
        )

    def tensors(self):
        """Each with its place among the step sizes."""
        tensors = [*self.user_dense, *self.item_dense]
        places = [*range(8)]
        for place, tables in ((8, self.user_tables), (9, self.item_tables)):
            tensors += tables.values()
            places += [place] * len(tables)
        return [*tensors, self.id_table], [*places, 10]

    def score(self, user_ids, item_rows):
        user = self._tower(
            self.user_dense, self._mean(self.user_tables, user_ids)
        )
        scores = []
        for row in item_rows:
            ids = {n: values[row].numpy() for n, values in CATALOG.ids.items()}
            item = self._tower(
                self.item_dense, self._mean(self.item_tables, ids)
            )
            item += tf.gather(self.id_table, int(ids[ITEM_INDEX][0]))
            scores.append(
                tf.reduce_sum(user[:-1] * item[:-1]) + user[-1] + item[-1]
            )
        return tf.stack(scores)

    def learn(self, user_ids, items, labels, weights):
        total = sum(weights) + PRIOR_EVENTS
        shift = self._maml.label_shift.numpy()
        target, _ = numpy_targets.targets(labels, shift, shift)
        for step in range(NUM_STEPS):
            tensors, places = self.tensors()
            with tf.GradientTape() as tape:
                losses = tf.nn.sigmoid_cross_entropy_with_logits(
                    tf.cast(target, tf.float32), self.score(user_ids, items)
                )
                loss = tf.reduce_sum(losses * weights) / total
            rates = np.exp(self._maml.log_inner_lr.numpy()[step])
            gradients = tape.gradient(loss, tensors)
            for tensor, place, gradient in zip(
                tensors, places, gradients, strict=True
            ):
                tensor.assign_sub(rates[place] * tf.convert_to_tensor(gradient))

    @staticmethod
    def _mean(tables, ids):
        means = []
        for name, table in tables.items():
            own = [int(i) for i in np.ravel(ids[name]) if i != PAD]
            means.append(
                tf.reduce_mean(tf.gather(table, own), axis=0)
                if own
                else tf.zeros(table.shape[1])
            )
        return tf.concat(means, axis=0)

    @staticmethod
    def _tower(dense, inputs):
        kernel, bias, output_kernel, output_bias = dense
        hidden = tf.nn.relu(tf.tensordot(inputs, kernel, 1) + bias)
        return tf.tensordot(hidden, output_kernel, 1) + output_bias


def one_user(tasks, user):
    ids = {
        name: values[user].numpy() for name, values in tasks.user_ids.items()
    }
    present = tasks.support.weight[user].numpy() > 0
    rows = [values[user].numpy()[present] for values in tasks.support]
    return ids, rows


def test_adapted_scores_equal_those_of_a_copy_of_the_whole_model():
    maml = make_maml()
    tasks = tiny_world.make_tasks(num_users=3)
    scorer = MamlScorer(maml)
    state = scorer.learn(scorer.begin(tasks.user_ids), tasks.support)
    found = scorer.score(state, tasks.query_set.item_row).numpy()
    for user in range(3):
        ids, (items, labels, weights) = one_user(tasks, user)
        copy = WholeCopy(maml)
        if len(items):
            copy.learn(ids, items, labels, weights)
        candidates = tasks.query_set.item_row[user].numpy()
        expected = copy.score(ids, candidates).numpy()
        np.testing.assert_allclose(found[user], expected, atol=1e-4)


def test_users_without_events_are_scored_by_the_shared_parameters():
    maml = make_maml()
    tasks = tiny_world.make_tasks(num_users=2)
    scorer = MamlScorer(maml)
    state = scorer.begin(tasks.user_ids)
    found = scorer.score(state, tasks.query_set.item_row).numpy()
    for user in range(2):
        ids, _ = one_user(tasks, user)
        candidates = tasks.query_set.item_row[user].numpy()
        expected = WholeCopy(maml).score(ids, candidates).numpy()
        np.testing.assert_allclose(found[user], expected, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["log_inner_lr", "log_prior_events", "label_shift"]
)
def test_the_outer_gradient_equals_finite_differences(name):
    maml = make_maml()
    learner = MamlLearner(maml, tiny_world.tiny_config())
    tasks = tiny_world.make_tasks(num_users=3)
    variable = getattr(maml, name)
    with tf.GradientTape() as tape:
        loss = learner.compute_loss(tasks)
    gradient = tape.gradient(loss, variable).numpy().reshape(-1)
    base = variable.numpy()
    for entry in {0, base.size // 2, base.size - 1}:
        ends = []
        for shift in (3e-3, -3e-3):
            moved = base.reshape(-1).copy()
            moved[entry] += shift
            variable.assign(moved.reshape(base.shape))
            ends.append(learner.compute_loss(tasks).numpy())
        variable.assign(base)
        slope = (ends[0] - ends[1]) / 6e-3
        assert gradient[entry] == pytest.approx(slope, abs=2e-3)


def test_first_order_gives_the_same_loss_and_another_gradient():
    tasks = tiny_world.make_tasks(num_users=3)
    found = []
    for first_order in (False, True):
        maml = make_maml(first_order=first_order)
        learner = MamlLearner(maml, tiny_world.tiny_config())
        with tf.GradientTape() as tape:
            loss = learner.compute_loss(tasks)
        kernel = maml.model._item_dense.hidden_kernel
        found.append((loss.numpy(), tape.gradient(loss, kernel).numpy()))
    (loss, gradient), (other_loss, other_gradient) = found
    assert loss == pytest.approx(other_loss)
    assert np.abs(gradient - other_gradient).max() > 1e-4


def test_everything_is_trained_with_dropout():
    config = tiny_world.tiny_config(dropout=0.2, item_id_dropout=0.2)
    maml = MamlAll(FastTwoTower(tiny_world.SPACE, CATALOG, config), config)
    learner = MamlLearner(maml, config)
    tasks = tiny_world.make_tasks(num_users=3)
    with tf.GradientTape() as tape:
        loss = learner.compute_loss(tasks, training=True)
    assert np.isfinite(loss)
    # Layers, feature tables, item ids, the inner loop's own.
    assert len(learner.trainable_variables) == 8 + 4 + 1 + 3
    for gradient in tape.gradient(loss, learner.trainable_variables):
        assert gradient is not None
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_floats_per_user_counts_what_differs_from_the_shared_parameters():
    maml = make_maml()
    fast = maml.model.initial(tiny_world.make_user_ids(2), 10)
    # vector_size 3, hidden_size 4, feature_size 2, two features on each side.
    dense = 4 * 4 + 4 + 4 * 4 + 4
    assert floats_per_user(fast, 10) == 2 * dense + 4 + 10 * (4 + 4)
