"""What ColdStartEvaluator does: score, compute figures, slice, bless."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from components.cold_start_evaluator import figures, slices
from components.cold_start_evaluator.blessing import bless
from components.cold_start_evaluator.gate import Thresholds, refusal_reasons
from components.cold_start_evaluator.score_tables import (
    CANDIDATE,
    FEW_SHOT,
    LAST_BLESSED,
    STREAM,
    USERS,
    few_shot_column,
)
from components.cold_start_evaluator.score_users import ScoreUsers
from serving.contract import protocol
from serving.contract.features import Feature
from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.regimes import JOINT, REGIMES

EXAMPLES = "examples"
MODEL = "model"
JOINT_MODEL = "joint_model"
BASELINE_MODEL = "baseline_model"
EVALUATION = "evaluation"
BLESSING = "blessing"
EVALUATION_FILE = "evaluation.json"
SCORES_DIR = "scores"

# The curves by window and by k are looked at, not gated on.
_CURVE_DRAWS = 200


@dataclasses.dataclass(frozen=True)
class Settings:
    """Execution properties of the component; see its docstring."""

    min_lift_over_joint: float
    max_loss_to_last_blessed: float
    bootstrap_draws: int
    max_users: int
    max_slice_rows: int
    meta_update: bool

    @property
    def thresholds(self) -> Thresholds:
        """What the candidate has to reach."""
        return Thresholds(
            self.min_lift_over_joint, self.max_loss_to_last_blessed
        )


class Executor(base_beam_executor.BaseBeamExecutor):
    """Judges a candidate on cold users and blesses it or not."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the evaluation.

        Args:
            input_dict: `examples` (raw, with the split meta_test), `model`,
                `joint_model`, and `baseline_model` if one was blessed before.
            output_dict: `evaluation` with `evaluation.json`, the tables of
                scores and TFMA's files; `blessing` with TFX's properties.
            exec_properties: The fields of `Settings`.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = Settings(
            **{
                field.name: exec_properties[field.name]
                for field in dataclasses.fields(Settings)
            }
        )
        evaluation_dir = Path(
            artifact_utils.get_single_uri(output_dict[EVALUATION])
        )
        scores_dir = evaluation_dir / SCORES_DIR
        self._score(input_dict, scores_dir, settings)
        stream = figures.load_table(scores_dir, STREAM)
        evaluation = _evaluate(stream, scores_dir, settings)
        if not evaluation["reasons"] or evaluation["figures"]:
            evaluation["slices"] = self._slice(
                stream, scores_dir, evaluation_dir, settings.max_slice_rows
            )
        (evaluation_dir / EVALUATION_FILE).write_text(
            json.dumps(evaluation, indent=2, allow_nan=False) + "\n", "utf-8"
        )
        bless(
            artifact_utils.get_single_instance(output_dict[BLESSING]),
            artifact_utils.get_single_instance(input_dict[MODEL]),
            input_dict.get(BASELINE_MODEL) or (),
            exec_properties,
            evaluation["reasons"],
        )

    def _score(
        self,
        input_dict: Mapping[str, list[types.Artifact]],
        scores_dir: Path,
        settings: Settings,
    ) -> None:
        model_paths = {
            name: _model_path(input_dict[key])
            for name, key in (
                (CANDIDATE, MODEL),
                (JOINT, JOINT_MODEL),
                (LAST_BLESSED, BASELINE_MODEL),
            )
            if input_dict.get(key)
        }
        split_dir = artifact_utils.get_split_uri(
            input_dict[EXAMPLES], protocol.META_TEST
        )
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Read"
                >> beam.io.ReadFromTFRecord(
                    io_utils.all_files_pattern(split_dir)
                )
                | "ScoreUsers"
                >> ScoreUsers(
                    model_paths,
                    _all_features(model_paths.values()),
                    str(scores_dir),
                    settings.max_users,
                    OnlineMetaConfig(enabled=settings.meta_update),
                )
            )

    def _slice(
        self,
        stream: figures.pa.Table,
        scores_dir: Path,
        evaluation_dir: Path,
        max_rows: int,
    ) -> dict[str, Any]:
        by = slices.slice_columns(figures.load_table(scores_dir, USERS))
        rows = slices.rows_to_slice(stream, by, max_rows)
        if rows.num_rows:
            with self._make_beam_pipeline() as pipeline:
                slices.write_slices(pipeline, rows, str(evaluation_dir))
        return {
            "rows": rows.num_rows,
            "of_rows": stream.num_rows,
            "by": ["window", *by.column_names[1:]],
        }


def _evaluate(
    stream: figures.pa.Table, scores_dir: Path, settings: Settings
) -> dict[str, Any]:
    """What goes into `evaluation.json`."""
    few_shot = figures.load_table(scores_dir, FEW_SHOT)
    evaluation: dict[str, Any] = {
        "users": figures.count_users(scores_dir),
        "max_users": settings.max_users,
        "meta_updates": figures.meta_updates(scores_dir),
        "rows": stream.num_rows,
        "thresholds": dataclasses.asdict(settings.thresholds),
        "figures": {},
        "lifts": {},
        "windows": [],
        "few_shot": {},
    }
    by_k = [few_shot_column(k) for k in protocol.FEW_SHOT_SUPPORT_SIZES]
    if not (
        figures.scores_are_finite(stream, REGIMES)
        and figures.scores_are_finite(few_shot, by_k)
    ):
        evaluation["reasons"] = [
            "some scores are not finite: the model holds or computes NaN or "
            f"Inf (the scores are in {scores_dir})"
        ]
        return evaluation
    evaluation["figures"], evaluation["lifts"] = figures.stream_figures(
        stream, settings.bootstrap_draws
    )
    evaluation["windows"] = figures.window_figures(stream, _CURVE_DRAWS)
    evaluation["few_shot"] = figures.few_shot_figures(few_shot, _CURVE_DRAWS)
    evaluation["reasons"] = refusal_reasons(
        evaluation["lifts"], settings.thresholds
    )
    return evaluation


def _model_path(artifacts: Sequence[types.Artifact]) -> str:
    artifact = artifact_utils.get_single_instance(list(artifacts))
    return path_utils.serving_model_path(
        artifact.uri, path_utils.is_old_model_artifact(artifact)
    )


def _all_features(model_paths: Iterable[str]) -> list[Feature]:
    """The user features that any of the models takes."""
    features = {
        feature.name: feature
        for path in model_paths
        for feature in AdaptiveManifest.load(path).user_features
    }
    return list(features.values())
