"""Flat SavedModels against what was saved."""

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.model_server.loaded_model import LoadedModel
from serving.model_server.tensor import Tensor
from trainer.flat_model import flatten


class Words(tf.Module):
    """Counts known words from a number on: a variable and a table."""

    def __init__(self, folder, start, words):
        super().__init__()
        file = folder / "words"
        file.write_text("".join(f"{word}\n" for word in words))
        self._start = tf.Variable(start, dtype=tf.int64)
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(file),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")])
    def number(self, word):
        return {"number": self._table.lookup(word) + self._start}


def saved(folder, start, words=("a", "b", "c")):
    folder.mkdir()
    module = Words(folder, start, words)
    path = folder / "model"
    tf.saved_model.save(module, str(path), signatures={"number": module.number})
    flatten(str(path), default="number")
    return path


def eager(path):
    signature = tf.saved_model.load(str(path)).signatures["number"]
    return lambda *words: signature(word=tf.constant(words))["number"].numpy()


def test_models_loaded_in_one_process_keep_apart(tmp_path):
    one = eager(saved(tmp_path / "one", start=10))
    other = eager(saved(tmp_path / "other", start=20, words=("c", "b", "a")))
    np.testing.assert_array_equal(one("a", "c", "?"), [10, 12, 9])
    np.testing.assert_array_equal(other("a", "c", "?"), [22, 20, 19])
    np.testing.assert_array_equal(one("a", "c", "?"), [10, 12, 9])


def test_the_default_signature_is_the_one_that_was_named(tmp_path):
    model = LoadedModel(saved(tmp_path / "one", start=10))
    inputs = [Tensor(tf.string.as_datatype_enum, (2,), [b"b", b"?"])]
    for name in ("number", "serving_default", ""):
        (number,) = model.signature(name).run(inputs)
        assert np.frombuffer(number.data, np.int64).tolist() == [11, 9]
    model.close()


def test_no_function_is_left(tmp_path):
    path = saved(tmp_path / "one", start=10) / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (meta_graph,) = saved_model.meta_graphs
    assert not meta_graph.graph_def.library.function


def test_what_is_moved_after_flattening_finds_its_files(tmp_path):
    path = saved(tmp_path / "one", start=10)
    moved = path.rename(tmp_path / "moved")
    (tmp_path / "one" / "words").unlink()
    np.testing.assert_array_equal(eager(moved)("b"), [11])
