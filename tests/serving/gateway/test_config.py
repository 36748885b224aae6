from pathlib import Path

import pytest

from serving.gateway.config import GatewayConfig, parse_args
from serving.store.config import StoreConfig

REQUIRED = ["--backend", "localhost:8500", "--model"]


def test_flags_become_one_frozen_value():
    config = parse_args(
        [*REQUIRED, "joint=/b", "--model", "adaptower=/a", "--store", "/s"]
    )
    assert config == GatewayConfig(
        backend="localhost:8500",
        models={"joint": Path("/b"), "adaptower": Path("/a")},
        default_model="adaptower",
        store=StoreConfig("/s"),
    )


def test_only_model_is_the_default_whatever_its_name():
    assert parse_args([*REQUIRED, "mine=/b"]).default_model == "mine"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--kept-vectors=-1"], "is no count"),
        (["--kept-vectors=10000001"], "can't be more than 10,000,000"),
        (["--model", "nameless"], "NAME=BASE_PATH"),
        (["--port", "99999"], "1 to 65535"),
        (["--default-model", "other"], "none of the models"),
        (["--store-ttl-days", "0"], "--store-ttl-days must be a number"),
    ],
)
def test_wrong_flag_says_what_would_be_right(flags, words, capsys):
    with pytest.raises(SystemExit):
        parse_args([*REQUIRED, "adaptower=/a", *flags])
    assert words in capsys.readouterr().err
