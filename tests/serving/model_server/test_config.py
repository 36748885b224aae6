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


@pytest.mark.parametrize(
    "flag",
    [
        "--threads=0",
        "--max-batch-rows=0",
        "--max-message-bytes=-1",
        "--poll-seconds=0",
        "--poll-seconds=nan",
    ],
)
def test_flags_with_which_nothing_would_be_answered_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--model=m=/models/m", flag])
    assert "must be more than 0" in capsys.readouterr().err
