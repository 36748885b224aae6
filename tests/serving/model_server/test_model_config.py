from pathlib import Path

import pytest

from serving.errors import LaunchError
from serving.model_server.model_config import (
    ALL,
    ModelConfig,
    VersionPolicy,
    read_model_config,
)
from serving.tf_serving_command import tf_serving_config

CONFIG = """
model_config_list {
  config {
    name: "one"
    base_path: "/models/one"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 3 versions: 5 } }
    version_labels { key: "stable" value: 3 }
    version_labels { key: "canary" value: 5 }
    logging_config { sampling_config { sampling_rate: 0.1 } }
  }
  config {
    name: "two"
    base_path: "/models/two"
    model_version_policy { all {} }
  }
  config { name: "three" base_path: "/models/three" }
}
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "models.config"
        path.write_text(text)
        return path

    return write


def test_tf_servings_config_file_is_understood(write):
    assert read_model_config(write(CONFIG)) == {
        "one": ModelConfig(
            Path("/models/one"),
            VersionPolicy(specific=frozenset({3, 5})),
            {"stable": 3, "canary": 5},
        ),
        "two": ModelConfig(Path("/models/two"), VersionPolicy(latest=ALL)),
        "three": ModelConfig(Path("/models/three"), VersionPolicy(latest=1)),
    }


def test_file_that_we_write_for_tf_serving_is_understood(write, tmp_path):
    text = tf_serving_config({"adaptower": tmp_path})
    assert read_model_config(write(text)) == {
        "adaptower": ModelConfig(tmp_path, VersionPolicy(latest=2))
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# To do\n",
        "model_config_list {",
        'model_config_list { config { name: "nowhere" } }',
        'model_config_list { config { base_path: "/nameless" } }',
        CONFIG.replace('"two"', '"one"'),
    ],
)
def test_unusable_config_file_is_refused(write, text):
    path = write(text)
    with pytest.raises(LaunchError, match=r"models\.config"):
        read_model_config(path)


def test_config_file_may_say_that_there_are_no_models(write):
    assert read_model_config(write("model_config_list {}")) == {}


def test_missing_config_file_is_refused(tmp_path):
    with pytest.raises(LaunchError, match="nowhere"):
        read_model_config(tmp_path / "nowhere")
