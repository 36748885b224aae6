import struct
from pathlib import Path

import pytest

from serving.errors import GraphError, InvalidRequestError, LaunchError
from serving.model_server import loaded_model
from serving.model_server.c_api import open_library
from serving.model_server.session import SESSION_CONFIG, Session
from serving.model_server.warmup import WARMUP_FILE, load_warm
from serving.protos import tf_serving_pb2 as pb
from tests.contract.model_server_suite import rank_request
from tests.serving.conftest import push


def test_session_config_is_what_tensorflow_writes():
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
    )
    config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
    config.graph_options.optimizer_options.do_function_inlining = True
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    assert config.SerializeToString() == SESSION_CONFIG


def test_folder_without_a_model_does_not_load(tmp_path):
    with pytest.raises(GraphError, match=str(tmp_path)) as refused:
        Session(tmp_path)
    assert refused.value.code == 5  # NOT_FOUND


def test_library_without_the_c_api_is_refused(tmp_path):
    with pytest.raises(LaunchError, match="no_library"):
        open_library(tmp_path / "no_library.so")
    # The dynamic linker knows it, and it has no TensorFlow in it.
    with pytest.raises(LaunchError, match="TF_Version"):
        open_library(Path("libc.so.6"))


@pytest.fixture
def version(toys, tmp_path):
    push(toys[0], tmp_path, 1)
    return tmp_path / "1"


def test_cut_off_warm_up_does_not_load(version):
    path = version / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GraphError, match="cut off"):
        load_warm(version)


def test_warm_up_that_fails_does_not_load(version):
    request = rank_request()
    del request.inputs["age"]
    log = pb.PredictionLog(
        predict_log=pb.PredictLog(request=request)
    ).SerializeToString()
    record = struct.pack("<QI", len(log), 0) + log + bytes(4)
    (version / WARMUP_FILE).write_bytes(record)
    with pytest.raises(InvalidRequestError, match="age"):
        load_warm(version)


def test_version_without_warm_up_loads(version):
    (version / WARMUP_FILE).unlink()
    model = load_warm(version)
    assert model.predict(rank_request()).outputs["score"].dtype == pb.DT_FLOAT
    model.close()


def test_version_with_a_wrong_signature_leaves_nothing_in_memory(
    version, monkeypatch
):
    """It is tried again and again."""
    opened, closed = [], []

    class Counted(Session):
        def __init__(self, path):
            super().__init__(path)
            opened.append(self)

        def close(self):
            super().close()
            closed.append(self)

    monkeypatch.setattr(loaded_model, "Session", Counted)
    path = version / "saved_model.pb"
    data = path.read_bytes()
    assert b"rank_item_id:0" in data
    path.write_bytes(data.replace(b"rank_item_id:0", b"none_item_id:0"))
    with pytest.raises(GraphError, match="no operation 'none_item_id'"):
        load_warm(version)
    assert opened
    assert closed == opened
