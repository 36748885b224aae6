"""Which models are fit to serve; each refusal says what is wrong."""

import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from components.errors import ModelServerError
from components.infra_validator import executor, replay, server_process
from components.served_model import ServedModel
from serving.contract.features import CATEGORICAL, Feature
from serving.contract.manifest import AdaptiveManifest, AdaptiveParameter
from tests.helpers.cold_examples import make_users, write_examples
from tests.helpers.toy_model import ToyParameters, export_toy
from tests.helpers.toy_module import build_toy_module

SETTINGS = {
    "model_name": "adaptower",
    "deadline_seconds": 60.0,
    "max_model_bytes": 1 << 20,
    "num_users": 4,
    "recommend_items": 3,
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("toy")
    export_toy(base, seed=0)
    return base / "1"


@pytest.fixture(scope="session")
def examples(tmp_path_factory) -> standard_artifacts.Examples:
    return write_examples(
        make_users(num_users=5, num_events=12), tmp_path_factory.mktemp("ex")
    )


@pytest.fixture
def model(exported, tmp_path) -> standard_artifacts.Model:
    shutil.copytree(exported, tmp_path / "model" / "Format-Serving")
    artifact = standard_artifacts.Model()
    artifact.uri = str(tmp_path / "model")
    return artifact


def model_dir(model: standard_artifacts.Model) -> Path:
    return Path(model.uri) / "Format-Serving"


def validate(model, examples, folder: Path, **settings):
    """Runs the executor; returns the blessing and the written reasons."""
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(folder / "blessing")
    (folder / "blessing").mkdir()
    executor.Executor().Do(
        {"model": [model], "examples": [examples]},
        {"blessing": [blessing]},
        SETTINGS | settings,
    )
    blessed = model_utils.is_infra_validated(blessing)
    name = "INFRA_BLESSED" if blessed else "INFRA_NOT_BLESSED"
    return blessed, (folder / "blessing" / name).read_text()


def test_a_sound_model_is_blessed_by_the_server_that_is_there(
    model, examples, tmp_path, monkeypatch
):
    asked = []
    predict = replay.predict

    def remember(channel, model_name, request):
        asked.append((request.origin, request.signature))
        return predict(channel, model_name, request)

    monkeypatch.setattr(replay, "predict", remember)
    assert validate(model, examples, tmp_path) == (True, "")
    assert asked == [
        ("warm-up", "rank"),
        ("examples", "adapt"),
        ("examples", "meta_gradient"),
        ("examples", "rank"),
        ("examples", "embed"),
        ("examples", "recommend"),
    ]


def test_nan_weights_are_not_blessed(examples, tmp_path):
    sound = ToyParameters.from_seed(0)
    broken = dataclasses.replace(
        sound, item_vectors=np.full_like(sound.item_vectors, np.nan)
    )
    module, signatures = build_toy_module(broken)
    folder = tmp_path / "model" / "Format-Serving"
    tf.saved_model.save(module, str(folder), signatures=signatures)
    broken.manifest().save(folder)
    artifact = standard_artifacts.Model()
    artifact.uri = str(tmp_path / "model")
    blessed, reasons = validate(artifact, examples, tmp_path)
    assert not blessed
    assert "rank (examples): score is not finite" in reasons


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.data-00000-of-00001"]
)
def test_a_truncated_file_is_not_blessed(model, examples, tmp_path, name):
    path = model_dir(model) / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    blessed, reasons = validate(model, examples, tmp_path)
    assert not blessed
    assert "can't load" in reasons


def test_changed_signatures_are_not_blessed(model, examples, tmp_path):
    manifest = AdaptiveManifest.load(model_dir(model))
    dataclasses.replace(
        manifest,
        user_features=(
            *manifest.user_features[1:],
            Feature("country", CATEGORICAL),
        ),
        parameters=(
            *manifest.parameters,
            AdaptiveParameter("scale", (2,), manifest.num_adaptive),
        ),
        meta_init=(*manifest.meta_init, 0.0, 0.0),
        log_inner_lr=(),
    ).save(model_dir(model))
    blessed, reasons = validate(model, examples, tmp_path)
    assert not blessed
    assert "inputs of 'rank' lack ['country']" in reasons
    assert "inputs of 'adapt' have unknown ['segment']" in reasons
    assert (
        "'rank' takes adaptive_weights of shape (None, 5), the manifest says "
        "[None, 7]" in reasons
    )
    assert "takes log_inner_lr of shape (5, 5), the manifest says" in reasons


def test_vectors_that_give_other_scores_are_not_blessed(
    model, examples, tmp_path, monkeypatch
):
    call = ServedModel.call

    def shifted(self, signature, inputs):
        outputs = dict(call(self, signature, inputs))
        if signature == "embed":
            outputs["user_vector"] = outputs["user_vector"] + 0.01
        return outputs

    monkeypatch.setattr(ServedModel, "call", shifted)
    blessed, reasons = validate(model, examples, tmp_path)
    assert not blessed
    assert "dot products of what 'embed' gives differ by up to" in reasons


def test_vectors_of_another_length_than_the_manifest_tells_are_not_blessed(
    model, examples, tmp_path
):
    manifest = AdaptiveManifest.load(model_dir(model))
    dataclasses.replace(manifest, vector_size=99).save(model_dir(model))
    blessed, reasons = validate(model, examples, tmp_path)
    assert not blessed
    assert "'embed' have 6 values, the manifest says 99" in reasons


def test_a_model_without_vectors_needs_no_signature_for_them(
    examples, tmp_path
):
    parameters = ToyParameters.from_seed(0)
    module, signatures = build_toy_module(parameters)
    del signatures["embed"]
    folder = tmp_path / "model" / "Format-Serving"
    tf.saved_model.save(module, str(folder), signatures=signatures)
    dataclasses.replace(parameters.manifest(), vector_size=0).save(folder)
    artifact = standard_artifacts.Model()
    artifact.uri = str(tmp_path / "model")
    assert validate(artifact, examples, tmp_path) == (True, "")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_name": "other"}, "is to be served as 'other'"),
        ({"max_model_bytes": 100}, "the limit is 0.0 MiB"),
    ],
)
def test_a_wrong_name_or_size_is_not_blessed(
    model, examples, tmp_path, settings, reason
):
    blessed, reasons = validate(model, examples, tmp_path, **settings)
    assert not blessed
    assert reason in reasons


def test_a_model_without_a_manifest_is_not_blessed(model, examples, tmp_path):
    (model_dir(model) / "assets.extra" / "adaptive_manifest.json").unlink()
    blessed, reasons = validate(model, examples, tmp_path)
    assert not blessed
    assert "adaptive_manifest.json can't be read" in reasons


def test_answers_that_differ_are_refused():
    request = replay.Request("examples", "rank", {})
    expected = {"score": np.array([[1.0, 2.0]], np.float32)}

    def reasons(score):
        return replay.answer_reasons(request, {"score": score}, expected)

    assert reasons(expected["score"] + 1e-6) == []
    assert "differs by up to 0.001" in reasons(expected["score"] + 1e-3)[0]
    assert "has shape [1, 1]" in reasons(expected["score"][:, :1])[0]
    assert "not finite in 50%" in reasons(np.array([[1.0, np.inf]]))[0]
    assert (
        "the server gives ['other']"
        in (replay.answer_reasons(request, {"other": 1}, expected)[0])
    )


def test_recommending_an_excluded_or_repeated_item_is_refused():
    expected = {
        "item_id": np.array([[b"1", b"2"]], object),
        "score": np.array([[2.0, 1.0]], np.float32),
    }
    request = replay.Request(
        "examples", "recommend", {"exclude_item_id": np.array([[b"3", b""]])}
    )

    def reasons(*items):
        answer = expected | {"item_id": np.array([items], object)}
        return " ".join(replay.answer_reasons(request, answer, expected))

    assert reasons(b"1", b"2") == ""
    assert "excluded item" in reasons(b"1", b"3")
    assert "an item twice" in reasons(b"1", b"1")
    assert "other items" in reasons(b"2", b"1")


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split()[2] not in "ZX"


def sleeping_server(monkeypatch, pid_file: Path, command: str) -> None:
    monkeypatch.setattr(
        server_process,
        "server_command",
        lambda *_: ["sh", "-c", f"echo $$ > {pid_file}; {command}"],
    )


def test_a_server_that_exits_is_reported_with_its_last_lines(
    tmp_path, monkeypatch
):
    sleeping_server(monkeypatch, tmp_path / "pid", "echo out of luck; exit 3")
    with (
        pytest.raises(ModelServerError, match=r"status 3(.|\n)*out of luck"),
        server_process.running_server("m", tmp_path, tmp_path / "log", 10.0),
    ):
        pass


def test_a_server_that_hangs_is_killed_at_the_deadline(tmp_path, monkeypatch):
    sleeping_server(monkeypatch, tmp_path / "pid", "trap '' TERM; sleep 100")
    for seconds in (0.5, 5.0, 50.0):
        with (
            pytest.raises(
                ModelServerError, match=f"not available after {seconds:g} s"
            ),
            server_process.running_server(
                "m", tmp_path, tmp_path / "log", seconds
            ),
        ):
            pass
        if (tmp_path / "pid").exists():
            break
        # So busy a machine that the server had not even begun.
    assert not alive(int((tmp_path / "pid").read_text()))


def test_the_server_dies_with_a_killed_validator(tmp_path):
    script = f"""
import pathlib
from components.infra_validator import server_process
server_process.server_command = lambda *_: [
    "sh", "-c", "echo $$ > {tmp_path}/pid; exec sleep 100"
]
path = pathlib.Path({str(tmp_path)!r})
with server_process.running_server("m", path, path / "log", 100.0):
    pass
"""
    validator = subprocess.Popen([sys.executable, "-c", script])
    pid_file = tmp_path / "pid"
    give_up = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    server = int(pid_file.read_text())
    assert alive(server)
    validator.kill()
    validator.wait()
    give_up = time.monotonic() + 5
    while alive(server) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not alive(server)


def test_a_model_that_the_server_cant_load_is_reported(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "base" / "1")
    (tmp_path / "base" / "1" / "saved_model.pb").write_bytes(b"not a graph")
    with (
        pytest.raises(ModelServerError, match="can't load the model"),
        server_process.running_server(
            "m", tmp_path / "base", tmp_path / "log", 60.0
        ),
    ):
        pass


def test_a_server_that_answers_with_an_error_is_reported():
    class Refusing:
        def unary_unary(self, *_, **__):
            def call(*_, **__):
                error = grpc.RpcError()
                error.code = lambda: grpc.StatusCode.INTERNAL
                error.details = lambda: "boom"
                raise error

            return call

    request = replay.Request("warm-up", "rank", {})
    (reason,) = executor._ask(Refusing(), "m", [(request, {})])
    assert reason == "rank (warm-up) failed: INTERNAL: boom"
