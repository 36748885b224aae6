"""preprocessing_fn inside TFX's Transform, against plain Python counting."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from serving.contract.features import NUM_BUCKETS
from tests.helpers import raw_examples


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Raw data and the folder with Transform's outputs for it."""
    folder = tmp_path_factory.mktemp("transform")
    data = raw_examples.make_raw_data()
    examples, _ = raw_examples.write_raw_artifacts(data, folder)
    raw_examples.run_transform(examples, folder)
    return data, folder


def transformed(folder, split):
    return raw_examples.read_records(
        folder / "transformed_examples" / f"Split-{split}"
    )


def values_of(row, name):
    """The present values of a raw feature, as text or numbers."""
    value = row[name]
    values = value if isinstance(value, list) else [value]
    return [one for one in values if one is not None]


def vocabulary(rows, name):
    """Counts values; the most frequent first, ties in reverse order."""
    counts = collections.Counter(
        value for row in rows for value in values_of(row, name)
    )
    return sorted(counts, key=lambda v: (counts[v], v), reverse=True)


@pytest.mark.parametrize("split", raw_examples.SPLITS)
@pytest.mark.parametrize(
    ("name", "output"),
    [("item_id", "item_index"), ("gender", "gender"), ("studio", "studio")],
)
def test_categories_are_numbered_by_frequency_in_meta_train(
    run, split, name, output
):
    data, folder = run
    known = vocabulary(data.events["meta_train"], name)
    expected = []
    for row in data.events[split]:
        [value] = values_of(row, name) or [None]
        expected.append(known.index(value) if value in known else len(known))
    assert [row[output] for row in transformed(folder, split)] == [
        [index] for index in expected
    ]


def test_cold_users_meet_items_that_have_the_last_id(run):
    """Without it the test above could pass with no unknown item at all."""
    data, folder = run
    known = vocabulary(data.events["meta_train"], "item_id")
    unknown = [
        row
        for row in transformed(folder, "meta_test")
        if row["item_index"] == [len(known)]
    ]
    assert unknown
    assert not {row["item_id"][0].decode() for row in unknown} & set(known)


@pytest.mark.parametrize("name", ["genres", "hobbies"])
def test_lists_keep_length_and_order(run, name):
    data, folder = run
    known = vocabulary(data.events["meta_train"], name)
    for raw, row in zip(
        data.events["meta_test"], transformed(folder, "meta_test"), strict=True
    ):
        assert row.get(name, []) == [known.index(v) for v in raw[name]]


@pytest.mark.parametrize("name", ["age", "year"])
def test_numbers_fall_into_quantiles_of_meta_train(run, name):
    data, folder = run
    train = np.sort(
        [v for row in data.events["meta_train"] for v in values_of(row, name)]
    ).astype(np.float32)
    for split in raw_examples.SPLITS:
        for raw, row in zip(
            data.events[split], transformed(folder, split), strict=True
        ):
            [bucket] = row[name]
            if raw[name] is None:
                assert bucket == NUM_BUCKETS
                continue
            # A value's bucket is its rank in tenths. Equal values share one,
            # so the rank is an interval, and quantiles are right to 1%.
            low = np.searchsorted(train, raw[name], "left") / len(train)
            high = np.searchsorted(train, raw[name], "right") / len(train)
            slack = 1 / len(train) + 0.01
            assert math.floor((low - slack) * NUM_BUCKETS) <= bucket
            assert bucket <= math.floor((high + slack) * NUM_BUCKETS)


def test_event_columns_pass_unchanged(run):
    data, folder = run
    for split in raw_examples.SPLITS:
        for raw, row in zip(
            data.events[split], transformed(folder, split), strict=True
        ):
            assert row["user_id"] == [raw["user_id"].encode()]
            assert row["item_id"] == [raw["item_id"].encode()]
            assert row["label"] == [raw["label"]]
            assert row["timestamp"] == [raw["timestamp"]]
            assert row["position"] == [raw["position"]]


def test_served_graph_reads_nan_and_empty_text_as_missing(run):
    """A request has no absent features: it says NaN and ''."""
    _, folder = run
    output = tft.TFTransformOutput(str(folder / "transform_graph"))
    served = output.transform_features_layer()(
        {
            "age": tf.sparse.from_dense([[30.0], [math.nan]]),
            "gender": tf.SparseTensor([[0, 0], [1, 0]], ["f", ""], [2, 1]),
            "hobbies": tf.SparseTensor(
                [[0, 0], [0, 1], [1, 0]], ["", "chess", ""], [2, 2]
            ),
        }
    )
    assert set(served) == {"age", "gender", "hobbies"}
    assert served["age"][1] == NUM_BUCKETS
    assert served["gender"][1] == output.vocabulary_size_by_name("gender")
    chess = output.vocabulary_by_name("hobbies").index(b"chess")
    assert served["hobbies"].values.numpy().tolist() == [chess]
