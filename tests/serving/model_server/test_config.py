from pathlib import Path

import pytest

from serving.model_server.config import parse_args
from serving.model_server.model_config import ModelConfig


def test_something_to_serve_must_be_given(capsys):
    with pytest.raises(SystemExit):
        parse_args([])
    assert "--model" in capsys.readouterr().err


def test_flags_become_config():
    config = parse_args(
        ["--model", "m=/models/m", "--max-batch-wait-micros", "250"]
    )
    assert config.models == {"m": ModelConfig(Path("/models/m"))}
    assert config.max_batch_wait_seconds == pytest.approx(250e-6)
