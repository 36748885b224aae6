"""The batched stream against one call after the other, as a gateway works."""

import dataclasses

import numpy as np
import pytest

from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_tasks import MetaTask, is_held_back
from serving.contract.meta_update import MetaProgress
from serving.contract.online_stream import score_online
from serving.contract.support import merge_support
from tests.helpers.stream_users import OracleModel, make_users
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyOracle

RESERVOIR = 16
CONFIG = OnlineMetaConfig(
    tasks_per_update=5,
    held_back_share=0.3,
    held_back_tasks=6,
    min_held_back_tasks=2,
    outer_lr=0.05,
)
OFF = dataclasses.replace(CONFIG, enabled=False)


def score(users, config=CONFIG, model=None):
    model = model or OracleModel(users)
    exported = ToyOracle.from_seed(0).parameters.meta_state
    return score_online(model, users, exported, RESERVOIR, config)


def one_call_after_the_other(users, config):
    """Scores and progress; no batch, no segment, no round."""
    model = OracleModel(users)
    exported = ToyOracle.from_seed(0).parameters.meta_state
    progress = MetaProgress.start(exported)
    weights, kept, scores = {}, {}, {index: [] for index in range(len(users))}
    tasks, judges = [], []
    calls = []
    for index, user in enumerate(users):
        times = user.timestamps
        for start in range(0, min(len(times), 90), 10):
            rows = np.arange(start, min(start + 10, len(times)))
            who = (times[0], user.user_id, start)
            if start:
                calls.append((times[rows[0]], *who, 0, index, rows))
            calls.append((times[rows[-1]], *who, 1, index, rows))
    for call in sorted(calls, key=lambda c: c[:5]):
        learns, index, rows = call[4:]
        state = progress.current
        own = weights.get(index, state.meta_init)[np.newaxis]
        if not learns:
            scores[index] += list(model.rank([index], [rows], own)[0])
            continue
        reservoir, count = kept.get(index, ((), 0))
        new = users[index].events(rows)
        support = merge_support(reservoir, new, count, RESERVOIR)
        weights[index] = model.adapt([index], [support], own, state).weights[0]
        kept[index] = support.reservoir, support.count
        if not config.enabled or not count or len(rows) < 10:
            continue
        task = MetaTask(users[index].user_id, index, reservoir, tuple(new))
        if is_held_back(users[index].user_id, config.held_back_share):
            judges = [*judges, task][-config.held_back_tasks :]
            continue
        tasks = [*tasks, task][-config.tasks_per_update :]
        if len(tasks) == config.tasks_per_update and (
            len(judges) >= config.min_held_back_tasks
        ):
            step = progress.propose(model.meta_gradient(tasks, state), config)
            progress = progress.judge(
                step,
                model.meta_gradient(judges, state).losses,
                model.meta_gradient(judges, step.candidate).losses,
                config,
            )
            tasks = []
    return scores, progress


@pytest.mark.parametrize("config", [CONFIG, OFF])
def test_batched_scores_equal_one_call_after_the_other(config):
    users = make_users(14)
    found = score(users, config)
    expected, progress = one_call_after_the_other(users, config)
    for index, user in enumerate(users):
        assert len(found.scores[index]) == len(user.item_ids) - 10
        np.testing.assert_allclose(
            found.scores[index], expected[index], atol=1e-5
        )
    assert found.progress.promoted == progress.promoted
    assert found.progress.refused == progress.refused
    assert (found.progress.promoted > 2) == config.enabled
    np.testing.assert_allclose(
        found.progress.current.meta_init, progress.current.meta_init, atol=1e-5
    )


def test_moving_the_meta_state_changes_scores():
    """Without it the test above could pass with the updates ignored."""
    users = make_users(14)
    with_updates, without = score(users), score(users, OFF)
    assert without.progress.current.version == 0
    distance = [
        np.abs(a - b).max()
        for a, b in zip(with_updates.scores, without.scores, strict=True)
    ]
    assert max(distance) > 0.01
    # Who came first was served before anything had moved.
    assert min(distance) == 0.0


def test_no_user_is_learned_from_twice_in_one_call():
    users = make_users(14)
    model = OracleModel(users)  # Its `adapt` asserts it.
    score(users, OFF, model)
    adapts = [size for name, size in model.calls if name == "adapt"]
    assert adapts[0] == 14
    assert sum(adapts) == sum(-(-len(user.item_ids) // 10) for user in users)


def test_the_order_of_the_list_does_not_matter():
    users = make_users(10)
    forward, backward = score(users), score(users[::-1])
    for a, b in zip(forward.scores, backward.scores[::-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_later_events_change_no_earlier_score():
    users = make_users(8)
    cut = 9000
    early = [
        dataclasses.replace(
            user,
            item_ids=user.item_ids[:size],
            labels=user.labels[:size],
            timestamps=user.timestamps[:size],
        )
        for user in users
        if (size := int((user.timestamps < cut).sum()))
    ]
    before = {
        user.user_id: scores
        for user, scores in zip(early, score(early).scores, strict=True)
    }
    after = {
        user.user_id: scores
        for user, scores in zip(users, score(users).scores, strict=True)
    }
    compared = 0
    for user in early:
        # A window is ranked as a whole, when its first event comes.
        whole = (len(user.item_ids) - 10) // 10 * 10
        if whole > 0:
            np.testing.assert_allclose(
                before[user.user_id][:whole],
                after[user.user_id][:whole],
                atol=1e-6,
            )
            compared += whole
    assert compared >= 50


def test_users_from_elsewhere_are_served_better_by_an_updated_meta_state():
    """All users share a bent that the exported meta state knows nothing of."""
    bent = np.array([1.5, -1.5, 1.0, 0.5, -1.0])
    assert len(bent) == NUM_ADAPTIVE
    users = make_users(40, bent, num_events=24)
    config = dataclasses.replace(CONFIG, outer_lr=0.1, max_shift=2.0)
    late = [int(user.user_id[1:]) <= 20 for user in users]

    def loss(found):
        losses = [
            np.logaddexp(0.0, scores) - np.array(user.labels[10:]) * scores
            for user, scores, is_late in zip(
                users, found.scores, late, strict=True
            )
            if is_late
        ]
        return np.concatenate(losses).mean()

    updated = score(users, config)
    assert loss(updated) < loss(score(users, OFF)) - 0.01
    assert updated.progress.promoted > updated.progress.refused


def test_nobody_comes():
    assert score([]).scores == []
