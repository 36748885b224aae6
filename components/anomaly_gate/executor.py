"""What AnomalyGate does."""

import dataclasses
import json
from typing import Any

from absl import logging
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.anomaly_gate import policy
from components.errors import AnomalyError

ANOMALIES = "anomalies"
BLESSING = "blessing"
FINDINGS_FILE = "findings.json"


class Executor(base_executor.BaseExecutor):
    """Fails on blocking anomalies; counts and logs the others."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Judges the anomalies of all splits.

        Raises:
            AnomalyError: At least one of them blocks; the message names split,
                column, what is wrong and what to do, for each.
        """
        del exec_properties
        anomalies = artifact_utils.get_single_instance(input_dict[ANOMALIES])
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING])
        splits = artifact_utils.decode_split_names(anomalies.split_names)
        findings = [
            finding
            for split in splits
            for finding in policy.judge(split, _read(anomalies, split))
        ]
        blocking = [finding for finding in findings if finding.blocking]
        if blocking:
            raise AnomalyError(
                f"{len(blocking)} anomalies block the run:\n"
                + "\n".join(f"  - {finding}" for finding in blocking)
            )
        for finding in findings:
            logging.warning("Anomaly, not blocking: %s", finding)
        io_utils.write_string_file(
            f"{blessing.uri}/{FINDINGS_FILE}",
            json.dumps([dataclasses.asdict(f) for f in findings], indent=2),
        )
        blessing.set_int_custom_property("num_findings", len(findings))
        blessing.set_string_custom_property("summary", _summary(findings))


def _read(anomalies: types.Artifact, split: str) -> anomalies_pb2.Anomalies:
    folder = artifact_utils.get_split_uri([anomalies], split)
    with fileio.open(io_utils.get_only_uri_in_dir(folder), "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())


def _summary(findings: list[policy.Finding]) -> str:
    if not findings:
        return "no anomalies"
    columns = sorted({f.feature or "all columns" for f in findings})
    return f"{len(findings)} not blocking, in {', '.join(columns)}"
