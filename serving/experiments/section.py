"""Reads a part of a file, and says of what is wrong where it stands."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from serving.errors import LaunchError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_T = TypeVar("_T")


def check_unique(names: list[str], where: str) -> None:
    """Refuses a name that is there twice."""
    for name in names:
        if names.count(name) > 1:
            raise LaunchError(f"{where}: the name {name!r} is there twice")


class Section:
    """A mapping of the file, and where it stands in it."""

    def __init__(
        self, content: Any, where: str, keys: set[str] | None = None
    ) -> None:
        if not isinstance(content, dict):
            raise LaunchError(
                f"{where}: must be a mapping of keys to values, got "
                f"{type(content).__name__}"
            )
        self.content: Mapping[str, Any] = content
        self.where = where
        if keys is not None:
            self.allow(keys)

    def allow(self, keys: set[str]) -> None:
        """Refuses keys other than these."""
        unknown = sorted(map(str, self.content.keys() - keys))
        if unknown:
            raise LaunchError(
                f"{self.where}: there is no key {', '.join(unknown)}; there "
                f"are {', '.join(sorted(keys))}"
            )

    def take(self, key: str, kind: type[_T], default: Any) -> Any:
        """Returns a value of a type, or the default."""
        value = self.content.get(key, default)
        if kind is float and isinstance(value, int):
            value = float(value)
        if value is default or (
            isinstance(value, kind) and not isinstance(value, bool)
        ):
            return value
        raise LaunchError(
            f"{self.where}.{key}: {value!r} is not of type {kind.__name__}"
        )

    def name(self) -> str:
        """Returns the name."""
        name = self.content.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise LaunchError(
                f"{self.where}.name: {name!r} is not 1 to 64 letters, "
                "digits, dots, - or _"
            )
        return name

    def each(self, key: str, read: "Callable[[Section], _T]") -> tuple[_T, ...]:
        """Reads a list of sections with unique names."""
        items = self.take(key, list, [])
        sections = [
            Section(item, f"{self.where}: {key}[{number}]")
            for number, item in enumerate(items)
        ]
        values = tuple(map(read, sections))
        check_unique([s.name() for s in sections], f"{self.where}: {key}")
        return values
