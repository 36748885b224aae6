"""One version of a SavedModel in memory, ready to answer Predict."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.errors import InvalidRequestError, UnknownSignatureError
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor, dtype_name, encode_tensor

DEFAULT_SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class _Signature:
    """A signature and the callable that runs it.

    Attributes:
        definition: Names, types and shapes of inputs and outputs.
        input_names: Names of the inputs in the order `run` takes them.
        run: Returns the outputs in the order of their sorted names.
    """

    definition: pb.SignatureDef
    input_names: tuple[str, ...]
    run: Callable[..., list[NDArray[Any]]]

    def inputs(
        self, tensors: Mapping[str, pb.TensorProto]
    ) -> list[NDArray[Any]]:
        """Decodes a request's tensors in the order of `input_names`."""
        expected = self.definition.inputs
        if tensors.keys() != expected.keys():
            raise InvalidRequestError(
                "The inputs do not match the signature. Sent extra: "
                f"{{{_names(tensors.keys() - expected.keys())}}}. Missing "
                f"but required: {{{_names(expected.keys() - tensors.keys())}}}."
            )
        return [
            _decode_input(name, tensors[name], expected[name])
            for name in self.input_names
        ]


class LoadedModel:
    """A SavedModel loaded as TF Serving does it: a graph and a session.

    Calls run in the thread that makes them, one operation after the other:
    for the small graphs of a recommender, handing work over to other threads
    costs more than it saves. Safe to call from several threads; the session
    closes when nobody holds the object any more.
    """

    def __init__(self, path: str | Path) -> None:
        """Loads the SavedModel in a folder; errors are TensorFlow's."""
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
        )
        config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
        graph = tf.Graph()
        with graph.as_default():
            self._session = tf.compat.v1.Session(graph=graph, config=config)
            meta_graph = tf.compat.v1.saved_model.load(
                self._session, [tf.saved_model.SERVING], str(path)
            )
        self._signatures = {
            name: self._signature(definition)
            for name, definition in meta_graph.signature_def.items()
            if not name.startswith("__")
        }

    def _signature(self, definition: Any) -> _Signature:
        # Our messages have the same bytes as TensorFlow's.
        own = pb.SignatureDef.FromString(definition.SerializeToString())
        graph = self._session.graph
        input_names = tuple(sorted(own.inputs))
        run = self._session.make_callable(
            [
                graph.get_tensor_by_name(own.outputs[name].name)
                for name in sorted(own.outputs)
            ],
            feed_list=[
                graph.get_tensor_by_name(own.inputs[name].name)
                for name in input_names
            ],
        )
        return _Signature(own, input_names, run)

    def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Answers a request; the model spec's version is left to the caller.

        Raises:
            UnknownSignatureError: There is no such signature.
            InvalidRequestError: Inputs are missing, unknown or mistyped.
            tensorflow.errors.OpError: The graph failed.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            raise UnknownSignatureError(
                f'Serving signature key "{name}" not found. There are: '
                f"{_names(self._signatures)}."
            )
        output_names = sorted(signature.definition.outputs)
        wanted = set(request.output_filter) or set(output_names)
        if not wanted <= set(output_names):
            raise InvalidRequestError(
                f"The output filter names {_names(wanted - set(output_names))}"
                f"; the outputs are: {_names(output_names)}."
            )
        values = signature.run(*signature.inputs(request.inputs))
        response = pb.PredictResponse()
        for output_name, value in zip(output_names, values, strict=True):
            if output_name in wanted:
                response.outputs[output_name].CopyFrom(
                    encode_tensor(np.asarray(value))
                )
        response.model_spec.signature_name = name
        return response

    def signature_map(self) -> pb.SignatureDefMap:
        """Returns names, types and shapes of all signatures."""
        return pb.SignatureDefMap(
            signature_def={
                name: signature.definition
                for name, signature in self._signatures.items()
            }
        )


def _decode_input(
    name: str, tensor: pb.TensorProto, expected: pb.TensorInfo
) -> NDArray[Any]:
    if tensor.dtype != expected.dtype:
        raise InvalidRequestError(
            f"Input {name!r} must be {dtype_name(expected.dtype)}, got "
            f"{dtype_name(tensor.dtype)}."
        )
    sizes = [dim.size for dim in expected.tensor_shape.dim]
    value = decode_tensor(tensor)
    fits = len(sizes) == value.ndim and all(
        size in (-1, given)
        for size, given in zip(sizes, value.shape, strict=True)
    )
    if not fits and not expected.tensor_shape.unknown_rank:
        raise InvalidRequestError(
            f"Input {name!r} must have the shape {sizes} (-1: any size), got "
            f"{list(value.shape)}."
        )
    return value


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
