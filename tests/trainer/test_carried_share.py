"""Where lessons start, as meta_valid chooses it."""

import numpy as np
import pytest

from tests.helpers import tiny_world
from trainer.carried_share import SHARES, choose_carried_share
from trainer.config import NEWTON
from trainer.stream_validation import StreamFigures, StreamValidation

CATALOG = tiny_world.make_catalog()


class Judge:
    """Likes one share best, whatever the model."""

    def __init__(self, model, best):
        self._share = model.inner_loop.carried_share
        self._best = best

    def evaluate(self):
        online = 0.7 - 0.01 * abs(float(self._share) - self._best)
        return StreamFigures({"online": online}, {"online": online / 2})


@pytest.mark.parametrize("best", SHARES)
def test_the_share_that_serves_best_is_kept_with_its_figures(best):
    model = tiny_world.make_model(tiny_world.tiny_config())
    figures = choose_carried_share(model, Judge(model, best))
    assert model.inner_loop.carried_share == best
    assert figures.auc["online"] == pytest.approx(0.7)


def test_shares_matter_from_the_second_lesson_on():
    model = tiny_world.make_model(tiny_world.tiny_config())
    users = [tiny_world.make_episode(range(45), seed=s) for s in range(6)]
    validation = StreamValidation(
        model, tiny_world.as_dataset(users), tiny_world.SPACE, CATALOG, 10
    )
    seen = []
    for share in (0.0, 1.0):
        model.inner_loop.carried_share.assign(share)
        seen.append(validation.evaluate())
    nothing, all_of_it = seen
    assert nothing.auc["offline"] == all_of_it.auc["offline"]
    assert nothing.auc["online"] != all_of_it.auc["online"]


def test_a_lesson_that_carries_nothing_depends_on_its_events_alone():
    model = tiny_world.make_model(tiny_world.tiny_config())
    model.inner_loop.carried_share.assign(0.0)
    tasks = tiny_world.make_tasks(4)
    support = tasks.support
    learned = [
        model.adapt(
            model.user_tower(tasks.user_ids),
            model.embed_items(CATALOG.ids, support.item_row),
            support.label,
            support.weight,
            start,
        ).numpy()
        for start in (
            model.initial_weights(4),
            np.random.default_rng(0)
            .normal(size=[4, model.partition.size])
            .astype(np.float32),
        )
    ]
    np.testing.assert_allclose(*learned, atol=1e-6)


def test_a_solver_that_needs_no_start_is_judged_as_it_is():
    model = tiny_world.make_model(tiny_world.tiny_config(solver=NEWTON))
    figures = StreamFigures({"online": 0.6}, {"online": 0.5})

    class Once:
        def evaluate(self):
            return figures

    assert choose_carried_share(model, Once()) is figures
