"""Reads typed values out of a mapping, and says precisely what is wrong.

Every error names the file, the key in it and what was expected, and suggests
the known key or value closest to what was written.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from components.errors import DatasetSpecError

_REQUIRED: Any = object()


def closest(word: str, known: Collection[str]) -> str:
    """Returns " Did you mean 'x'?" for the known word most like `word`."""
    match = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean {match[0]!r}?" if match else ""


class Section:
    """One mapping of a spec, with the file and the key it was found under.

    Each value is taken once; `finish` then rejects what nobody asked for, so
    that a misspelt key is an error and not a silent default.
    """

    def __init__(self, values: Any, source: str, key: str = "") -> None:
        """Args: the mapping; the file it is from; its dotted key there."""
        self.source = source
        self.key = key
        if not isinstance(values, Mapping):
            raise self.error("", f"expected a mapping of keys, got {values!r}")
        self._values = dict(values)
        self._asked: set[str] = set()

    def error(self, key: str, problem: str) -> DatasetSpecError:
        """Returns the error that `problem` was found at `key`."""
        path = ".".join(part for part in (self.key, key) if part)
        where = f"{self.source}: {path}" if path else self.source
        return DatasetSpecError(f"{where}: {problem}")

    def has(self, key: str) -> bool:
        """Whether the section has the key (and asks for it)."""
        self._asked.add(key)
        return key in self._values

    def take(
        self,
        key: str,
        types: type | tuple[type, ...],
        expected: str,
        default: Any = _REQUIRED,
    ) -> Any:
        """Returns the value of a key, checked for its type.

        Args:
            key: The key.
            types: The type or types that the value may have.
            expected: What to say was expected, such as "a text".
            default: Returned when the key is absent; without it the key is
                required.

        Raises:
            DatasetSpecError: The key is required and absent, or its value
                has another type.
        """
        self._asked.add(key)
        if key not in self._values:
            if default is _REQUIRED:
                others = sorted(set(self._values) - self._asked)
                raise self.error(
                    key,
                    f"this key is required; expected {expected}."
                    + closest(key, others).replace("mean", "write it as"),
                )
            return default
        value = self._values[key]
        # bool is an int in Python, but never a number in a spec.
        is_bool = isinstance(value, bool) and types is not bool
        if is_bool or not isinstance(value, types):
            raise self.error(key, f"expected {expected}, got {value!r}")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """Returns a non-empty text (or the default, whatever it is)."""
        value = self.take(key, str, "a text", default)
        if value == "" and default != "":
            raise self.error(key, "expected a text, got an empty one")
        return str(value)

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """Returns a number."""
        return float(self.take(key, (int, float), "a number", default))

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        """Returns a whole number."""
        return int(self.take(key, int, "a whole number", default))

    def flag(self, key: str, default: bool) -> bool:
        """Returns true or false."""
        return bool(self.take(key, bool, "true or false", default))

    def texts(self, key: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        """Returns a list of texts; one text counts as a list of one."""
        value = self.take(
            key, (str, list, tuple), "a text or a list of texts", default
        )
        value = [value] if isinstance(value, str) else list(value)
        for text in value:
            if not isinstance(text, str) or not text:
                raise self.error(
                    key,
                    f"expected texts only, got {text!r}"
                    + (
                        " (put quotes around it)"
                        if isinstance(text, (int, float))
                        else ""
                    ),
                )
        return tuple(value)

    def choice(
        self, key: str, known: Collection[str], default: Any = _REQUIRED
    ) -> str:
        """Returns a text that must be one of `known`."""
        value = self.text(key, default)
        if value not in known:
            raise self.error(
                key,
                f"expected one of {', '.join(known)}, got {value!r}."
                + closest(value, known),
            )
        return value

    def section(self, key: str, default: Any = _REQUIRED) -> "Section":
        """Returns the section under a key."""
        value = self.take(key, Mapping, "a mapping of keys", default)
        path = ".".join(part for part in (self.key, key) if part)
        return Section(value, self.source, path)

    def names(self) -> tuple[str, ...]:
        """Returns the keys in the order they were written."""
        return tuple(str(key) for key in self._values)

    def finish(self) -> None:
        """Rejects the keys that were never asked for.

        Raises:
            DatasetSpecError: There is a key that means nothing here.
        """
        for key in self.names():
            if key not in self._asked:
                raise self.error(
                    key,
                    "this key is not known here; known are "
                    f"{', '.join(sorted(self._asked))}."
                    + closest(key, self._asked),
                )
