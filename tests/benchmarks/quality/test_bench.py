"""The benchmark from episodes to JSON, on a few users and steps."""

import collections
import json
import xml.etree.ElementTree as ET

import trainer  # noqa: F401 - chooses Keras 2  # isort: skip

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.quality import cells, sources, trainings
from benchmarks.quality.artifacts import Artifacts, find
from benchmarks.quality.bench import Bench
from benchmarks.quality.convergence import auc_by_step
from benchmarks.quality.inputs import load_inputs
from benchmarks.quality.options import Options
from benchmarks.quality.outcome import Outcome
from tests.helpers import raw_examples
from tests.helpers.tiny_episodes import write_tiny_episodes
from trainer.config import PARTITION_PRESETS, TrainerConfig

NAME = "tiny"
BASE = {"max_steps": 2, "steps_per_evaluation": 1, "meta_batch_size": 4}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_episodes(tmp_path_factory.mktemp("episodes"))


@pytest.fixture(scope="module")
def inputs(tiny):
    return load_inputs(
        Artifacts(tiny.episodes, tiny.graph),
        raw_examples.USER_FEATURES,
        raw_examples.ITEM_FEATURES,
    )


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    return Options(
        trainings=("items", "joint", "meta"),
        presets=False,
        seeds=(0,),
        trials=1,
        draws=20,
        work_dir=folder,
        output=folder / "results" / "quality.json",
    )


@pytest.fixture(scope="module")
def document(inputs, options):
    """What the whole benchmark leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "FINETUNE_TRIALS", 1)
        bench = Bench(NAME, inputs, BASE, options)
        bench.tune()
        bench.run()
        bench.report()
    return json.loads(options.output.read_text())["datasets"][NAME]


def judged_rows(data):
    return [r for r in data.events["meta_test"] if 10 <= r["position"] < 90]


def test_figures_of_item_means_equal_counting_by_hand(tiny, document, options):
    positives, rows = collections.Counter(), collections.Counter()
    for row in tiny.data.events["meta_train"]:
        positives[row["item_id"]] += row["label"]
        rows[row["item_id"]] += 1
    info = json.loads(
        (options.work_dir / NAME / "items" / "seed-0" / "info.json").read_text()
    )
    prior = info["info"]["prior_rows"]
    mean = sum(positives.values()) / sum(rows.values())
    judged = judged_rows(tiny.data)
    share = [
        (positives[r["item_id"]] + prior * mean) / (rows[r["item_id"]] + prior)
        for r in judged
    ]
    labels = [r["label"] for r in judged]
    figures = document["stream"]["regimes"]["item_mean"]
    assert document["stream"]["rows"] == len(judged)
    assert figures["auc"]["value"] == pytest.approx(
        roc_auc_score(labels, share)
    )
    assert figures["log_loss"]["value"] == pytest.approx(
        log_loss(labels, share), rel=1e-5
    )
    by_group = collections.defaultdict(list)
    for row, score in zip(judged, share, strict=True):
        key = row["user_id"], (row["position"] - 10) // 10
        by_group[key].append((row["label"], score))
    inside = [
        roc_auc_score(*zip(*group, strict=True))
        for group in by_group.values()
        if len({label for label, _ in group}) == 2
    ]
    assert figures["wgauc"]["value"] == pytest.approx(np.mean(inside))


def test_figures_of_ours_equal_sklearn_on_the_kept_scores(
    document, options, inputs
):
    labels = inputs.test.stream_rows.label
    folder = options.work_dir / NAME / "meta" / "seed-0"
    with np.load(folder / "scores.npz") as scores:
        for regime in ("offline", "online_per_user", "online"):
            expected = roc_auc_score(labels, scores[f"stream/{regime}"])
            found = document["stream"]["regimes"][regime]["auc"]["value"]
            assert found == pytest.approx(expected)


def test_a_lift_is_the_difference_of_two_figures(document):
    regimes = document["stream"]["regimes"]
    lift = document["stream"]["lifts"]["offline_minus_joint"]
    for figure in ("auc", "wgauc", "ndcg_at_10", "log_loss"):
        expected = (
            regimes["offline"][figure]["value"]
            - regimes["joint"][figure]["value"]
        )
        assert lift[figure]["value"] == pytest.approx(expected)


def test_joint_is_the_same_for_every_k_and_ours_is_not(document):
    by_k = document["few_shot"]["by_k"]
    assert list(by_k) == ["0", "1", "3", "5", "10", "20"]

    def values(regime):
        return {figures[regime]["auc"]["value"] for figures in by_k.values()}

    assert len(values("joint")) == 1
    assert len(values("offline")) > 1


def test_costs_forgetting_and_convergence_are_reported(document, inputs):
    assert document["costs"]["meta"]["bytes_per_user"] == 4 * 17
    assert document["costs"]["meta"]["adapt_seconds"] > 0
    assert set(document["auc_by_step"]["joint"][0]) == {"1", "2"}
    assert document["forgetting"][0]["users"] == 1
    [parameter, *_] = document["partition_map"][0]
    assert len(parameter["step_sizes"]) == parameter["adaptive"]


def test_plots_are_drawings(document, options):
    drawn = list((options.output.parent / "quality" / NAME).glob("*.svg"))
    names = {path.stem for path in drawn}
    assert {"auc_by_window", "auc_by_k", "auc_by_step"} <= names
    for path in drawn:
        assert ET.parse(path).getroot().tag.endswith("svg")


def test_what_was_made_is_not_made_again(
    document, inputs, options, monkeypatch
):
    def never(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(
        cells, "TRAININGS", dict.fromkeys(trainings.TRAININGS, never)
    )
    Bench(NAME, inputs, BASE, options).run()
    with pytest.raises(AssertionError, match="trained again"):
        Bench(NAME, inputs, BASE | {"meta.dropout": 0.3}, options).run()


def changed_sources(monkeypatch):
    monkeypatch.setattr(sources, "current_code", lambda: "edited")
    monkeypatch.setattr(cells, "current_code", lambda: "edited")


def test_result_of_other_sources_is_made_anew_and_told(
    document, inputs, options, monkeypatch, caplog
):
    code = sources.current_code()
    assert document["code"] == {
        name: [code] for name in ("items", "joint", "meta")
    }
    cell = cells.Cell.of(
        options.work_dir, NAME, "items", "items", BASE | {"seed": 0}
    )
    info = cell.folder / "info.json"
    saved = info.read_text()
    made = []

    def make(*arguments):
        made.append(arguments)
        return Outcome(0.5, {})

    monkeypatch.setattr(cells, "TRAININGS", {"items": make})
    assert cell.make(inputs).code == code
    assert not caplog.records
    # A result from before digests were noted is kept, and tells that.
    older = json.loads(saved)
    del older["code"]
    info.write_text(json.dumps(older))
    changed_sources(monkeypatch)
    assert cell.make(inputs).code is None
    assert not made
    info.write_text(saved)
    # Reading takes what there is, making does not.
    assert cell.load().code == code
    assert f"made by other sources: {code}, now edited" in caplog.text
    assert cell.make(inputs).code == "edited"
    assert len(made) == 1
    assert cell.load().code == "edited"


def test_curve_of_a_shorter_training_has_nothing_of_the_one_before(
    tmp_path, monkeypatch
):
    def make(inputs, values, score, log_dir):
        with tf.summary.create_file_writer(log_dir).as_default():
            for epoch in range(values["max_steps"]):
                tf.summary.scalar("epoch_meta_valid/auc_joint", 0.5, epoch)
        return Outcome(0.5, {})

    monkeypatch.setattr(cells, "TRAININGS", {"joint": make})
    for steps in (5, 3):
        values = BASE | {"max_steps": steps, "seed": 0}
        cell = cells.Cell.of(tmp_path, NAME, "joint", "joint", values)
        cell.make(None)
        curve = auc_by_step(cell.folder, "joint", values)
        assert sorted(curve) == list(range(1, steps + 1))


def test_presets_that_the_solver_can_not_have_are_left_out(
    inputs, tmp_path, monkeypatch, caplog
):
    made = []

    def make(inputs, values, *rest):
        TrainerConfig.from_dict(values)
        made.append(values["partition"])
        return Outcome(0.5, {})

    monkeypatch.setattr(cells, "TRAININGS", {"meta": make})
    options = Options((), True, (0,), 1, 20, tmp_path, tmp_path / "q.json")
    base = BASE | {"solver": "newton", "partition": "user_bias"}
    Bench(NAME, inputs, base, options).run()
    assert set(PARTITION_PRESETS) - set(made) == {"user_tower"}
    assert "preset-user_tower is left out" in caplog.text


def test_episodes_are_read_with_the_graph_that_made_them(tmp_path):
    root = tmp_path / "pipeline_root"
    for split in ("meta_train", "meta_valid", "meta_test", "catalog"):
        folder = root / "EpisodeGen" / "episodes" / "7" / f"Split-{split}"
        folder.mkdir(parents=True)
        (folder / "data.gz").touch()
    # The second one is of a run that was stopped before its episodes.
    for execution in ("6", "13"):
        (root / "Transform" / "transform_graph" / execution).mkdir(parents=True)
    found = find(tmp_path)
    assert found is not None
    assert (found.episodes.name, found.transform_graph.name) == ("7", "6")
