"""One version of a SavedModel in memory, and its signatures."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from serving.errors import InvalidRequestError, UnknownSignatureError
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


class Signature:
    """A signature of a loaded model.

    Attributes:
        name: Its name.
        definition: Names, types and shapes of inputs and outputs.
        batched: Of each input, whether its first dimension is the batch; all
            False if requests can't share a run.
    """

    def __init__(
        self, name: str, definition: pb.SignatureDef, session: Session
    ) -> None:
        """Looks inputs and outputs up in the graph."""
        self.name = name
        self.definition = definition
        self._inputs = tuple(
            _Input.of(name, definition.inputs[name])
            for name in sorted(definition.inputs)
        )
        self._outputs = tuple(sorted(definition.outputs))
        self._session = session
        self._endpoints = session.endpoints(
            [definition.inputs[spec.name].name for spec in self._inputs],
            [definition.outputs[name].name for name in self._outputs],
        )
        can_batch = all(
            _has_batch(_sizes(info)) for info in definition.outputs.values()
        )
        self.batched = tuple(
            can_batch and _has_batch(spec.sizes) for spec in self._inputs
        )

    def read(self, request: pb.PredictRequest) -> list[Tensor]:
        """Reads and checks the inputs of a request.

        Raises:
            InvalidRequestError: Inputs are missing, unknown or mistyped, or
                the output filter names none of the outputs.
        """
        protos, expected = request.inputs, self.definition.inputs
        if len(protos) != len(expected) or any(
            spec.name not in protos for spec in self._inputs
        ):
            raise InvalidRequestError(
                "The inputs do not match the signature. Sent extra: "
                f"{{{_names(protos.keys() - expected.keys())}}}. Missing "
                f"but required: {{{_names(expected.keys() - protos.keys())}}}."
            )
        unknown = set(request.output_filter) - set(self._outputs)
        if unknown:
            raise InvalidRequestError(
                f"The output filter names {_names(unknown)}; the outputs "
                f"are: {_names(self._outputs)}."
            )
        return [spec.read(protos[spec.name]) for spec in self._inputs]

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Runs the graph.

        Raises:
            GraphError: An operation failed.
        """
        return self._session.run(self._endpoints, inputs)

    def response(
        self, outputs: Iterable[Tensor], output_filter: Collection[str]
    ) -> pb.PredictResponse:
        """Returns the answer; model name and version are left to the caller.

        Args:
            outputs: What `run` returned.
            output_filter: Names of those that are asked for; empty for all.
        """
        response = pb.PredictResponse()
        response.model_spec.signature_name = self.name
        for name, tensor in zip(self._outputs, outputs, strict=True):
            if not output_filter or name in output_filter:
                tensor.write(response.outputs[name])
        return response


class LoadedModel:
    """A SavedModel in memory; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Loads the SavedModel in a folder.

        Raises:
            GraphError: TensorFlow can't load it.
        """
        self._session = Session(path)
        try:
            self._signatures = {
                name: Signature(name, definition, self._session)
                for name, definition in self._session.signatures.items()
            }
        except BaseException:
            # It is tried again and again, and would take more each time.
            self._session.close()
            raise

    def signature(self, name: str) -> Signature:
        """Returns a signature; the empty name stands for the default one.

        Raises:
            UnknownSignatureError: There is no such signature.
        """
        name = name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            raise UnknownSignatureError(
                f'Serving signature key "{name}" not found. There are: '
                f"{_names(self._signatures)}."
            )
        return signature

    def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Answers a request; model name and version are left to the caller.

        Raises:
            UnknownSignatureError: There is no such signature.
            InvalidRequestError: Inputs are missing, unknown or mistyped.
            GraphError: The graph failed.
        """
        signature = self.signature(request.model_spec.signature_name)
        outputs = signature.run(signature.read(request))
        return signature.response(outputs, request.output_filter)

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
