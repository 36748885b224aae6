"""Features of users and items, as declared by a dataset and sent in requests.

| kind               | raw value in an Example | input of a served signature |
|--------------------|-------------------------|-----------------------------|
| `categorical`      | bytes, 0 or 1           | string [B], '' if missing   |
| `categorical_list` | bytes, 0 to n           | string [B, L], '' pads      |
| `numeric`          | float, 0 or 1           | float [B], NaN if missing   |
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from serving.contract.errors import FeatureError

CATEGORICAL = "categorical"
CATEGORICAL_LIST = "categorical_list"
NUMERIC = "numeric"
KINDS = (CATEGORICAL, CATEGORICAL_LIST, NUMERIC)

# What the trainer keeps beside features: the row and the index of an item, how
# often a user is drawn, and a column of zeros that says how many users there
# are, features or not.
ITEM_ROW = "item_row"
ITEM_INDEX = "item_index"
DRAW_WEIGHT = "draw_weight"
USER_ROW = "user_row"
# What the evaluator's table of users has beside them.
JUDGED_ROWS = "judged_rows"

# Names that the pipeline and the signatures use for something else.
RESERVED_NAMES = frozenset(
    {
        "user_id",
        "item_id",
        ITEM_INDEX,
        ITEM_ROW,
        DRAW_WEIGHT,
        USER_ROW,
        JUDGED_ROWS,
        "label",
        "timestamp",
        "position",
        "weight",
        "k",
        "exclude_item_id",
        "adaptive_weights",
        "meta_init",
        "log_inner_lr",
        "support_item_id",
        "support_label",
        "support_weight",
        "query_item_id",
        "query_label",
        "query_weight",
        "score",
        "examples",
        "display_title",
    }
)

# Numeric features are cut into this many quantile buckets; a missing value
# gets the id after the last bucket.
NUM_BUCKETS = 10


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a user or an item.

    Attributes:
        name: Its name in Examples, in signatures and in requests.
        kind: One of `KINDS`.

    Raises:
        FeatureError: The kind is unknown, or the name is empty or reserved.
    """

    name: str
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FeatureError(
                f"Feature {self.name!r} has kind {self.kind!r}; "
                f"use one of {', '.join(KINDS)}."
            )
        if not self.name or self.name in RESERVED_NAMES:
            raise FeatureError(
                f"A feature can't be called {self.name!r}: the name is "
                "empty or used by the pipeline itself. Rename it; in a "
                "dataset spec `column` says which column it is read from."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the feature as JSON-ready values."""
        return {"name": self.name, "kind": self.kind}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Feature":
        """Reads what `to_dict` wrote."""
        try:
            return cls(name=values["name"], kind=values["kind"])
        except KeyError as missing:
            raise FeatureError(
                f"Feature {dict(values)!r} lacks the key {missing}; a feature "
                "needs `name` and `kind`."
            ) from None
