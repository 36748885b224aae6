"""Sampled plain rows against what the users' episodes hold.

The row of a user's item in these episodes is user * 1000 + row, so that each
sampled row tells where it is from.
"""

import numpy as np

from tests.helpers import tiny_world
from trainer.plain_rows import sample_rows


def make_user(user, positions):
    rows = np.arange(len(positions))
    return tiny_world.make_episode(
        positions,
        seed=user,
        item_row=(user * 1000 + rows).astype(np.int32),
        label=(rows % 3 == 0).astype(np.float32),
        gender=np.array([user]),
    )


def test_plain_rows_are_all_of_one_user_and_count_alike():
    config = tiny_world.tiny_config(meta_batch_size=200, query_rows=10)
    users = [
        make_user(0, range(10)),
        make_user(1, range(40)),
        make_user(2, np.repeat(range(30), 2)),
    ]
    dataset = sample_rows(
        tiny_world.as_dataset(users), tiny_world.SPACE, config
    )
    counts = np.zeros(3000)
    for user_ids, rows in dataset.take(5):
        user = user_ids["gender"].numpy()
        item_row = rows.item_row.numpy()
        assert item_row.shape == (200, 10)
        assert (rows.weight.numpy() == 1).all()
        assert (item_row // 1000 == user).all()
        labels = np.vectorize(lambda r: users[r // 1000]["label"][r % 1000])
        np.testing.assert_array_equal(rows.label, labels(item_row))
        counts += np.bincount(item_row.reshape(-1), minlength=3000)
    seen = counts[counts > 0]
    assert len(seen) == 10 + 40 + 60
    # 10,000 draws; users come in clumps of ten rows.
    per_user = [counts[1000 * u :][:1000].sum() for u in range(3)]
    np.testing.assert_allclose(
        np.array(per_user) / 10_000, np.array([10, 40, 60]) / 110, atol=0.06
    )
