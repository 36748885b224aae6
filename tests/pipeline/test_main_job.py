"""What a run says of a model that it has not pushed."""

import pytest

from pipeline.errors import NotBlessedError
from pipeline.main_job import _require_blessing
from pipeline.run_config import RunLayout
from pipeline.stages import DONE, PipelineRun, Stage

NODES = ("ColdStartEvaluator", "InfraValidator", "InfraValidator.joint")


def make_run(folder, **files):
    """A run whose blessings hold the files that are named by node."""
    stages = []
    for number, node in enumerate(NODES, start=1):
        blessing = folder / node
        blessing.mkdir()
        for name, text in files.get(node.replace(".", "_"), {}).items():
            (blessing / name).write_text(text)
        outputs = {"blessing": (str(blessing),), "evaluation": (str(folder),)}
        stages.append(Stage(node, number, 3, DONE, outputs=outputs))
    return PipelineRun(tuple(stages))


GOOD = {
    "ColdStartEvaluator": {"BLESSED": ""},
    "InfraValidator": {"INFRA_BLESSED": ""},
    "InfraValidator_joint": {"INFRA_BLESSED": ""},
}


def test_models_that_all_have_blessed_go_on_to_the_replay(tmp_path):
    _require_blessing(make_run(tmp_path, **GOOD), RunLayout(tmp_path))


@pytest.mark.parametrize("node", NODES[1:])
def test_a_model_that_no_server_could_serve_ends_the_run(tmp_path, node):
    """It was not pushed: an older one would be replayed in its place."""
    refusal = {"INFRA_NOT_BLESSED": "the server ran out of memory\n"}
    files = GOOD | {node.replace(".", "_"): refusal}
    with pytest.raises(NotBlessedError) as raised:
        _require_blessing(make_run(tmp_path, **files), RunLayout(tmp_path))
    assert str(raised.value).startswith(f"{node} found")
    assert "the server ran out of memory" in str(raised.value)


def test_a_model_that_the_evaluator_refused_ends_the_run(tmp_path):
    files = GOOD | {"ColdStartEvaluator": {"REASONS": "no lift\n"}}
    with pytest.raises(NotBlessedError, match="not pushed: no lift"):
        _require_blessing(make_run(tmp_path, **files), RunLayout(tmp_path))
