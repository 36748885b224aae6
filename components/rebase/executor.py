"""What Rebase does: look at the blessings, learn everybody, say how many."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import path_utils

from components.rebase.rebase_users import COUNTS_FILE, RebaseUsers
from components.rebase.rebaser import (
    CURRENT,
    GONE,
    KNOWN,
    REBASED,
    RebaseConfig,
)
from serving.store.config import StoreConfig
from serving.store.tombstone import Retention

MODEL = standard_component_specs.MODEL_KEY
MODEL_BLESSING = standard_component_specs.MODEL_BLESSING_KEY
INFRA_BLESSING = standard_component_specs.INFRA_BLESSING_KEY
RESULT = "result"
MODEL_NAME = "model_name"
STORE = "store"
TTL_SECONDS = "ttl_seconds"
SUMMARY = "summary"


class Executor(base_beam_executor.BaseBeamExecutor):
    """Learns the known users again for a model that is about to be pushed."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Rebases, unless the model will not be pushed anyway.

        Args:
            input_dict: `model`, and optionally `model_blessing` and
                `infra_blessing`; both must be positive where given.
            output_dict: `result`; gets `counts.json` and a summary.
            exec_properties: `model_name`, `store` and `ttl_seconds`.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        result = artifact_utils.get_single_instance(output_dict[RESULT])
        if not _is_blessed(input_dict):
            Path(result.uri, COUNTS_FILE).write_text("{}\n", "utf-8")
            summary = "not blessed, nobody learned"
        else:
            self._rebase(input_dict, result.uri, exec_properties)
            summary = summarize(read_counts(result.uri))
        logging.info(summary)
        result.set_string_custom_property(SUMMARY, summary)

    def _rebase(
        self,
        input_dict: Mapping[str, list[types.Artifact]],
        output_dir: str,
        exec_properties: Mapping[str, Any],
    ) -> None:
        model = artifact_utils.get_single_instance(input_dict[MODEL])
        retention = Retention(exec_properties.get(TTL_SECONDS))
        config = RebaseConfig(
            model_dir=path_utils.serving_model_path(
                model.uri, path_utils.is_old_model_artifact(model)
            ),
            model_name=exec_properties[MODEL_NAME],
            store=StoreConfig(exec_properties[STORE], retention=retention),
        )
        with self._make_beam_pipeline() as pipeline:
            _ = pipeline | "RebaseUsers" >> RebaseUsers(config, output_dir)


def read_counts(folder: str | Path) -> dict[str, int]:
    """Reads what a rebase left: how many users came to what."""
    text = (Path(folder) / COUNTS_FILE).read_text("utf-8")
    return dict(json.loads(text))


def summarize(counts: Mapping[str, int]) -> str:
    """Says in a line what became of the users.

    Args:
        counts: Users by what they came to, see `rebaser`.
    """
    others = "".join(
        f", {number:,} {name.replace('_', ' ')}"
        for name, number in sorted(counts.items())
        if number and name not in (KNOWN, REBASED, CURRENT, GONE)
    )
    return (
        f"{counts.get(REBASED, 0):,} of {counts.get(KNOWN, 0):,} known users "
        f"learned again{others}"
    )


def _is_blessed(input_dict: Mapping[str, list[types.Artifact]]) -> bool:
    """Whether the pusher will take the model, as far as it was judged."""
    return all(
        is_good(artifact)
        for key, is_good in (
            (MODEL_BLESSING, model_utils.is_model_blessed),
            (INFRA_BLESSING, model_utils.is_infra_validated),
        )
        for artifact in input_dict.get(key) or ()
    )
