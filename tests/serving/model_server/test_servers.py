import shutil

import pytest

from serving.launch import start_model_server
from serving.tf_serving_command import TF_SERVING_BINARY
from tests.contract.model_server_suite import ModelServerSuite


class TestEmbeddedModelServer(ModelServerSuite):
    def start(self, models, log_path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "which", lambda name: None)
            return start_model_server(
                models, log_path=log_path, poll_seconds=0.1
            )

    def test_warm_up_is_replayed_before_a_version_is_available(self, server):
        log = server.log_path.read_text()
        assert log.index("warm-up requests replayed") < log.index(
            "version 1 is available"
        )

    def test_sigterm_ends_it_cleanly(self, server):
        assert server.stop() == 0


@pytest.mark.skipif(
    shutil.which(TF_SERVING_BINARY) is None,
    reason=f"{TF_SERVING_BINARY} is not installed",
)
class TestTensorFlowModelServer(ModelServerSuite):
    def start(self, models, log_path):
        return start_model_server(models, log_path=log_path)
