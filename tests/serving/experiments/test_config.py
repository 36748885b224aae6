import asyncio
import json
from pathlib import Path

import pytest
import yaml

from serving.errors import LaunchError
from serving.experiments.config import (
    Arm,
    Experiment,
    ExperimentsConfig,
    load_experiments,
)
from serving.online.learning_config import LearningConfig
from serving.online.parts import open_parts

FILE = """
log: exposures
experiments:
  - name: freeze
    share: 0.2
    arms:
      - {name: control, weight: 3}
      - {name: frozen, adaptation: {freeze_after: 10}}
      - {name: nothing, adaptation: off}
  - name: next
    salt: other
    arms:
      - {name: old, model: adaptower, version: 3, adaptation: on}
      - {name: new, model: candidate}
    shadows:
      - {name: joint, model: joint}
      - {name: meta, model: candidate, adaptation: "off"}
"""

PARSED = (
    Experiment(
        "freeze",
        (
            Arm("control", 3.0),
            Arm("frozen", max_support=10),
            Arm("nothing", max_support=0),
        ),
        share=0.2,
        salt="freeze",
    ),
    Experiment(
        "next",
        (
            Arm("old", model="adaptower", version=3),
            Arm("new", model="candidate"),
        ),
        (
            Arm("joint", model="joint"),
            Arm("meta", model="candidate", max_support=0),
        ),
        salt="other",
    ),
)


def load(tmp_path, text):
    path = tmp_path / "experiments.yaml"
    path.write_text(text)
    return load_experiments(path)


def test_file_becomes_one_frozen_value(tmp_path):
    assert load(tmp_path, FILE) == ExperimentsConfig(
        PARSED, tmp_path / "exposures", tmp_path / "exposures/pseudonym.key"
    )


def test_json_says_the_same(tmp_path):
    text = json.dumps(yaml.safe_load(FILE))
    assert load(tmp_path, text).experiments == PARSED


def test_log_and_key_may_be_elsewhere(tmp_path):
    text = (
        "log: /var/log/x\nkey: k\nexperiments: [{name: a, arms: [{name: b}]}]"
    )
    config = load(tmp_path, text)
    assert (config.log, config.key) == (Path("/var/log/x"), tmp_path / "k")


ARM = "{name: a}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("{", "is not YAML"),
        ("experiments: []", "at least one is needed"),
        ("experiment: []", "there is no key experiment; there are"),
        ("experiments: {}", "experiments: {} is not of type list"),
        ("experiments: [a]", r"experiments\[0\]: must be a mapping"),
        ("experiments: [{arms: []}]", r"experiments\[0\].name: None"),
        ("experiments: [{name: x/y}]", "'x/y' is not 1 to 64 letters"),
        ("experiments: [{name: x}]", r"\[0\].arms: at least one"),
        (f"experiments: [{{name: x, arms: [{ARM}, {ARM}]}}]", "'a' is there"),
        (
            f"experiments: [{{name: x, arms: [{ARM}], "
            "shadows: [{name: a, model: m}]}]",
            "arms and shadows: the name 'a' is there twice",
        ),
        (
            f"experiments: [{{name: x, arms: [{ARM}]}}, "
            f"{{name: x, arms: [{ARM}]}}]",
            "'x' is there twice",
        ),
        (
            f"experiments: [{{name: x, share: 2, arms: [{ARM}]}}]",
            "2.0 is not from 0 to 1",
        ),
        (
            f"experiments: [{{name: x, share: much, arms: [{ARM}]}}]",
            "'much' is not of type float",
        ),
        (
            "experiments: [{name: x, arms: [{name: a, weight: 0}]}]",
            r"arms\[0\].weight: must be more than 0",
        ),
        (
            "experiments: [{name: x, arms: [{name: a, version: new}]}]",
            "version: 'new' is not of type int",
        ),
        (
            "experiments: [{name: x, arms: [{name: a, adaptation: maybe}]}]",
            "'maybe' is none of on, off",
        ),
        (
            "experiments: [{name: x, arms: [{name: a, "
            "adaptation: {freeze_after: 0}}]}]",
            "is none of on, off",
        ),
        (
            f"experiments: [{{name: x, arms: [{ARM}], "
            "shadows: [{name: b}]}]",
            "Give it a model of its own",
        ),
    ],
)
def test_bad_file_is_refused_with_the_place(tmp_path, text, words):
    with pytest.raises(LaunchError, match=words):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("arms", "shadows", "words"),
    [
        ("{name: a, model: typo}", "", "'a' asks the model 'typo'; there are"),
        (ARM, "{name: b, model: typo}", "'b' asks the model 'typo'"),
        (ARM, "{name: b, model: m}", "would learn into the weights"),
        ("{name: a, model: m}", "{name: b}", "would learn into the weights"),
    ],
    ids=["arm", "shadow", "shadow of the default", "default's shadow"],
)
def test_gateway_refuses_what_its_models_can_not_make(
    tmp_path, arms, shadows, words
):
    path = tmp_path / "experiments.yaml"
    path.write_text(
        f"experiments: [{{name: x, arms: [{arms}], shadows: [{shadows}]}}]"
    )
    config = LearningConfig(
        backend="none",
        models={"m": tmp_path, "n": tmp_path},
        default_model="m",
        experiments=path,
    )

    async def start():
        async with open_parts(config):
            pass

    with pytest.raises(LaunchError, match=words):
        asyncio.run(start())


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(LaunchError, match=r"nothing\.yaml"):
        load_experiments(tmp_path / "nothing.yaml")
