"""How much one request may hold."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that one request may hold.

    Attributes:
        candidates: Candidates of a Rank, and results of a Recommend; of a
            Predict in all its rows together.
        events: Events of a SubmitFeedback.
        id_bytes: Length of a user, item or event id in UTF-8.
        feature_values: Values of one feature.
        feature_bytes: Length of one of them in UTF-8.
        batch_rows: Rows of a Predict that the gateway adds weights to.
        filled_values: Values of a Predict's tensors that are not sent, but
            equal to one that is.
        message_bytes: A request as a whole.
        clock_skew_seconds: How far in the future an event may seem to be.
    """

    candidates: int = 10_000
    events: int = 1_000
    id_bytes: int = 256
    feature_values: int = 1_000
    feature_bytes: int = 1_024
    batch_rows: int = 1_024
    filled_values: int = 1 << 17
    message_bytes: int = 4 << 20
    clock_skew_seconds: float = 300.0
