"""Errors of the components package.

    ComponentError
    ├── DatasetSpecError     a dataset spec that can't be read or is wrong
    ├── InputDataError       input files that don't hold what the spec says
    └── DeadLetterShareError more unusable rows than the run may drop
"""


class ComponentError(Exception):
    """Base of the errors raised by `components`."""


class DatasetSpecError(ComponentError):
    """A dataset spec has an unknown key, a wrong type or a contradiction."""


class InputDataError(ComponentError):
    """An input file is missing, unreadable or lacks a column of the spec."""


class DeadLetterShareError(ComponentError):
    """More rows than allowed can't be used, so the run must not go on."""
