"""What a Predict may ask for.

A request in TF Serving's API costs no more than one in ours. The sizes of its
tensors are looked at before anything is made of them: what a shape says costs
its sender nothing, as one value may stand for all that are left out.
"""

import math

from serving.errors import InvalidRequestError
from serving.gateway.requests import check_num_results
from serving.limits import Limits
from serving.models.templates import RANK, RECOMMEND
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor, tensor_shape

USER_ID = "user_id"
# How many items each row of a `recommend` gets.
_K = "k"

# The input whose first dimension is the batch, by signature.
BATCHED = {
    "": "item_id",
    "serving_default": "item_id",
    RANK: "item_id",
    RECOMMEND: "exclude_item_id",
}


def check_filled(request: pb.PredictRequest, size: int, limits: Limits) -> None:
    """Checks how much larger a request becomes where it is decoded.

    Args:
        request: For any model and signature.
        size: Bytes of the request. A value that was sent took one at least.
        limits: The most that one request may hold.

    Raises:
        InvalidRequestError: Too many values are not sent, or a shape can't be.
    """
    values = sum(
        math.prod(tensor_shape(tensor)) for tensor in request.inputs.values()
    )
    if values - size > limits.filled_values:
        raise InvalidRequestError(
            f"The inputs have {values} values in {size} bytes; no more than "
            f"{limits.filled_values} may be left to be filled in. Send them "
            "all."
        )


def check_items(request: pb.PredictRequest, limits: Limits) -> None:
    """Checks how many items a request is about, all its rows together.

    Args:
        request: Of one of the signatures in `BATCHED`. What of it is missing
            or has another shape is the model server's to tell.
        limits: The most that one request may hold.

    Raises:
        InvalidRequestError: They are more than a Rank or Recommend may name.
    """
    signature = request.model_spec.signature_name
    rows = _rows(request)
    shape = _shape(request, BATCHED[signature])
    if rows * math.prod(shape[1:]) > limits.candidates:
        raise InvalidRequestError(
            f"The input {BATCHED[signature]!r} has the shape {list(shape)}; "
            f"at most {limits.candidates} items are allowed, all {rows} rows "
            "together. Send them in parts."
        )
    if signature == RECOMMEND and math.prod(_shape(request, _K)) == 1:
        k = decode_tensor(request.inputs[_K]).item()
        if isinstance(k, int):
            check_num_results(k, limits)
            if rows * k > limits.candidates:
                raise InvalidRequestError(
                    f"{k} items for each of {rows} rows are more than the "
                    f"{limits.candidates} allowed in one request; send the "
                    "rows in parts."
                )


def batch_size(request: pb.PredictRequest, limits: Limits) -> int:
    """Returns B: the rows of the input that every signature has.

    Raises:
        InvalidRequestError: It is missing, or has too many rows.
    """
    name = BATCHED[request.model_spec.signature_name]
    if name not in request.inputs:
        raise InvalidRequestError(
            f"The input {name!r} is missing; with {USER_ID!r} it says how "
            "many rows the batch has."
        )
    shape = _shape(request, name)
    # Each row costs us a user's weights.
    if len(shape) != 2 or not 1 <= shape[0] <= limits.batch_rows:
        raise InvalidRequestError(
            f"The input {name!r} must have the shape [B, N], B from 1 to "
            f"{limits.batch_rows}; got {list(shape)}."
        )
    return shape[0]


def user_ids(tensor: pb.TensorProto, batch: int) -> list[str]:
    """Returns one id for the whole batch, or one per row.

    Raises:
        InvalidRequestError: They are no text, or of another number.
    """
    if tensor.dtype != pb.DT_STRING:
        raise InvalidRequestError(
            f"The input {USER_ID!r} must be of type string."
        )
    shape = tensor_shape(tensor)
    if shape not in ((), (1,), (batch,)):
        raise InvalidRequestError(
            f"The input {USER_ID!r} has the shape {list(shape)}; send one id "
            f"for all rows, or one per row, [{batch}]."
        )
    ids = decode_tensor(tensor).ravel().tolist()
    try:
        return [user_id.decode() for user_id in ids]
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            f"The input {USER_ID!r} is not UTF-8: {error}."
        ) from error


def _rows(request: pb.PredictRequest) -> int:
    """Returns the rows of the input with the most, for rows may be shared."""
    shapes = map(tensor_shape, request.inputs.values())
    return max((shape[0] for shape in shapes if shape), default=0)


def _shape(request: pb.PredictRequest, name: str) -> tuple[int, ...]:
    # Looking up a name that is not there would add it.
    if name not in request.inputs:
        return (0,)
    return tensor_shape(request.inputs[name])
