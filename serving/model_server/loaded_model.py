"""One version of a SavedModel in memory, ready to answer Predict."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

from serving.errors import InvalidRequestError, UnknownSignatureError
from serving.model_server.batching import Batcher, BatchingConfig, Run
from serving.model_server.session import Session
from serving.model_server.tensor import Tensor
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import dtype_name

DEFAULT_SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True, eq=False)
class _Input:
    """What an input must be.

    Attributes:
        name: Its name in requests.
        dtype: TensorFlow's DataType.
        sizes: Its shape, -1 for any size; None for any rank.
    """

    name: str
    dtype: int
    sizes: tuple[int, ...] | None

    @classmethod
    def of(cls, name: str, info: pb.TensorInfo) -> "_Input":
        """Reads what a signature says of an input."""
        return cls(name, info.dtype, _sizes(info))

    def read(self, proto: pb.TensorProto) -> Tensor:
        """Reads and checks a tensor of a request."""
        if proto.dtype != self.dtype:
            raise InvalidRequestError(
                f"Input {self.name!r} must be {dtype_name(self.dtype)}, got "
                f"{dtype_name(proto.dtype)}."
            )
        tensor = Tensor.from_proto(proto)
        if self.sizes is not None and not (
            len(self.sizes) == len(tensor.shape)
            and all(
                size in (-1, given)
                for size, given in zip(self.sizes, tensor.shape, strict=True)
            )
        ):
            raise InvalidRequestError(
                f"Input {self.name!r} must have the shape {list(self.sizes)} "
                f"(-1: any size), got {list(tensor.shape)}."
            )
        return tensor


@dataclasses.dataclass(frozen=True, eq=False)
class _Signature:
    """A signature and what runs it.

    Attributes:
        definition: Names, types and shapes of inputs and outputs.
        inputs: The inputs in the order `run` takes them.
        outputs: Names of the outputs in the order `run` returns them.
        run: Runs the graph, together with other requests where that's right.
    """

    definition: pb.SignatureDef
    inputs: tuple[_Input, ...]
    outputs: tuple[str, ...]
    run: Run

    def read(self, protos: Mapping[str, pb.TensorProto]) -> list[Tensor]:
        """Reads and checks the inputs of a request."""
        expected = self.definition.inputs
        if len(protos) != len(expected) or any(
            spec.name not in protos for spec in self.inputs
        ):
            raise InvalidRequestError(
                "The inputs do not match the signature. Sent extra: "
                f"{{{_names(protos.keys() - expected.keys())}}}. Missing "
                f"but required: {{{_names(expected.keys() - protos.keys())}}}."
            )
        return [spec.read(protos[spec.name]) for spec in self.inputs]

    def wanted(self, output_filter: Iterable[str]) -> set[str]:
        """Returns the names of the outputs that a request asks for."""
        wanted = set(output_filter) or set(self.outputs)
        if not wanted <= set(self.outputs):
            raise InvalidRequestError(
                "The output filter names "
                f"{_names(wanted - set(self.outputs))}; the outputs are: "
                f"{_names(self.outputs)}."
            )
        return wanted


class LoadedModel:
    """A SavedModel that answers; safe to call from several threads."""

    def __init__(self, path: Path, batching: BatchingConfig) -> None:
        """Loads the SavedModel in a folder.

        Raises:
            GraphError: TensorFlow can't load it.
        """
        self._session = Session(path)
        self._signatures = {
            name: self._signature(definition, batching)
            for name, definition in self._session.signatures.items()
        }

    def _signature(
        self, definition: pb.SignatureDef, batching: BatchingConfig
    ) -> _Signature:
        inputs = tuple(
            _Input.of(name, definition.inputs[name])
            for name in sorted(definition.inputs)
        )
        outputs = tuple(sorted(definition.outputs))
        endpoints = self._session.endpoints(
            [definition.inputs[spec.name].name for spec in inputs],
            [definition.outputs[name].name for name in outputs],
        )

        run: Run = functools.partial(self._session.run, endpoints)
        batched = [_has_batch(spec.sizes) for spec in inputs]
        whole = any(batched) and all(
            _has_batch(_sizes(info)) for info in definition.outputs.values()
        )
        if whole and batching.max_rows > 1:
            run = Batcher(run, batched, batching).run
        return _Signature(definition, inputs, outputs, run)

    def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Answers a request; the model spec's version is left to the caller.

        Raises:
            UnknownSignatureError: There is no such signature.
            InvalidRequestError: Inputs are missing, unknown or mistyped.
            GraphError: The graph failed.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            raise UnknownSignatureError(
                f'Serving signature key "{name}" not found. There are: '
                f"{_names(self._signatures)}."
            )
        wanted = signature.wanted(request.output_filter)
        tensors = signature.run(signature.read(request.inputs))
        response = pb.PredictResponse()
        for output, tensor in zip(signature.outputs, tensors, strict=True):
            if output in wanted:
                tensor.write(response.outputs[output])
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

    def close(self) -> None:
        """Frees the model; nobody may use it any more."""
        self._session.close()


def _sizes(info: pb.TensorInfo) -> tuple[int, ...] | None:
    shape = info.tensor_shape
    if shape.unknown_rank:
        return None
    return tuple(dim.size for dim in shape.dim)


def _has_batch(sizes: tuple[int, ...] | None) -> bool:
    return bool(sizes) and sizes[0] == -1  # type: ignore[index]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
