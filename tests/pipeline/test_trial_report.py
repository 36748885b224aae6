"""The table of trials, read back by other means than it was written."""

import dataclasses
import io
import json
import pathlib

import pytest
import yaml
from rich.console import Console

from components.dataset_spec import DatasetSpec
from pipeline.trial_report import TrialReport
from tests.pipeline.test_create_pipeline import SPEC
from trainer.tuning.options import TuningOptions
from trainer.tuning.request import SearchRequest
from trainer.tuning.trials import COMPLETED, INVALID, TrialResult

TRIALS = (
    TrialResult(
        trial_id="04",
        status=COMPLETED,
        values={"dropout": 0.123456, "partition": "user_offset"},
        seconds=61.4,
        bytes_per_user=68,
        score=0.71234,
        few_shot_auc=dict.fromkeys(("0", "1", "3", "5", "10", "20"), 0.7),
        few_shot_wgauc=dict.fromkeys(("0", "1", "3", "5", "10", "20"), 0.6),
        stream_auc={"joint": 0.65, "online": 0.75},
        stream_wgauc={"joint": 0.6, "online": 0.65},
        best_step=450,
        steps=700,
    ),
    TrialResult(
        trial_id="07",
        status=INVALID,
        values={"dropout": 0.5, "partition": "user_tower"},
        seconds=0.1,
        message="It needs 4708 bytes. What fits: user_bias (4).",
    ),
)


@pytest.fixture
def report() -> TrialReport:
    request = SearchRequest(
        directory="tuning",
        train_patterns=[],
        valid_patterns=[],
        transform_graph="graph",
        user_features=[],
        item_features=[],
        training={"query_rows": 30, "dropout": 0.2},
        overrides={"seed": 3},
        options=TuningOptions(max_trials=8),
    )
    return TrialReport(SPEC, request, TRIALS, "adaptower tune shop")


def fenced(page: str, language: str) -> str:
    return page.split(f"```{language}\n")[1].split("```")[0]


def test_page_has_every_trial_and_what_to_put_into_the_spec(
    report: TrialReport, tmp_path: pathlib.Path
) -> None:
    page, _ = report.write(tmp_path / "docs" / "tuning")
    assert page.name == "shop.md"
    text = page.read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    header, _, first, second = rows
    assert {len(row) for row in rows} == {len(header)}
    by_name = dict(zip(header, first, strict=True))
    assert by_name["score"] == "0.7123"
    assert by_name["AUC 10"] == "0.7000"
    assert by_name["wGAUC online"] == "0.6500"
    assert by_name["bytes"] == "68"
    assert by_name["step"] == "450/700"
    assert by_name["dropout"] == "0.123"
    refused = dict(zip(header, second, strict=True))
    assert (refused["score"], refused["bytes"]) == (INVALID, "")
    assert refused["why not"] == "It needs 4708 bytes"
    training = yaml.safe_load(fenced(text, "yaml"))["training"]
    assert training == {
        "query_rows": 30,
        "dropout": 0.123,
        "partition": "user_offset",
    }
    DatasetSpec.from_dict({**SPEC.to_dict(), "training": training}, "test")
    assert json.loads(fenced(text, "json")) == {"seed": 3}
    assert "adaptower tune shop\n" in text


def test_json_has_all_figures(
    report: TrialReport, tmp_path: pathlib.Path
) -> None:
    _, data = report.write(tmp_path)
    values = json.loads(data.read_text())
    assert values["best"] == "04"
    assert values["options"]["budget_bytes"] == 256
    assert [TrialResult(**trial) for trial in values["trials"]] == [*TRIALS]
    assert values["versions"]["keras-tuner"]


def test_screen_shows_the_trials_within_80_columns(report: TrialReport) -> None:
    screen = io.StringIO()
    report.print(Console(file=screen, width=80))
    text = screen.getvalue()
    assert "0.7123" in text
    assert INVALID in text
    assert "…" not in text
    assert "    partition: user_offset\n" in text


def test_what_was_given_is_part_of_what_the_spec_is_told(
    report: TrialReport,
) -> None:
    """Without it, the lines would train another model than the best trial."""
    given = {"seed": 3, "max_steps": "50", "hidden_size": "32"}
    overrides = {**given, "solver": "newton"}
    request = dataclasses.replace(report.request, overrides=overrides)
    assert dataclasses.replace(report, request=request).training == {
        "query_rows": 30,
        "dropout": 0.123,
        "partition": "user_offset",
        "hidden_size": 32,
        "solver": "newton",
    }
