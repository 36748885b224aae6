"""`adaptower tune` and the pipeline's Tuner node search the same."""

import json
import pathlib

import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from pipeline import cli, tuning
from pipeline.create_pipeline import create_data_pipeline, create_pipeline
from pipeline.pipeline_config import PipelineConfig
from pipeline.run_config import RunConfig
from pipeline.stages import DONE, PipelineRun, Stage
from tests.pipeline.test_create_pipeline import (
    DATA_NODES,
    SPEC,
    compiled,
    parameter,
)
from trainer.tuner_fn import search_request
from trainer.tuning.options import TuningOptions


def make_config(folder: pathlib.Path) -> PipelineConfig:
    run = RunConfig("shop", seed=3, hyper_parameters={"dropout": "0.3"})
    return PipelineConfig(
        dataset=SPEC,
        data_folder=pathlib.Path("data"),
        run_dir=folder,
        tune=True,
        overrides=run.overrides,
    )


def finished_run() -> PipelineRun:
    outputs = {
        "EpisodeGen": {"episodes": ("/root/EpisodeGen/episodes/7",)},
        "Transform": {"transform_graph": ("/root/Transform/graph/5",)},
    }
    stages = [Stage(n, 1, 2, DONE, outputs=o) for n, o in outputs.items()]
    return PipelineRun(tuple(stages))


def test_the_tuner_node_goes_on_with_what_the_command_has_tried(
    tmp_path: pathlib.Path,
) -> None:
    config = make_config(tmp_path)
    ours = tuning.search_request(
        config, finished_run(), TuningOptions(seed=3, max_trials=99)
    )
    node = compiled(create_pipeline(config))["Tuner"]
    theirs = search_request(
        FnArgs(
            train_files=["/root/EpisodeGen/episodes/7/Split-meta_train/*"],
            eval_files=["/root/EpisodeGen/episodes/7/Split-meta_valid/*"],
            transform_graph_path="/root/Transform/graph/5",
            working_dir="elsewhere",
            custom_config=json.loads(parameter(node, "custom_config")),
        )
    )
    assert theirs.folder == ours.folder
    assert ours.folder.is_relative_to(tmp_path / "tuning")
    assert theirs.options.budget_bytes == 256


def test_the_commands_defaults_are_what_the_tuner_node_searches_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[TuningOptions] = []
    monkeypatch.setattr(
        tuning,
        "tune",
        lambda config, options, **_: asked.append(options) or 0,
    )
    assert cli.main(["tune", "shop"]) == 0
    assert asked == [TuningOptions()]
    # As the texts of `run --help` and docs/tuning.md say.
    assert (asked[0].max_trials, asked[0].budget_bytes) == (30, 256)


def test_data_nodes_are_those_of_the_whole_pipeline(
    tmp_path: pathlib.Path,
) -> None:
    """So that each finds in the cache what the other has made."""
    config = make_config(tmp_path)
    part, whole = create_data_pipeline(config), create_pipeline(config)
    assert part.pipeline_info.pipeline_name == whole.pipeline_info.pipeline_name
    assert part.pipeline_info.pipeline_root == whole.pipeline_info.pipeline_root
    nodes, all_nodes = compiled(part), compiled(whole)
    assert set(nodes) == set(DATA_NODES)
    for node_id, node in nodes.items():
        assert node.parameters == all_nodes[node_id].parameters
        assert node.inputs == all_nodes[node_id].inputs


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (RunConfig("shop"), "adaptower tune shop --trials 5 --budget-bytes 64"),
        (
            RunConfig("./s.yaml", train_steps=9, hyper_parameters={"a": "1"}),
            "--oracle random --seed 0 --train-steps 9 --set a=1",
        ),
    ],
)
def test_table_names_the_command_that_makes_it(
    config: RunConfig, command: str
) -> None:
    options = TuningOptions(max_trials=5, budget_bytes=64, oracle="random")
    assert command in tuning.command_of(config, options)
