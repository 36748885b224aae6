"""What InfraValidator does: serve a copy of the candidate and ask it."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import grpc
import tensorflow as tf
from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils
from tfx_bsl.coders import example_coder

from components.cold_users import ColdUser, runs_of_users
from components.errors import (
    ComponentError,
    EvaluationError,
    ModelServerError,
)
from components.infra_validator import contract_checks, replay
from components.infra_validator.server_process import (
    running_server,
)
from components.served_model import ServedModel
from serving.contract import protocol
from serving.contract.errors import ContractError
from serving.contract.features import Feature
from serving.contract.manifest import AdaptiveManifest

MODEL = "model"
EXAMPLES = "examples"
BLESSING = "blessing"
# TFX's names, which its Pusher goes by.
BLESSED_KEY = "blessed"
BLESSED_FILE = "INFRA_BLESSED"
NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"

_READ_BATCH = 1024


class Executor(base_executor.BaseExecutor):
    """Blesses a model that the real server loads and answers with."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the validation.

        Args:
            input_dict: `model`, and `examples` (raw) to make requests from.
            output_dict: `blessing`: custom property `blessed`; the reasons
                of a refusal are in the file INFRA_NOT_BLESSED.
            exec_properties: See the component.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_instance(input_dict[MODEL])
        model_dir = path_utils.serving_model_path(
            model.uri, path_utils.is_old_model_artifact(model)
        )
        split_dir = artifact_utils.get_split_uri(
            input_dict[EXAMPLES], protocol.META_TEST
        )
        reasons = _validate(Path(model_dir), split_dir, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING])
        blessing.set_int_custom_property(BLESSED_KEY, int(not reasons))
        if reasons:
            logging.warning(
                "The model is not fit to serve: %s", "; ".join(reasons)
            )
        name = NOT_BLESSED_FILE if reasons else BLESSED_FILE
        io_utils.write_string_file(
            os.path.join(blessing.uri, name),
            "".join(f"{reason}\n" for reason in reasons),
        )


def _validate(
    model_dir: Path, split_dir: str, settings: dict[str, Any]
) -> list[str]:
    """Returns why the model is not fit to serve; nothing if it is."""
    reasons = contract_checks.size_reasons(
        model_dir, settings["max_model_bytes"]
    )
    if reasons:
        return reasons
    try:
        manifest = AdaptiveManifest.load(model_dir)
    except ContractError as error:
        return [str(error)]
    reasons = contract_checks.manifest_reasons(
        manifest, settings.get("model_name")
    )
    if reasons:
        return reasons
    try:
        model = ServedModel.load(model_dir)
        reasons = contract_checks.signature_reasons(model)
        if reasons:
            return reasons
        users = read_users(
            split_dir, manifest.user_features, settings["num_users"]
        )
        exchanges = [
            (request, model.call(request.signature, request.inputs))
            for request in itertools.chain(
                replay.warmup_requests(model_dir),
                replay.example_requests(
                    model, users, settings["recommend_items"]
                ),
            )
        ]
        if manifest.vector_size:
            score, vectors = (
                next(
                    expected
                    for request, expected in reversed(exchanges)
                    if request.signature == signature
                )
                for signature in ("rank", contract_checks.EMBED)
            )
            reasons = contract_checks.vector_reasons(
                manifest, vectors, score["score"]
            )
            if reasons:
                return reasons
    except ComponentError:
        raise
    # For a damaged model TensorFlow raises whatever its loader trips over.
    except Exception as error:
        return [f"TensorFlow can't load or run the SavedModel: {error!r}"]
    with tempfile.TemporaryDirectory(prefix="infra-validator-") as scratch:
        # A copy: a server may write caches, and the artifact must not change.
        base_path = Path(scratch) / "base"
        shutil.copytree(model_dir, base_path / "1")
        try:
            with running_server(
                manifest.model_name,
                base_path,
                Path(scratch) / "server.log",
                settings["deadline_seconds"],
            ) as channel:
                return _ask(channel, manifest.model_name, exchanges)
        except ModelServerError as error:
            return [str(error)]


def _ask(
    channel: grpc.Channel,
    model_name: str,
    exchanges: Sequence[tuple[replay.Request, replay.Outputs]],
) -> list[str]:
    """Sends the requests and compares the answers with what is expected."""
    reasons = []
    for request, expected in exchanges:
        try:
            answer = replay.predict(channel, model_name, request)
        except grpc.RpcError as error:
            reasons.append(
                f"{request.signature} ({request.origin}) failed: "
                f"{error.code().name}: {error.details()}"
            )
        else:
            reasons += replay.answer_reasons(request, answer, expected)
    return reasons


def read_users(
    split_dir: str, features: Sequence[Feature], num_users: int
) -> list[ColdUser]:
    """Reads the first few users of a split; reads no further than needed.

    Raises:
        EvaluationError: The split is empty.
    """
    paths = tf.io.gfile.glob(io_utils.all_files_pattern(split_dir))
    records = tf.data.TFRecordDataset(sorted(paths), compression_type="GZIP")
    decoder = example_coder.ExamplesToRecordBatchDecoder()
    users: dict[str, ColdUser] = {}
    for batch in records.batch(_READ_BATCH).as_numpy_iterator():
        for run in runs_of_users(decoder.DecodeBatch(list(batch)), features):
            users.setdefault(run.user_id, run)
        if len(users) >= num_users:
            break
    if not users:
        raise EvaluationError(
            f"{split_dir} holds no examples to make requests from. The split "
            f"{protocol.META_TEST} needs at least one user."
        )
    return list(users.values())[:num_users]
