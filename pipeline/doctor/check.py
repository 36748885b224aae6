"""What a check of `adaptower doctor` finds."""

import dataclasses

OK = "ok"
WARNING = "warning"
ERROR = "error"


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: What was looked at.
        status: OK; WARNING for what works, only worse; ERROR for what stops
            a run.
        found: What is there.
        mend: What to do about it; empty if OK.
    """

    name: str
    status: str
    found: str
    mend: str = ""


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name, OK, found)


def warning(name: str, found: str, mend: str) -> Check:
    """It works, but not as well as it could."""
    return Check(name, WARNING, found, mend)


def error(name: str, found: str, mend: str) -> Check:
    """A run would fail."""
    return Check(name, ERROR, found, mend)
