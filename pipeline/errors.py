"""Errors of the pipeline package.

PipelineError
├── ConfigError       a run that can't be started or found as asked
├── FetchError        a dataset's files can't be had
├── RunLockedError    another process runs the same folder
├── StageError        a node of the pipeline failed
├── NotBlessedError   the new model is not good enough to be served
├── ColdStreamError   the cold users' stream can't be read
├── ReplayError       the replay through the gateway can't go on
│   └── ReplayInterrupted   somebody pressed Ctrl-C
└── SkewError         served figures differ from the offline evaluator's
"""


class PipelineError(Exception):
    """Base of the errors raised by `pipeline`."""


class ConfigError(PipelineError):
    """What was asked for can't be done, such as a run that is not there."""


class FetchError(PipelineError):
    """A dataset's files can't be had, or are not the right ones."""


class RunLockedError(PipelineError):
    """Another process is running a pipeline in the same run folder."""


class StageError(PipelineError):
    """A node of the pipeline failed; its message says which, and why."""


class NotBlessedError(PipelineError):
    """The new model was refused, and not pushed."""


class ColdStreamError(PipelineError):
    """The cold users' stream is missing or can't be read."""


class ReplayError(PipelineError):
    """The replay through the gateway can't go on."""


class ReplayInterrupted(ReplayError):  # noqa: N818
    """Somebody stopped the replay."""


class SkewError(PipelineError):
    """What is served differs from what was evaluated offline."""
