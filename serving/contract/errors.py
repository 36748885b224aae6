"""Errors of the contract.

ContractError
├── FeatureError      a feature declaration that can't be read
├── ManifestError     an adaptive manifest that can't be read or is wrong
└── MetaStateError    a meta state that can't be read or is wrong
"""


class ContractError(Exception):
    """Base of the errors raised by `serving.contract`."""


class FeatureError(ContractError):
    """A feature declaration has an unknown kind or a reserved name."""


class ManifestError(ContractError):
    """An adaptive manifest is missing, unreadable or inconsistent."""


class MetaStateError(ContractError):
    """A meta state, or the record of its versions, can't be read or used."""
