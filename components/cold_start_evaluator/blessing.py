"""The blessing as TFX's own Evaluator writes it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from tfx import types
from tfx.components.evaluator import constants
from tfx.utils import io_utils

REASONS_FILE = "REASONS"


def bless(
    blessing: types.Artifact,
    model: types.Artifact,
    baselines: Sequence[types.Artifact],
    exec_properties: Mapping[str, Any],
    reasons: Sequence[str],
) -> None:
    """Marks the blessing as TFX's Evaluator does, for Pusher and Resolver.

    Args:
        blessing: The artifact to mark.
        model: The candidate.
        baselines: The model blessed before, if there is one.
        exec_properties: TFX's, with the id of the component if it has one.
        reasons: Why the candidate is not blessed; empty if it is.
    """
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id
    )
    for baseline in baselines:
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    if "current_component_id" in exec_properties:
        blessing.set_string_custom_property(
            "component_id", exec_properties["current_component_id"]
        )
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSED_KEY,
        constants.NOT_BLESSED_VALUE if reasons else constants.BLESSED_VALUE,
    )
    if reasons:
        message = "Not blessed: " + "; ".join(reasons)
        logging.warning(message)
        io_utils.write_string_file(
            os.path.join(blessing.uri, constants.NOT_BLESSED_FILE_NAME), ""
        )
        io_utils.write_string_file(
            os.path.join(blessing.uri, REASONS_FILE), "\n".join(reasons) + "\n"
        )
    else:
        message = "Blessed"
        logging.info(message)
        io_utils.write_string_file(
            os.path.join(blessing.uri, constants.BLESSED_FILE_NAME), ""
        )
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, message
    )
