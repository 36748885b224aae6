"""A SavedModel's graph in memory, run through TensorFlow's C API."""

import ctypes
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.errors import GraphError
from serving.model_server.c_api import Buffer, Output, checked, tensorflow
from serving.model_server.tensor import LibraryTensors, Tensor
from serving.protos import tf_serving_pb2 as pb
from serving.protos.model_server_pb2 import MetaGraphDef

_TAG = b"serve"
# A serialized tensorflow.ConfigProto. For the small graphs of a recommender,
# handing work over to other threads costs more than it saves, so a call runs
# in the thread that makes it, one operation after the other:
# intra_op_parallelism_threads and inter_op_parallelism_threads 1,
# experimental.executor_type SINGLE_THREADED_EXECUTOR.
#
# What costs most is calls of functions: layers, signatures and even the handles
# of restored tables are functions within functions. So they are inlined, which
# leaves a sixth of rank's time and a quarter of adapt's:
# graph_options.optimizer_options.do_function_inlining. What Grappler does
# besides makes such graphs no quicker, and takes its time at the first run:
# graph_options.rewrite_options.disable_meta_optimizer.
SESSION_CONFIG = (
    b"\x10\x01(\x01"
    b"R\x09\x1a\x02 \x01R\x03\x98\x01\x01"
    b"\x82\x01\x1a\x1a\x18SINGLE_THREADED_EXECUTOR"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Endpoints:
    """Where a signature enters and leaves the graph; arrays of TF_Output."""

    inputs: Any
    outputs: Any


class Session:
    """A loaded SavedModel.

    Safe to use from several threads, which run at the same time; `close`
    must come after the last `run` has ended.
    """

    def __init__(self, path: Path) -> None:
        """Loads the SavedModel of a folder.

        Raises:
            GraphError: TensorFlow can't load it.
        """
        tf = tensorflow()
        options = tf.TF_NewSessionOptions()
        meta_graph = tf.TF_NewBuffer()
        self._graph = tf.TF_NewGraph()
        try:
            with checked() as status:
                tf.TF_SetConfig(
                    options, SESSION_CONFIG, len(SESSION_CONFIG), status
                )
            with checked() as status:
                self._session = tf.TF_LoadSessionFromSavedModel(
                    options,
                    None,
                    str(path).encode(),
                    (ctypes.c_char_p * 1)(_TAG),
                    1,
                    self._graph,
                    meta_graph,
                    status,
                )
            self.signatures: Mapping[str, pb.SignatureDef] = _signatures(
                meta_graph.contents
            )
        except GraphError:
            tf.TF_DeleteGraph(self._graph)
            raise
        finally:
            tf.TF_DeleteBuffer(meta_graph)
            tf.TF_DeleteSessionOptions(options)

    def endpoints(
        self, inputs: Iterable[str], outputs: Iterable[str]
    ) -> Endpoints:
        """Looks tensors up by their names in the graph, such as `add:0`."""
        return Endpoints(self._find(inputs), self._find(outputs))

    def _find(self, names: Iterable[str]) -> Any:
        found = []
        for name in names:
            operation, _, index = name.partition(":")
            handle = tensorflow().TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if handle is None:
                raise GraphError(f"The graph has no operation {operation!r}.")
            found.append(Output(handle, int(index or 0)))
        return (Output * len(found))(*found)

    def run(
        self, endpoints: Endpoints, inputs: Sequence[Tensor]
    ) -> list[Tensor]:
        """Runs the graph.

        Args:
            endpoints: What to feed and what to fetch.
            inputs: What to feed, in the order of the endpoints.

        Returns:
            What was fetched, in the order of the endpoints.

        Raises:
            GraphError: An operation failed.
        """
        tf = tensorflow()
        count = len(endpoints.outputs)
        fetched: Any = (ctypes.c_void_p * count)()
        with LibraryTensors(inputs) as fed, checked() as status:
            tf.TF_SessionRun(
                self._session,
                None,
                endpoints.inputs,
                fed.handles,
                len(inputs),
                endpoints.outputs,
                fetched,
                count,
                None,
                0,
                None,
                status,
            )
        try:
            return [Tensor.from_library(handle) for handle in fetched]
        finally:
            for handle in fetched:
                tf.TF_DeleteTensor(handle)

    def close(self) -> None:
        """Frees the graph and its variables."""
        tf = tensorflow()
        with checked() as status:
            tf.TF_CloseSession(self._session, status)
        with checked() as status:
            tf.TF_DeleteSession(self._session, status)
        tf.TF_DeleteGraph(self._graph)


def _signatures(meta_graph: Buffer) -> dict[str, pb.SignatureDef]:
    serialized = ctypes.string_at(meta_graph.data, meta_graph.length)
    definitions = MetaGraphDef.FromString(serialized).signature_def
    return {
        # A copy: the message as a whole holds the graph.
        name: pb.SignatureDef.FromString(definition.SerializeToString())
        for name, definition in definitions.items()
        if not name.startswith("__")
    }
