"""The cold users' raw stream, read from the pipeline's own examples.

What the replay sends through the gateway is what InteractionExampleGen wrote
for the split `meta_test`: raw features as a client knows them, untouched by
Transform. Only the events that the protocol uses (the first support set and
`MAX_WINDOWS` windows) are kept, however long a user's history is.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from components.cold_users import ColdUser, join_runs, runs_of_users
from components.errors import EvaluationError
from pipeline.errors import ColdStreamError
from pipeline.raw_examples import record_batches
from serving.contract import protocol, timeline
from serving.contract.features import Feature


@dataclasses.dataclass(frozen=True)
class ColdStream:
    """All cold users, in the order in which they arrive.

    Attributes:
        users: Ordered by the time of their first event, ties by user id.
    """

    users: tuple[ColdUser, ...]

    @property
    def num_windows(self) -> int:
        """How many windows are judged, over all users."""
        return sum(len(user.windows) for user in self.users)


def load_cold_stream(
    examples_dir: str,
    user_features: Sequence[Feature],
    split: str = protocol.META_TEST,
    max_users: int | None = None,
) -> ColdStream:
    """Reads the raw stream of the cold users.

    Args:
        examples_dir: URI of InteractionExampleGen's `examples` artifact.
        user_features: The dataset's user features; a client sends these.
        split: Which users.
        max_users: Keep only the first so many arrivals; all by default.

    Returns:
        The users in the order of their first event.

    Raises:
        ColdStreamError: There are no files, a column is missing, or no user
            has enough events to be judged.
    """
    pattern = f"{examples_dir}/Split-{split}/*.gz"
    paths = sorted(Path(examples_dir, f"Split-{split}").glob("*.gz"))
    if not paths:
        raise ColdStreamError(
            f"No examples match {pattern}. Run the pipeline up to "
            "InteractionExampleGen first (`adaptower run`), or name the "
            "folder of its `examples` artifact."
        )
    runs: dict[str, list[ColdUser]] = {}
    for path in paths:
        for batch in record_batches(path):
            try:
                for run in runs_of_users(batch, user_features):
                    runs.setdefault(run.user_id, []).append(run)
            except EvaluationError as error:
                raise ColdStreamError(f"{path}: {error}") from error
    users = [join_runs(of_user) for of_user in runs.values()]
    users = [user for user in users if user.windows]
    if not users:
        raise ColdStreamError(
            f"No user under {pattern} has more than "
            f"{protocol.FIRST_SUPPORT_EVENTS} events, so nothing can be "
            "judged. Use a dataset with longer histories."
        )
    order = timeline.arrival_order(users)[:max_users]
    return ColdStream(tuple(users[index] for index in order))
