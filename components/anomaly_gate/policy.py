"""Which departures from the schema stop a run, and which are only reported.

ExampleValidator describes anomalies and goes on whatever it finds. This is
what it leaves open:

| anomaly                                    | event column | feature          |
|--------------------------------------------|--------------|------------------|
| absent, or fewer values than required      | blocks       | blocks in        |
|                                            |              | meta_train only  |
| other type, shape or number of values      | blocks       | blocks           |
| value out of its domain, NaN               | blocks       | reported         |
| a column that the schema doesn't know      | reported     | reported         |
| drift, skew, a distribution that changed   | blocks       | reported         |
| split without examples                     | blocks       | blocks           |

A feature that no meta_train user has gives an empty vocabulary: nearly always
a wrong column in the dataset spec. In a judged split of few users it can
happen by chance. An anomaly of a type that is not listed here blocks: a new
version of TFDV may find what we did not think of.
"""

import dataclasses
from collections.abc import Iterator

from tensorflow_metadata.proto.v0 import anomalies_pb2

EVENT_COLUMNS = frozenset(
    {"user_id", "item_id", "label", "timestamp", "position"}
)

_ABSENT = frozenset(
    {
        "SCHEMA_MISSING_COLUMN",
        "FEATURE_TYPE_NOT_PRESENT",
        "FEATURE_TYPE_NO_VALUES",
        "FEATURE_TYPE_LOW_NUMBER_PRESENT",
        "FEATURE_TYPE_LOW_FRACTION_PRESENT",
    }
)
_TOLERATED = frozenset(
    {
        "BOOL_TYPE_BIG_INT",
        "BOOL_TYPE_SMALL_INT",
        "ENUM_TYPE_UNEXPECTED_STRING_VALUES",
        "FEATURE_TYPE_HIGH_UNIQUE",
        "FEATURE_TYPE_LOW_UNIQUE",
        "FLOAT_TYPE_BIG_FLOAT",
        "FLOAT_TYPE_HAS_INF",
        "FLOAT_TYPE_HAS_NAN",
        "FLOAT_TYPE_SMALL_FLOAT",
        "INT_TYPE_BIG_INT",
        "INT_TYPE_SMALL_INT",
        "SCHEMA_TRAINING_SERVING_SKEW",
        "COMPARATOR_L_INFTY_HIGH",
        "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH",
        "COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH",
        "COMPARATOR_CONTROL_DATA_MISSING",
        "COMPARATOR_TREATMENT_DATA_MISSING",
    }
)
_NEW_COLUMN = "SCHEMA_NEW_COLUMN"

_REMEDY_EMPTY = (
    "use more users, or check the time range and the dead letters: too few "
    "users have enough events to be judged on"
)
_REMEDY_COLUMN = (
    "check the column's name and format in the dataset spec, and the rows in "
    "the dead letters"
)
_REMEDY_ABSENT = (
    "check the feature's column and pattern in the dataset spec, or remove "
    "the feature from it"
)
_REMEDY_FEATURE = (
    "check the feature's kind in the dataset spec against the values that its "
    "column holds"
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One anomaly, judged.

    Attributes:
        split: Split it was found in.
        feature: Column, or "" for the split as a whole.
        reason: Name of the anomaly's type in anomalies.proto.
        description: TFDV's words.
        blocking: Whether the run must stop.
        remedy: What to do about it.
    """

    split: str
    feature: str
    reason: str
    description: str
    blocking: bool
    remedy: str

    def __str__(self) -> str:
        where = f"{self.split}, {self.feature or 'all columns'}"
        return f"{where}: {self.description} ({self.reason}); {self.remedy}."


def judge(split: str, anomalies: anomalies_pb2.Anomalies) -> Iterator[Finding]:
    """Judges what ExampleValidator found in a split.

    Args:
        split: Name of the split.
        anomalies: Its anomalies.

    Yields:
        A finding per column and type of anomaly, columns in order.
    """
    if anomalies.data_missing:
        yield Finding(
            split=split,
            feature="",
            reason="NO_EXAMPLES",
            description="the split has no examples",
            blocking=True,
            remedy=_REMEDY_EMPTY,
        )
    for reason in anomalies.dataset_anomaly_info.reason:
        yield _finding(split, "", reason, _REMEDY_EMPTY)
    for column in sorted(anomalies.anomaly_info):
        for reason in anomalies.anomaly_info[column].reason:
            yield _finding(split, column, reason, _remedy(column, reason))


def _finding(
    split: str,
    feature: str,
    reason: anomalies_pb2.AnomalyInfo.Reason,
    remedy: str,
) -> Finding:
    name = _type_name(reason)
    return Finding(
        split=split,
        feature=feature,
        reason=name,
        description=reason.description.rstrip(".") or reason.short_description,
        blocking=_blocks(split, feature, name),
        remedy=remedy,
    )


def _blocks(split: str, feature: str, reason: str) -> bool:
    if reason == _NEW_COLUMN:
        return False
    if not feature or feature in EVENT_COLUMNS:
        return True
    if reason in _ABSENT:
        return split == "meta_train"
    return reason not in _TOLERATED


def _remedy(feature: str, reason: anomalies_pb2.AnomalyInfo.Reason) -> str:
    if feature in EVENT_COLUMNS:
        return _REMEDY_COLUMN
    return _REMEDY_ABSENT if _type_name(reason) in _ABSENT else _REMEDY_FEATURE


def _type_name(reason: anomalies_pb2.AnomalyInfo.Reason) -> str:
    return anomalies_pb2.AnomalyInfo.Type.Name(reason.type)
