"""The tables of scores that the evaluator writes and reads.

Parquet tables, small enough to look at with pandas:

- `stream`, a row per judged row of a stream: user_id, item_id, label, position,
  window, a score per regime, and one of `last_blessed` if there is such;
- `few_shot`, a row per row of a query set: user_id, item_id, label, position,
  a score per k (`k_0` ...) and one of `joint`;
- `users`, a row per user: user_id, judged_rows, and its features but lists;
- `meta_updates`, a row per model of the regime `online`: model, how many new
  meta states were promoted and refused, and the largest shift of a value.

Scores are logits. The tables serve the figures, the slices, and whoever
compares them with what a gateway answered.
"""

from collections.abc import Sequence

import pyarrow as pa

from serving.contract import protocol
from serving.contract.features import CATEGORICAL, JUDGED_ROWS, NUMERIC, Feature
from serving.contract.regimes import JOINT, REGIMES

CANDIDATE = "candidate"
LAST_BLESSED = "last_blessed"

STREAM = "stream"
FEW_SHOT = "few_shot"
USERS = "users"
META_UPDATES = "meta_updates"

_ROW_FIELDS = (
    ("user_id", pa.string()),
    ("item_id", pa.string()),
    ("label", pa.float32()),
    ("position", pa.int64()),
)


def few_shot_column(support_size: int) -> str:
    """Name of the column of scores after k events."""
    return f"k_{support_size}"


def table_schemas(
    features: Sequence[Feature], with_last_blessed: bool
) -> dict[str, pa.Schema]:
    """Schemas of the tables."""
    scores = [*REGIMES]
    if with_last_blessed:
        scores.append(LAST_BLESSED)
    by_k = [few_shot_column(k) for k in protocol.FEW_SHOT_SUPPORT_SIZES]
    kinds = {CATEGORICAL: pa.string(), NUMERIC: pa.float32()}
    return {
        STREAM: pa.schema(
            [
                *_ROW_FIELDS,
                ("window", pa.int32()),
                *((name, pa.float32()) for name in scores),
            ]
        ),
        FEW_SHOT: pa.schema(
            [*_ROW_FIELDS, *((name, pa.float32()) for name in (JOINT, *by_k))]
        ),
        USERS: pa.schema(
            [
                ("user_id", pa.string()),
                (JUDGED_ROWS, pa.int64()),
                *((f.name, kinds[f.kind]) for f in features if f.kind in kinds),
            ]
        ),
        META_UPDATES: pa.schema(
            [
                ("model", pa.string()),
                ("promoted", pa.int64()),
                ("refused", pa.int64()),
                ("max_shift", pa.float32()),
            ]
        ),
    }
