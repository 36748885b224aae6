import os
import time

import pytest

from serving.errors import UnknownModelError
from serving.model_server.config import parse_args
from serving.model_server.models import Models
from tests.serving.conftest import push


def test_loading_leaves_the_cpu_to_those_who_are_answered(
    toys, tmp_path, monkeypatch
):
    rests = []
    monkeypatch.setattr(time, "sleep", rests.append)
    models = Models(parse_args([f"--model=toy={tmp_path}"]))
    push(toys[0], tmp_path, 1)
    models.poll()
    assert models.find("toy").available == (1,)
    assert not rests  # Nobody is answered yet.
    push(toys[1], tmp_path, 2)
    models.poll()
    assert models.find("toy").available == (1, 2)
    assert rests
    assert all(rest > 0 for rest in rests)


def test_config_file_exchanged_for_one_of_the_same_time_is_followed(tmp_path):
    """Tools that unpack or mount files give all of them one time."""
    file, other = tmp_path / "models.config", tmp_path / "other.config"
    for path, name in ((file, "one"), (other, "two")):
        path.write_text(
            "model_config_list { config "
            f'{{ name: "{name}" base_path: "{tmp_path}" }} }}'
        )
        os.utime(path, ns=(0, 0))
    models = Models(parse_args([f"--model-config-file={file}"]))
    other.replace(file)
    models.poll()
    assert models.find("two")
    with pytest.raises(UnknownModelError):
        models.find("one")


def test_config_file_that_is_empty_for_a_moment_drops_no_model(
    tmp_path, caplog
):
    file = tmp_path / "models.config"
    text = f'config {{ name: "one" base_path: "{tmp_path}" }}'
    file.write_text(f"model_config_list {{ {text} }}")
    models = Models(parse_args([f"--model-config-file={file}"]))
    file.write_text("")
    models.poll()
    assert models.find("one")
    assert "Models stay as they are" in caplog.text
    file.write_text(f"model_config_list {{ {text.replace('one', 'two')} }}")
    models.poll()
    assert models.find("two")
