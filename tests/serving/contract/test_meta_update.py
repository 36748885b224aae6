import json

import numpy as np
import pytest

from serving.contract.errors import MetaStateError
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_gradient import MetaGradient
from serving.contract.meta_state import MetaState
from serving.contract.meta_update import MetaProgress

CONFIG = OnlineMetaConfig(outer_lr=0.01, max_shift=100.0, history=3)
BETTER, SAME, WORSE = np.array([0.4]), np.array([0.5]), np.array([0.6])


def exported(version=0):
    random = np.random.default_rng(0)
    return MetaState(random.normal(size=3), random.normal(size=(2, 3)), version)


def gradients(number, scale=1.0):
    """Summed over as many tasks as there are losses."""
    random = np.random.default_rng(1)
    for _ in range(number):
        tasks = int(random.integers(1, 5))
        yield MetaGradient(
            tasks * scale * random.normal(size=3),
            tasks * scale * random.normal(size=(2, 3)),
            np.ones(tasks),
        )


def go_on(progress, number=1, config=CONFIG, after=BETTER):
    for gradient in gradients(number):
        step = progress.propose(gradient, config)
        progress = progress.judge(step, SAME, after, config)
    return progress


def test_steps_are_those_of_keras_adam():
    tf = pytest.importorskip("tensorflow")
    import tf_keras

    start = exported()
    progress = MetaProgress.start(start)
    optimizer = tf_keras.optimizers.Adam(
        CONFIG.outer_lr, CONFIG.beta1, CONFIG.beta2, epsilon=1e-12
    )
    variables = [tf.Variable(value) for value in start.inputs().values()]
    for gradient in gradients(7):
        step = progress.propose(gradient, CONFIG)
        progress = progress.judge(step, SAME, BETTER, CONFIG)
        tasks = len(gradient.losses)
        by_part = (gradient.meta_init, gradient.log_inner_lr)
        optimizer.apply_gradients(
            zip(
                [np.float32(g / tasks) for g in by_part], variables, strict=True
            )
        )
        for found, expected in zip(
            progress.current.inputs().values(), variables, strict=True
        ):
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_versions_count_up_and_the_newest_is_served():
    progress = go_on(MetaProgress.start(exported(version=4)), 5)
    assert progress.current.version == 9
    assert [s.version for s in progress.history] == [7, 8, 9]
    assert (progress.promoted, progress.refused) == (5, 0)


@pytest.mark.parametrize("after", [WORSE, np.array([np.nan])])
def test_what_does_worse_on_held_back_users_is_refused_and_counted(after):
    before = go_on(MetaProgress.start(exported()), 2)
    progress = go_on(before, 1, after=after)
    assert progress.current is before.current
    assert progress.adam is before.adam
    assert (progress.promoted, progress.refused) == (2, 1)
    assert go_on(progress).current.version == 3


def test_no_value_gets_further_than_allowed():
    config = OnlineMetaConfig(outer_lr=0.1, max_shift=0.25)
    progress = go_on(MetaProgress.start(exported()), 40, config)
    for found, start in zip(
        progress.current.inputs().values(),
        exported().inputs().values(),
        strict=True,
    ):
        distance = np.abs(found - start)
        assert distance.max() == pytest.approx(0.25, abs=1e-6)
    assert progress.max_shift == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_gradient_that_is_not_finite_moves_nothing(value, steps_before):
    """Not even by the momentum of the steps before it."""
    progress = go_on(MetaProgress.start(exported()), steps_before)
    broken = MetaGradient(
        np.array([0.1, value, 0.1]), np.zeros((2, 3)), np.ones(2)
    )
    step = progress.propose(broken, CONFIG)
    assert step.candidate is progress.current
    assert step.adam is progress.adam
    judged = progress.judge(step, SAME, SAME, CONFIG)
    assert judged.to_dict() == progress.to_dict() | {"refused": 1}


def test_a_solver_without_steps_learns_its_meta_init():
    progress = MetaProgress.start(MetaState(np.zeros(2), np.zeros((0, 2))))
    step = progress.propose(
        MetaGradient(np.array([1.0, -2.0]), np.zeros((0, 2)), np.ones(1)),
        CONFIG,
    )
    np.testing.assert_allclose(step.candidate.meta_init, [-0.01, 0.01])
    assert step.candidate.log_inner_lr.shape == (0, 2)


def test_roll_back_serves_the_earlier_values_and_reuses_no_number():
    progress = go_on(MetaProgress.start(exported()), 5)
    wanted = progress.history[0]
    back = progress.roll_back(wanted.version)
    assert back.current is wanted
    assert go_on(back).current.version == 6
    start = back.roll_back(0)
    np.testing.assert_array_equal(start.current.meta_init, exported().meta_init)
    assert go_on(start).current.version == 6


def test_versions_that_are_not_kept_are_named():
    progress = go_on(MetaProgress.start(exported()), 5)
    with pytest.raises(MetaStateError, match=r"2.*there are \[0, 3, 4, 5\]"):
        progress.roll_back(2)


def test_progress_goes_on_from_json_as_if_nothing_happened():
    progress = go_on(MetaProgress.start(exported()), 4)
    progress = go_on(progress, 1, after=WORSE)
    read = MetaProgress.from_dict(json.loads(json.dumps(progress.to_dict())))
    assert (read.promoted, read.refused) == (4, 1)
    assert [s.version for s in read.history] == [2, 3, 4]
    for a, b in zip(
        go_on(read, 3).current.inputs().values(),
        go_on(progress, 3).current.inputs().values(),
        strict=True,
    ):
        assert a.tobytes() == b.tobytes()


def damaged(change):
    values = go_on(MetaProgress.start(exported()), 2).to_dict()
    change(values)
    return values


@pytest.mark.parametrize(
    "values",
    [
        {},
        damaged(lambda v: v.update(format=2)),
        damaged(lambda v: v["history"][0].update(meta_init=[0.0])),
        damaged(lambda v: v["history"][1]["meta_init"].append(0.0)),
        damaged(lambda v: v["adam"].update(mean=[0.0])),
        damaged(lambda v: v.pop("last_version")),
    ],
)
def test_what_is_no_progress_is_refused(values):
    with pytest.raises(MetaStateError):
        MetaProgress.from_dict(values)
