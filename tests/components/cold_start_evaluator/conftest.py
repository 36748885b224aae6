"""One evaluation of the toy model, shared by the tests that look at it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from components.cold_start_evaluator import executor
from tests.helpers.cold_examples import Row, make_users, write_examples
from tests.helpers.toy_model import ToyOracle, ToyParameters, export_toy

BEAM_ARGS = [
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
]
SETTINGS = {
    "min_lift_over_joint": 0.0,
    "max_loss_to_last_blessed": 0.005,
    "bootstrap_draws": 200,
    "max_users": 1000,
    "max_slice_rows": 10_000,
    "meta_update": True,
}


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Outputs of one run of the executor."""

    folder: Path
    evaluation: dict[str, Any]
    blessing: standard_artifacts.ModelBlessing

    @property
    def blessed(self) -> bool:
        return self.blessing.get_int_custom_property("blessed") == 1


def export_model(folder: Path, seed: int) -> standard_artifacts.Model:
    """Exports a toy as the Model artifact that the trainer would give."""
    export_toy(folder / "exported", seed=seed, warmup=False)
    (folder / "model").mkdir()
    (folder / "exported" / "1").rename(folder / "model" / "Format-Serving")
    model = standard_artifacts.Model()
    model.uri = str(folder / "model")
    return model


def evaluate(folder: Path, settings=None, **inputs) -> Evaluated:
    """Runs the executor as TFX would."""
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(folder / "evaluation")
    blessing = standard_artifacts.ModelBlessing()
    blessing.uri = str(folder / "blessing")
    (folder / "evaluation").mkdir(parents=True)
    (folder / "blessing").mkdir()
    context = executor.Executor.Context(
        beam_pipeline_args=BEAM_ARGS, tmp_dir=str(folder / "tmp"), unique_id="1"
    )
    executor.Executor(context).Do(
        {name: [artifact] for name, artifact in inputs.items()},
        {"evaluation": [evaluation], "blessing": [blessing]},
        SETTINGS | (settings or {}),
    )
    written = (folder / "evaluation" / "evaluation.json").read_text()
    return Evaluated(folder / "evaluation", json.loads(written), blessing)


@pytest.fixture(scope="session")
def users() -> list[list[Row]]:
    return make_users()


@pytest.fixture(scope="session")
def examples(users, tmp_path_factory) -> standard_artifacts.Examples:
    return write_examples(users, tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="session")
def candidate(tmp_path_factory) -> standard_artifacts.Model:
    model = export_model(tmp_path_factory.mktemp("candidate"), seed=0)
    model.id = 11
    return model


@pytest.fixture(scope="session")
def joint(tmp_path_factory) -> standard_artifacts.Model:
    return export_model(tmp_path_factory.mktemp("joint"), seed=1)


@pytest.fixture(scope="session")
def oracles() -> dict[str, ToyOracle]:
    return {
        "candidate": ToyOracle(ToyParameters.from_seed(0)),
        "joint": ToyOracle(ToyParameters.from_seed(1)),
    }


@pytest.fixture(scope="session")
def evaluated(examples, candidate, joint, tmp_path_factory) -> Evaluated:
    return evaluate(
        tmp_path_factory.mktemp("evaluated"),
        examples=examples,
        model=candidate,
        joint_model=joint,
    )
