"""What VersionedPusher does: check the blessings, push, tidy up."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.pusher import executor as pusher_executor
from tfx.types import artifact_utils, standard_component_specs

from components.versioned_pusher import versions
from serving.contract.manifest import AdaptiveManifest

EVALUATION = "evaluation"
PUSH_DIR = "push_dir"
KEEP_VERSIONS = "keep_versions"
NOT_PUSHED_FILE = "NOT_PUSHED"
PUSHED_FILE = "PUSHED"

_EVALUATION_FILE = "evaluation.json"
# What a gateway shows of an evaluation; the rest stays with the pipeline.
_SHOWN_FIGURES = ("users", "figures", "lifts", "thresholds")


class Executor(pusher_executor.Executor):
    """Pushes a blessed model as the next version of a base path."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes, or says why not.

        Args:
            input_dict: `model`, and optionally `model_blessing`,
                `infra_blessing` (TFX's, both must be positive where given)
                and `evaluation` (its figures go into the manifest).
            output_dict: `pushed_model`; its custom properties are those of
                TFX's Pusher. It holds a note, not one more copy of the model.
            exec_properties: `push_dir` and `keep_versions`.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        push_dir = Path(exec_properties[PUSH_DIR])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            note = f"Nothing was pushed to {push_dir}: " + "; ".join(
                _refusals(input_dict)
            )
            logging.warning(note)
            _write_note(pushed.uri, NOT_PUSHED_FILE, note)
            return
        figures = _shown_figures(input_dict)
        version = versions.push_version(
            Path(self.GetModelPath(input_dict)),
            push_dir,
            prepare=lambda staged: _sign(staged, figures),
        )
        removed = versions.remove_old_versions(
            push_dir, exec_properties[KEEP_VERSIONS]
        )
        destination = push_dir / str(version)
        self._MarkPushed(pushed, str(destination), str(version))
        note = f"Pushed {destination}."
        if removed:
            note += f" Removed the older version(s) {removed}."
        logging.info(note)
        _write_note(pushed.uri, PUSHED_FILE, note)


def _refusals(input_dict: Mapping[str, list[types.Artifact]]) -> list[str]:
    """Which blessing is missing, and where its reasons are."""
    return [
        f"{key} says no (reasons in {artifact.uri})"
        for key in (
            standard_component_specs.MODEL_BLESSING_KEY,
            standard_component_specs.INFRA_BLESSING_KEY,
        )
        for artifact in input_dict.get(key) or ()
        if artifact.get_int_custom_property("blessed") != 1
    ]


def _shown_figures(
    input_dict: Mapping[str, list[types.Artifact]],
) -> dict[str, Any]:
    artifacts = input_dict.get(EVALUATION)
    if not artifacts:
        return {}
    folder = Path(artifact_utils.get_single_uri(artifacts))
    evaluation = json.loads((folder / _EVALUATION_FILE).read_text("utf-8"))
    return {key: evaluation[key] for key in _SHOWN_FIGURES}


def _sign(staged: Path, figures: Mapping[str, Any]) -> None:
    """Writes into the staged manifest what the model was blessed with.

    Reading it is a check too: a model without a manifest is not pushed.
    """
    manifest = AdaptiveManifest.load(staged)
    dataclasses.replace(manifest, evaluation=figures).save(staged)


def _write_note(uri: str, name: str, text: str) -> None:
    folder = Path(uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text + "\n", encoding="utf-8")
