"""EpisodeGen against gathering the rows one by one."""

import itertools
import json
import random

import pytest
import tensorflow_transform as tft
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import artifact_utils, standard_artifacts

from components.episode_gen import executor, rows
from components.errors import EpisodeError
from tests.helpers import raw_examples

USER_FEATURES = ["gender", "age", "hobbies"]
ITEM_FEATURES = ["genres", "year", "studio"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Raw data, the folder of all outputs, and the episodes' artifact."""
    folder = tmp_path_factory.mktemp("episodes")
    data = raw_examples.make_raw_data()
    examples, catalog = raw_examples.write_raw_artifacts(data, folder)
    transformed, graph = raw_examples.run_transform(examples, folder)
    return data, folder, run_executor(folder, transformed, graph, catalog)


def run_executor(folder, transformed, graph, catalog):
    episodes = standard_artifacts.Examples()
    episodes.uri = str(folder / "episodes")
    context = executor.Executor.Context(
        beam_pipeline_args=list(raw_examples.BEAM_ARGS)
    )
    executor.Executor(context).Do(
        {
            "transformed_examples": [transformed],
            "transform_graph": [graph],
            "catalog": [catalog],
        },
        {"episodes": [episodes]},
        {
            "user_features": json.dumps(USER_FEATURES),
            "item_features": json.dumps(ITEM_FEATURES),
        },
    )
    return episodes


@pytest.mark.parametrize("split", raw_examples.SPLITS)
def test_each_user_has_its_events_in_order(run, split):
    data, folder, _ = run
    episodes = {
        episode["user_id"][0].decode(): episode
        for episode in raw_examples.read_records(
            folder / "episodes" / f"Split-{split}"
        )
    }
    expected = itertools.groupby(
        data.events[split], key=lambda row: row["user_id"]
    )
    seen = set()
    for user, group in expected:
        group = list(group)
        seen.add(user)
        for name in ("label", "timestamp", "position"):
            assert episodes[user][name] == [row[name] for row in group]
        assert episodes[user]["item_id"] == [
            row["item_id"].encode() for row in group
        ]
    assert seen == set(episodes)


def test_user_features_are_those_of_its_transformed_rows(run):
    _, folder, _ = run
    transformed = {
        row["user_id"][0]: row
        for row in raw_examples.read_records(
            folder / "transformed_examples" / "Split-meta_test"
        )
    }
    for episode in raw_examples.read_records(
        folder / "episodes" / "Split-meta_test"
    ):
        row = transformed[episode["user_id"][0]]
        for name in USER_FEATURES:
            assert episode.get(name, []) == row.get(name, [])
        assert not set(ITEM_FEATURES) & set(episode)


def test_catalog_has_the_ids_that_transformed_rows_have(run):
    data, folder, _ = run
    catalog = raw_examples.read_records(folder / "episodes" / "Split-catalog")
    assert [item["item_id"][0].decode() for item in catalog] == [
        row["item_id"] for row in data.catalog
    ]
    assert [item["display_title"][0].decode() for item in catalog] == [
        row["display_title"] for row in data.catalog
    ]
    by_id = {item["item_id"][0]: item for item in catalog}
    for split in raw_examples.SPLITS:
        for row in raw_examples.read_records(
            folder / "transformed_examples" / f"Split-{split}"
        ):
            item = by_id[row["item_id"][0]]
            for name in ("item_index", *ITEM_FEATURES):
                assert item.get(name, []) == row.get(name, [])


def test_items_that_only_cold_users_met_have_the_last_id(run):
    data, folder, _ = run
    size = tft.TFTransformOutput(
        str(folder / "transform_graph")
    ).vocabulary_size_by_name("item_id")
    trained = {row["item_id"] for row in data.events["meta_train"]}
    for item in raw_examples.read_records(
        folder / "episodes" / "Split-catalog"
    ):
        is_known = item["item_id"][0].decode() in trained
        assert (item["item_index"][0] < size) == is_known


def test_artifact_says_what_it_holds(run):
    data, _, episodes = run
    assert artifact_utils.decode_split_names(episodes.split_names) == [
        *raw_examples.SPLITS,
        "catalog",
    ]
    assert episodes.get_int_custom_property("rows_meta_test") == len(
        data.events["meta_test"]
    )
    assert episodes.get_int_custom_property("users_meta_test") == 12
    assert episodes.get_string_custom_property("summary") == (
        "720 rows, 36 users, 40 items"
    )


def test_split_without_files_is_named(run, tmp_path):
    _, folder, _ = run
    data = raw_examples.make_raw_data(users_per_split=1)
    examples, catalog = raw_examples.write_raw_artifacts(data, tmp_path)
    [file] = (tmp_path / "examples" / "Split-meta_test").iterdir()
    file.unlink()
    graph = standard_artifacts.TransformGraph()
    graph.uri = str(folder / "transform_graph")
    with pytest.raises(EpisodeError, match="Split-meta_test"):
        run_executor(tmp_path, examples, graph, catalog)


def implicit_rows():
    """Two users' events with sampled negatives, which share a position."""
    return [
        {
            "user_id": user,
            "item_id": f"{position}-{item}",
            "label": 1.0 if item == 2 else 0.0,
            "timestamp": 100 + position,
            "position": position,
            "age": 3,
        }
        for user in ("u", "v")
        for position in range(5)
        for item in range(4)
    ]


def make_packer():
    schema = schema_pb2.Schema()
    for name in ("user_id", "item_id"):
        schema.feature.add(name=name, type=schema_pb2.BYTES)
    for name in ("timestamp", "position", "age"):
        schema.feature.add(name=name, type=schema_pb2.INT)
    schema.feature.add(name="label", type=schema_pb2.FLOAT)
    return rows.EpisodePacker(schema.SerializeToString(), ["age"])


@pytest.mark.parametrize("batch_rows", [1, 7, 40])
def test_shuffled_rows_in_any_batches_give_the_same_episodes(batch_rows):
    shuffled = implicit_rows()
    random.Random(batch_rows).shuffle(shuffled)
    packer = make_packer()
    chunks = {b"u": [], b"v": []}
    for start in range(0, len(shuffled), batch_rows):
        batch = shuffled[start : start + batch_rows]
        for user, chunk in packer.pack(
            [raw_examples.to_example(row) for row in batch]
        ):
            chunks[user].append(chunk)
    for user, its_chunks in chunks.items():
        episode = raw_examples.from_example(packer.merge(its_chunks))
        expected = sorted(
            (row for row in shuffled if row["user_id"].encode() == user),
            key=lambda row: (row["position"], -row["label"], row["item_id"]),
        )
        assert episode["user_id"] == [user]
        assert episode["age"] == [3]
        assert episode["item_id"] == [r["item_id"].encode() for r in expected]
        assert episode["label"] == [row["label"] for row in expected]
        assert episode["timestamp"] == [row["timestamp"] for row in expected]


def test_row_without_item_is_an_error_that_names_the_column():
    row = implicit_rows()[0] | {"item_id": None}
    with pytest.raises(EpisodeError, match=r"'item_id' .* 0 values in 1 of 1"):
        make_packer().pack([raw_examples.to_example(row)])
