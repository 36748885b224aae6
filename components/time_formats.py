"""The strptime formats that times of a log may be declared in.

A format is read by Arrow, and where that is not enough by Python, so it may
only say what both understand.
"""

import re

# What C has and Python lacks, spelt out.
_SHORTHANDS = {
    "%D": "%m/%d/%y",
    "%F": "%Y-%m-%d",
    "%R": "%H:%M",
    "%T": "%H:%M:%S",
    "%e": "%d",
    "%h": "%b",
}
_KNOWN = frozenset(f"%{letter}" for letter in "aAbBcdfHIjmMpSUwWxXyYzZ%")
_DIRECTIVE = re.compile("%.?", re.DOTALL)


def spell_out(layout: str) -> str:
    """Returns the format without C's shorthands, such as %F and %T."""
    return _DIRECTIVE.sub(
        lambda found: _SHORTHANDS.get(found[0], found[0]), layout
    )


def unknown_directives(layout: str) -> list[str]:
    """Returns what of a format nobody could read, such as %s."""
    used = _DIRECTIVE.findall(spell_out(layout))
    return sorted(set(used) - _KNOWN)
