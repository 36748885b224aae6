"""What every step of InteractionExampleGen's Beam pipeline knows."""

import dataclasses

from components.dataset_spec import DatasetSpec
from components.dataset_tables import EntitySpec, TableSpec
from components.interaction_example_gen import parsing
from components.interaction_example_gen.dead_letters import INTERACTIONS, USERS

# Outputs of the steps.
BATCHES = "batches"
LETTERS = "letters"
COUNTS = "counts"
STATISTICS = "statistics"


@dataclasses.dataclass(frozen=True)
class Job:
    """What every step needs to know.

    Attributes:
        spec: The dataset.
        folder: Where its files are.
        files: Paths of each table's files.
        now: Seconds; later events are in the future.
        num_shards: Shards of users, and files per split.
        examples_uri: Where the splits go.
        log_of_file: For each file of the logs, the index of its log in
            `spec.logs`.
    """

    spec: DatasetSpec
    folder: str
    files: dict[str, list[str]]
    now: int
    num_shards: int
    examples_uri: str
    log_of_file: tuple[int, ...]

    def spec_of(self, name: str, file_index: int) -> DatasetSpec:
        """The spec that says how to read a file of a table."""
        if name != INTERACTIONS:
            return self.spec
        return self.spec.logs[self.log_of_file[file_index]]

    def first_files(self, name: str) -> list[int]:
        """Indices of a table's first file; of the logs', one for each."""
        if name != INTERACTIONS:
            return [0]
        return [self.log_of_file.index(log) for log in set(self.log_of_file)]

    def prefix_of(self, file_index: int) -> str:
        """What the ids of a log's users get in front."""
        log = self.log_of_file[file_index]
        return self.spec.mix[log - 1].prefix if log else ""


def entity_of(spec: DatasetSpec, name: str) -> EntitySpec:
    """Returns the spec of the users or the items."""
    return spec.users if name == USERS else spec.items


def feature_names(entity: EntitySpec) -> list[str]:
    """Returns the names of the features of the users or the items."""
    return [source.feature.name for source in entity.features]


def table_of(spec: DatasetSpec, name: str) -> TableSpec | None:
    """Returns how to read a table; None if the dataset has none."""
    return (
        spec.interactions
        if name == INTERACTIONS
        else entity_of(spec, name).table
    )


def wanted_columns(spec: DatasetSpec, name: str) -> list[str]:
    """Returns the columns of a table that are read."""
    if name == INTERACTIONS:
        return parsing.interaction_columns(spec)
    return parsing.entity_columns(entity_of(spec, name))
