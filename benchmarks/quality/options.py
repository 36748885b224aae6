"""What the benchmark is asked to do."""

import dataclasses
import pathlib

from serving.contract.protocol import META_TEST


@dataclasses.dataclass(frozen=True)
class Options:
    """What to do with each dataset.

    Attributes:
        trainings: Which trainings to tune, run and report.
        presets: Whether ours is trained with each partition preset, too.
        seeds: Seeds of each training.
        trials: Of tuning.
        draws: Of the bootstrap.
        work_dir: Where trials and results are kept.
        output: The JSON file; plots go into a folder beside it.
        judged_split: Whose users are scored.
    """

    trainings: tuple[str, ...]
    presets: bool
    seeds: tuple[int, ...]
    trials: int
    draws: int
    work_dir: pathlib.Path
    output: pathlib.Path
    judged_split: str = META_TEST
