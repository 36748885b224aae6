"""What VersionedPusher pushes, and what it refuses."""

import json
from pathlib import Path

import pytest
from tfx import types
from tfx.types import standard_artifacts

from components.errors import PushError
from components.versioned_pusher import executor
from components.versioned_pusher.component import VersionedPusher
from components.versioned_pusher.versions import listed_versions
from serving.contract.errors import ManifestError
from serving.contract.manifest import AdaptiveManifest
from tests.helpers.toy_model import ToyParameters

FIGURES = {
    "users": {"judged": 3},
    "figures": {"online": {"auc": {"value": 0.7, "low": 0.6, "high": 0.8}}},
    "lifts": {},
    "thresholds": {},
    "windows": [],
}


@pytest.fixture
def artifacts(tmp_path: Path):
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    serving_dir = tmp_path / "model" / "Format-Serving"
    serving_dir.mkdir(parents=True)
    (serving_dir / "saved_model.pb").write_bytes(b"graph")
    ToyParameters.from_seed(0).manifest().save(serving_dir)
    evaluation = standard_artifacts.ModelEvaluation()
    evaluation.uri = str(tmp_path / "evaluation")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "evaluation.json").write_text(
        json.dumps(FIGURES)
    )
    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp_path / "pushed")
    return {"model": model, "evaluation": evaluation, "pushed_model": pushed}


def push(artifacts, push_dir: Path, keep_versions: int = 2, **blessings):
    inputs = {key: [artifacts[key]] for key in ("model", "evaluation")} | {
        key: [artifact] for key, artifact in blessings.items()
    }
    executor.Executor().Do(
        inputs,
        {"pushed_model": [artifacts["pushed_model"]]},
        {"push_dir": str(push_dir), "keep_versions": keep_versions},
    )
    return artifacts["pushed_model"]


def blessing(kind, blessed: int, uri: Path):
    artifact = kind()
    artifact.uri = str(uri)
    artifact.set_int_custom_property("blessed", blessed)
    return artifact


def test_a_blessed_model_is_pushed_with_its_figures(artifacts, tmp_path):
    push_dir = tmp_path / "serving" / "adaptower"
    pushed = push(
        artifacts,
        push_dir,
        model_blessing=blessing(
            standard_artifacts.ModelBlessing, 1, tmp_path / "b"
        ),
        infra_blessing=blessing(
            standard_artifacts.InfraBlessing, 1, tmp_path / "i"
        ),
    )
    (version,) = listed_versions(push_dir)
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == str(version)
    destination = push_dir / str(version)
    assert pushed.get_string_custom_property("pushed_destination") == str(
        destination
    )
    manifest = AdaptiveManifest.load(destination)
    assert manifest.evaluation == {
        key: FIGURES[key] for key in ("users", "figures", "lifts", "thresholds")
    }
    assert manifest.meta_init == ToyParameters.from_seed(0).manifest().meta_init


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("model_blessing", standard_artifacts.ModelBlessing),
        ("infra_blessing", standard_artifacts.InfraBlessing),
    ],
)
def test_a_refused_model_is_not_pushed_and_the_note_says_why(
    artifacts, tmp_path, key, kind
):
    push_dir = tmp_path / "serving"
    refused = blessing(kind, 0, tmp_path / "reasons")
    pushed = push(artifacts, push_dir, **{key: refused})
    assert listed_versions(push_dir) == []
    assert pushed.get_int_custom_property("pushed") == 0
    note = (Path(pushed.uri) / executor.NOT_PUSHED_FILE).read_text()
    assert key in note
    assert str(tmp_path / "reasons") in note


def test_a_model_without_a_manifest_never_reaches_the_base_path(
    artifacts, tmp_path
):
    manifests = Path(artifacts["model"].uri).rglob("adaptive_manifest.json")
    for manifest in manifests:
        manifest.unlink()
    with pytest.raises(ManifestError):
        push(artifacts, tmp_path / "serving")
    assert listed_versions(tmp_path / "serving") == []


def test_keep_versions_is_honoured(artifacts, tmp_path):
    for _ in range(3):
        push(artifacts, tmp_path / "serving", keep_versions=1)
    assert len(listed_versions(tmp_path / "serving")) == 1


def test_the_component_can_be_wired_without_blessings():
    node = VersionedPusher(
        model=types.Channel(type=standard_artifacts.Model), push_dir="/serving"
    )
    assert set(node.outputs) == {"pushed_model"}
    assert node.exec_properties["keep_versions"] == 2


def test_keeping_no_version_is_refused_before_anything_runs():
    with pytest.raises(PushError, match="use 1 or more"):
        VersionedPusher(
            model=types.Channel(type=standard_artifacts.Model),
            push_dir="/serving",
            keep_versions=0,
        )
