"""Episodes and catalog from records that are written by hand."""

import numpy as np
import pytest
import tensorflow as tf

from serving.contract.features import USER_ROW
from tests.helpers import tiny_world
from tests.helpers.raw_examples import to_example, write_records
from trainer import episodes
from trainer.errors import EpisodeDataError
from trainer.features import PAD
from trainer.two_tower import PartitionedTwoTower

SPACE = tiny_world.SPACE
ITEMS = [
    {"item_id": "007", "item_index": 2, "genres": [1, 3], "year": 4},
    {"item_id": "7", "item_index": 0, "genres": [], "year": 10},
    {"item_id": "é", "item_index": 6, "genres": [0], "year": 0},
]
USERS = [
    {
        "user_id": "u1",
        "item_id": ["7", "nobody knows", "007"],
        "label": [1.0, 0.0, 1.0],
        "timestamp": [5, 6, 7],
        "position": [0, 1, 1],
        "gender": 1,
        "hobbies": [2, 0],
    },
    {
        "user_id": "u2",
        "item_id": ["é"],
        "label": [0.0],
        "timestamp": [5],
        "position": [0],
        "gender": 2,
        "hobbies": [],
    },
]


def write(folder, rows, split="meta_train", files=1):
    """Writes rows over some files; returns the split's pattern."""
    for number in range(files):
        write_records(
            folder / f"Split-{split}" / f"data-{number:05d}.gz",
            [to_example(row) for row in rows[number::files]],
        )
    return str(folder / f"Split-{split}" / "*")


def read_catalog(folder, items=ITEMS, **kwargs):
    pattern = write(folder, items, "catalog", **kwargs)
    return episodes.read_catalog(episodes.expand([pattern]), SPACE)


def read_users(folder, catalog, users=USERS):
    files = episodes.expand([write(folder, users)])
    return episodes.read_episodes(files, SPACE, catalog)


def test_users_of_a_mixed_log_have_its_weight(tmp_path):
    catalog = read_catalog(tmp_path)
    names = ["web:u1", "web", "u:web:", "é:web:1", "é:1"]
    users = [{**USERS[0], "user_id": name} for name in names]
    files = episodes.expand([write(tmp_path, users)])
    found = episodes.read_episodes(
        files, SPACE, catalog, {"web:": 0.25, "é:": 3.0}
    )
    assert [float(u["draw_weight"]) for u in found] == [0.25, 1, 1, 3, 3]


def test_catalog_has_a_row_per_item_and_one_for_unknown_items(tmp_path):
    catalog = read_catalog(tmp_path)
    assert list(catalog.item_ids) == [b"007", b"7", "é".encode()]
    assert catalog.unknown_row == 3
    ids = {
        name: values.numpy().tolist() for name, values in catalog.ids.items()
    }
    assert ids == {
        "genres": [[1, 3], [PAD, PAD], [0, PAD], [3, PAD]],
        "year": [[4], [10], [0], [10]],
        "item_index": [[2], [0], [6], [6]],
    }


def test_catalog_of_several_files_is_read_whole(tmp_path):
    items = [{**ITEMS[0], "item_id": f"{n:03d}"} for n in range(10)]
    catalog = read_catalog(tmp_path, items, files=3)
    assert sorted(catalog.item_ids) == [f"{n:03d}".encode() for n in range(10)]
    assert catalog.ids["year"].shape == [11, 1]


def test_feature_that_no_item_has_is_missing_for_all(tmp_path):
    items = [{**item, "genres": []} for item in ITEMS]
    catalog = read_catalog(tmp_path, items)
    assert catalog.ids["genres"].numpy().tolist() == [[PAD]] * 3 + [[3]]
    model = PartitionedTwoTower(SPACE, tiny_world.tiny_config())
    assert np.isfinite(model.item_tower(catalog.ids).vector).all()


def test_empty_catalog_says_where_to_look(tmp_path):
    with pytest.raises(EpisodeDataError, match=r"holds no item.*item table"):
        read_catalog(tmp_path, [])


def test_episodes_keep_rows_in_order_and_find_their_items(tmp_path):
    dataset = read_users(tmp_path, read_catalog(tmp_path))
    first, second = dataset.as_numpy_iterator()
    assert first["item_row"].tolist() == [1, 3, 0]
    assert first["item_row"].dtype == np.int32
    assert first["label"].tolist() == [1.0, 0.0, 1.0]
    assert first["position"].tolist() == [0, 1, 1]
    assert first["gender"].tolist() == [1]
    assert first["hobbies"].tolist() == [2, 0]
    assert second["item_row"].tolist() == [2]
    assert second["hobbies"].tolist() == []
    assert first["draw_weight"] == 1.0
    assert set(first) == {
        *("item_row", "label", "position", "draw_weight"),
        *("gender", "hobbies"),
    }


def test_users_of_a_batch_are_padded_on_the_right(tmp_path):
    dataset = read_users(tmp_path, read_catalog(tmp_path))
    [batch] = dataset.ragged_batch(5)
    ids = episodes.user_ids(batch, SPACE)
    assert {name: value.numpy().tolist() for name, value in ids.items()} == {
        "gender": [[1], [2]],
        "hobbies": [[2, 0], [PAD, PAD]],
        USER_ROW: [[0], [0]],
    }


def test_users_without_any_hobby_are_embedded(tmp_path):
    users = [{**user, "hobbies": []} for user in USERS]
    [batch] = read_users(tmp_path, read_catalog(tmp_path), users).ragged_batch(
        2
    )
    model = PartitionedTwoTower(SPACE, tiny_world.tiny_config())
    user = model.user_tower(episodes.user_ids(batch, SPACE))
    assert user.vector.shape == [2, 3]
    assert tf.reduce_all(tf.math.is_finite(user.vector))


def test_pattern_without_files_is_named(tmp_path):
    with pytest.raises(EpisodeDataError, match=r"Split-meta_train/\*"):
        episodes.expand([str(tmp_path / "Split-meta_train" / "*")])


def test_files_are_listed_in_order(tmp_path):
    pattern = write(tmp_path, USERS * 2, files=4)
    files = episodes.expand([pattern])
    assert [file[-8:-3] for file in files] == [f"{n:05d}" for n in range(4)]


def test_catalog_lies_beside_the_splits():
    assert (
        episodes.catalog_pattern("/data/episodes/7/Split-meta_train/*")
        == "/data/episodes/7/Split-catalog/*"
    )
