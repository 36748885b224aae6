import time

import grpc
import pytest

from serving.model_server.model_config import ModelConfig
from serving.model_server.service import ModelServerService
from serving.model_server.versions import ModelVersions
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import PREDICT


class Call:
    """A Predict, and what it is answered."""

    method = PREDICT

    def __init__(self, signature):
        spec = pb.ModelSpec(name="m", signature_name=signature)
        request = pb.PredictRequest(model_spec=spec)
        self.request = request.SerializeToString()
        self.deadline = time.time() + 60
        self.answers = []

    def answer(self, response, metadata=()):
        self.answers.append(grpc.StatusCode.OK)

    def refuse(self, code, words, metadata=()):
        self.answers.append(code)


class Signature:
    """Runs, or does not; a loaded version with this one signature."""

    def __init__(self, name):
        # Nothing else that is said of inputs is wrong as easily.
        self.batched = (True,) if name == "does not fit" else ()
        self.name = name

    def read(self, request):
        return []

    def run(self, inputs):
        if self.name == "does not run":
            raise ValueError("no")
        return []

    def response(self, outputs, output_filter):
        return pb.PredictResponse()


class Model:
    def __init__(self, path):
        self.signature = Signature

    def close(self):
        pass


class Models:
    """One model."""

    def __init__(self, base_path):
        self.versions = ModelVersions("m", ModelConfig(base_path), Model)
        self.versions.poll()

    def find(self, name):
        return self.versions


@pytest.mark.parametrize("wrong", ["does not run", "does not fit"])
def test_every_call_is_answered_whatever_a_graph_raises(tmp_path, wrong):
    (tmp_path / "1").mkdir()
    models = Models(tmp_path)
    sound, bad = Call("runs"), Call(wrong)
    ModelServerService(models, 64).handle([sound, bad])
    assert sound.answers == [grpc.StatusCode.OK]
    assert bad.answers == [grpc.StatusCode.INTERNAL]
    loaded = models.versions.acquire()
    # The version can be freed: nobody but this test uses it.
    assert loaded.users == 1
