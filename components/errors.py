"""Errors of the components package.

ComponentError
├── DatasetSpecError     a dataset spec that can't be read or is wrong
├── InputDataError       input files that don't hold what the spec says
├── DeadLetterShareError more unusable rows than the run may drop
├── AnomalyError         examples that must not be learned from
├── EpisodeError         events that no episode can be made of
├── EvaluationError      models or examples that can't be evaluated
├── PushError            a base path that can't take a new version
└── ModelServerError     a model server that does not get to serving
"""


class ComponentError(Exception):
    """Base of the errors raised by `components`."""


class DatasetSpecError(ComponentError):
    """A dataset spec has an unknown key, a wrong type or a contradiction."""


class InputDataError(ComponentError):
    """An input file is missing, unreadable or lacks a column of the spec."""


class DeadLetterShareError(ComponentError):
    """More rows than allowed can't be used, so the run must not go on."""


class AnomalyError(ComponentError):
    """Examples break the schema so that nothing may be learned from them."""


class EpisodeError(ComponentError):
    """Transformed events lack what an episode is made of."""


class EvaluationError(ComponentError):
    """Models or examples lack what an evaluation needs."""


class PushError(ComponentError):
    """A version can't be put into, or taken out of, a base path safely."""


class ModelServerError(ComponentError):
    """A model server exits, can't load the model, or takes too long."""
