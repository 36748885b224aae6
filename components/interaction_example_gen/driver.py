"""Finds out, before a run, which files it would read.

TFX's cache compares exec properties. The driver puts a fingerprint of the
input files among them, so that changed files are never answered from the
cache, and unchanged ones always are.
"""

from tfx.dsl.components.base import base_driver
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.portable import base_driver as ir_base_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2

from components.dataset_spec import DatasetSpec
from components.interaction_example_gen import executor, files


class Driver(base_driver.BaseDriver, ir_base_driver.BaseDriver):
    """Fills in the input fingerprint and the time that bounds events."""

    def __init__(self, metadata_handle: metadata.Metadata) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        ir_base_driver.BaseDriver.__init__(self, metadata_handle)

    def run(
        self, execution_info: data_types.ExecutionInfo
    ) -> driver_output_pb2.DriverOutput:
        """Returns the exec properties and the outputs of the execution."""
        properties = dict(execution_info.exec_properties)
        spec = DatasetSpec.from_json(properties[executor.DATASET_SPEC])
        infos = files.all_files(spec, properties[executor.DATA_FOLDER])
        properties[executor.INPUT_FINGERPRINT] = files.fingerprint(infos)
        properties[executor.NOW] = properties.get(
            executor.NOW
        ) or files.newest_possible_event(infos)
        output = driver_output_pb2.DriverOutput()
        for key, value in properties.items():
            if value is not None:
                data_types_utils.set_metadata_value(
                    output.exec_properties[key], value
                )
        for key, artifacts in execution_info.output_dict.items():
            output.output_artifacts[key].artifacts.extend(
                artifact.mlmd_artifact for artifact in artifacts
            )
        return output
