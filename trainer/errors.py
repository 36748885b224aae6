"""Errors of the trainer.

TrainerError
├── TrainerConfigError   a hyper-parameter that doesn't exist or can't be
├── EpisodeDataError     episodes or catalog that can't be trained on
├── PartitionError       adaptive weights that don't fit the partition
├── DivergenceError      a loss that is not finite
├── TuningError          a search without a trial that ended
└── ExportError          a graph that can't be exported
"""


class TrainerError(Exception):
    """Base of the errors raised by `trainer`."""


class TrainerConfigError(TrainerError):
    """A hyper-parameter is unknown or has a value that can't be."""


class EpisodeDataError(TrainerError):
    """There is nothing to train on, or records lack a column."""


class PartitionError(TrainerError):
    """Adaptive weights or a preset don't fit the model."""


class DivergenceError(TrainerError):
    """The loss is not finite any more."""


class TuningError(TrainerError):
    """No trial of a search came to its end."""


class ExportError(TrainerError):
    """A graph holds what a served one can't."""
