"""The graph of the pipeline: nodes, edges, and what changes their cache."""

import json
import pathlib

import pytest
from tfx.orchestration.portable import tfx_runner

from components.dataset_spec import DatasetSpec
from pipeline import fingerprint
from pipeline.create_pipeline import create_pipeline
from pipeline.pipeline_config import LOCAL_BEAM_RUNNER, PipelineConfig

SPEC = DatasetSpec.from_dict(
    {
        "name": "shop",
        "interactions": {
            "files": "log.csv",
            "user": "user",
            "item": "item",
            "timestamp": {"column": "time"},
            "label": {"column": "stars", "at_least": 4},
        },
        "users": {
            "files": "users.csv",
            "key": "user",
            "features": {"age": "numeric"},
        },
        "items": {
            "files": "items.csv",
            "key": "item",
            "features": {"colour": "categorical"},
        },
    },
    "test",
)

DATA_NODES = [
    "InteractionExampleGen",
    "StatisticsGen",
    "ImportSchemaGen",
    "ExampleValidator",
    "AnomalyGate",
    "Transform",
    "EpisodeGen",
]
JUDGING_NODES = [
    "earlier_blessed_model",
    "ColdStartEvaluator",
    "InfraValidator",
    "InfraValidator.joint",
    "VersionedPusher",
    "VersionedPusher.joint",
]


def make(tmp_path, **changes):
    return create_pipeline(
        PipelineConfig(
            dataset=SPEC,
            data_folder=pathlib.Path("data"),
            run_dir=tmp_path,
            **changes,
        )
    )


def nodes_of(pipeline):
    return {node.id: node for node in pipeline.components}


def compiled(pipeline):
    """Nodes as TFX compiles them, by id."""

    class Keep(tfx_runner.IrBasedRunner):
        def run_with_ir(self, pipeline, run_options=None, **kwargs):
            return pipeline

    return {
        node.pipeline_node.node_info.id: node.pipeline_node
        for node in Keep().run(pipeline).nodes
    }


def everything_before(nodes, node_id):
    """Ids of all nodes that must have run before a node does."""
    before = set(nodes[node_id].upstream_nodes)
    for node in list(nodes[node_id].upstream_nodes):
        before |= everything_before(nodes, node)
    return before


def parameter(node, name):
    return node.parameters.parameters[name].field_value.string_value


def test_all_stages_of_the_design_are_there(tmp_path):
    assert set(nodes_of(make(tmp_path))) == {
        *DATA_NODES,
        "Trainer",
        "Trainer.joint",
        *JUDGING_NODES,
    }


def test_users_are_learned_between_the_blessings_and_the_push(tmp_path):
    nodes = compiled(make(tmp_path, store="redis://store"))
    assert {"ColdStartEvaluator", "InfraValidator"} <= everything_before(
        nodes, "Rebase"
    )
    assert "Rebase" in nodes["VersionedPusher"].upstream_nodes
    assert parameter(nodes["Rebase"], "store") == "redis://store"
    assert parameter(nodes["Rebase"], "model_name") == "adaptower"
    # The push is the same one with and without: its cache holds.
    without = compiled(make(tmp_path))["VersionedPusher"]
    assert nodes["VersionedPusher"].inputs == without.inputs


def test_tuner_feeds_the_candidate_and_leaves_the_baseline_alone(tmp_path):
    config = {"overrides": {"outer_lr": 0.5}}
    tuned = compiled(make(tmp_path, tune=True, **config))
    assert "Tuner" in tuned["Trainer"].upstream_nodes
    assert "hyperparameters" in tuned["Trainer"].inputs.inputs
    # The same node with and without, so its cache holds: it is told what the
    # dataset comes with and what a person gave, and nothing else.
    assert "Tuner" not in everything_before(tuned, "Trainer.joint")
    joint = compiled(make(tmp_path, **config))["Trainer.joint"]
    assert tuned["Trainer.joint"].inputs == joint.inputs
    assert tuned["Trainer.joint"].parameters == joint.parameters
    told = json.loads(parameter(joint, "custom_config"))
    assert told["overrides"] == {"outer_lr": 0.5}
    assert told["training"] == SPEC.hyper_parameters


@pytest.mark.parametrize("node", ["Transform", "EpisodeGen", "Trainer"])
def test_nothing_is_learned_before_the_gate(tmp_path, node):
    nodes = compiled(make(tmp_path))
    assert "AnomalyGate" in everything_before(nodes, node)


@pytest.mark.parametrize(
    ("pusher", "gates"),
    [
        ("VersionedPusher", {"ColdStartEvaluator", "InfraValidator"}),
        (
            "VersionedPusher.joint",
            {"ColdStartEvaluator", "InfraValidator.joint"},
        ),
    ],
)
def test_nothing_is_pushed_before_it_is_judged(tmp_path, pusher, gates):
    nodes = compiled(make(tmp_path))
    assert gates <= set(nodes[pusher].upstream_nodes)


def test_evaluator_compares_both_models_and_an_earlier_one(tmp_path):
    nodes = compiled(make(tmp_path))
    assert set(nodes["ColdStartEvaluator"].upstream_nodes) == {
        "InteractionExampleGen",
        "Trainer",
        "Trainer.joint",
        "earlier_blessed_model",
    }


def test_trainers_differ_in_regime_only(tmp_path):
    nodes = compiled(make(tmp_path, overrides={"steps": 3}))
    configs = {
        node: json.loads(parameter(nodes[node], "custom_config"))
        for node in ("Trainer", "Trainer.joint")
    }
    assert configs["Trainer"].pop("regime") == "offline"
    assert configs["Trainer.joint"].pop("regime") == "joint"
    assert configs["Trainer"] == configs["Trainer.joint"]
    assert configs["Trainer"]["overrides"] == {"steps": 3}
    assert configs["Trainer"]["user_features"] == [
        {"name": "age", "kind": "numeric"}
    ]


def test_baseline_of_a_refused_candidate_is_not_pushed(tmp_path):
    """Beside an earlier candidate it would be no baseline of it."""
    nodes = compiled(make(tmp_path))
    blessings = {
        node: nodes[node]
        .inputs.inputs["model_blessing"]
        .channels[0]
        .producer_node_query.id
        for node in ("VersionedPusher", "VersionedPusher.joint")
    }
    assert set(blessings.values()) == {"ColdStartEvaluator"}


def test_models_are_pushed_to_folders_of_their_own(tmp_path):
    nodes = compiled(make(tmp_path))
    assert parameter(nodes["VersionedPusher"], "push_dir") == str(
        tmp_path / "serving" / "adaptower"
    )
    assert parameter(nodes["VersionedPusher.joint"], "push_dir") == str(
        tmp_path / "serving" / "joint"
    )


def test_same_config_compiles_to_the_same_nodes(tmp_path):
    """What differs would not be found in the cache."""
    first, second = compiled(make(tmp_path)), compiled(make(tmp_path))
    for node_id, node in first.items():
        assert node.parameters == second[node_id].parameters


def test_edited_code_changes_the_nodes_that_run_it(tmp_path, monkeypatch):
    before = compiled(make(tmp_path))
    real = fingerprint.code_fingerprint

    def edited(*names):
        is_edited = "components.episode_gen.component" in names
        return "edited" if is_edited else real(*names)

    monkeypatch.setattr(fingerprint, "code_fingerprint", edited)
    after = compiled(make(tmp_path))
    changed = {
        node_id
        for node_id in before
        if before[node_id].parameters != after[node_id].parameters
    }
    assert changed == {"EpisodeGen"}


def test_beam_runner_is_pinned_unless_given(tmp_path):
    workers = "--direct_num_workers=2"
    pinned = make(tmp_path, beam_args=(workers,))
    assert pinned.beam_pipeline_args == [LOCAL_BEAM_RUNNER, workers]
    given = make(tmp_path, beam_args=("--runner=FlinkRunner",))
    assert given.beam_pipeline_args == ["--runner=FlinkRunner"]
