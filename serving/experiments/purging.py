"""Removes from exposure logs what must not stay."""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from serving.errors import LaunchError
from serving.experiments.exposure_log import FILE_PATTERN
from serving.experiments.joining import parse_line, read_lines

_SECONDS_PER_DAY = 86_400.0


def purge(
    folder: Path,
    keep_days: float,
    clock: Callable[[], float] = time.time,
) -> tuple[int, int]:
    """Removes old files, and forgotten users out of the others.

    Files that a gateway may still write to (written to within a day) are
    left for the next time, however short the others are kept. Their users are
    out of every report already, so what says that stays as long as they do.

    Args:
        folder: Of the exposure log.
        keep_days: Files not written to for so long are removed.
        clock: Seconds since 1970.

    Returns:
        How many files, and how many lines of others, were removed.

    Raises:
        LaunchError: There is no log, or files would be kept for no time.
    """
    if not keep_days > 0.0:
        raise LaunchError(
            f"How many days files are kept must be more than 0, not "
            f"{keep_days}."
        )
    forgotten = {
        line["user"]: line["ms"]
        for line in sorted(read_lines(folder), key=lambda line: line["ms"])
        if line["kind"] == "forget"
    }
    now = clock()
    ages = {
        path: now - path.stat().st_mtime
        for path in sorted(folder.glob(FILE_PATTERN))
    }
    settled = {path: a for path, a in ages.items() if a > _SECONDS_PER_DAY}
    waiting = _users_to_forget(ages.keys() - settled.keys(), forgotten)

    def stays_forgotten(line: dict[str, Any] | None) -> bool:
        if line is None:
            return False
        return line["kind"] == "forget" and line["user"] in waiting

    def stays(line: dict[str, Any] | None) -> bool:
        # One cut off by a kill is good for nothing, and may name anybody.
        return line is not None and not _is_of_forgotten(line, forgotten)

    files = lines = 0
    for path, age in settled.items():
        if age <= keep_days * _SECONDS_PER_DAY:
            lines += _rewrite(path, stays) if forgotten else 0
        elif any(map(stays_forgotten, map(parse_line, _texts(path)))):
            lines += _rewrite(path, stays_forgotten)
        else:
            path.unlink()
            files += 1
    return files, lines


def _users_to_forget(
    paths: Iterable[Path], forgotten: dict[str, float]
) -> set[str]:
    """Returns the forgotten users of whom files have lines."""
    lines = (parse_line(text) for path in paths for text in _texts(path))
    return {
        line["user"]
        for line in lines
        if line is not None and _is_of_forgotten(line, forgotten)
    }


def _rewrite(path: Path, stays: Callable[[dict[str, Any] | None], bool]) -> int:
    """Leaves out all lines but those that stay; returns how many."""
    before = _texts(path)
    after = [text for text in before if stays(parse_line(text))]
    if len(after) < len(before):
        new = path.with_suffix(".new")
        new.write_text("".join(after), encoding="utf-8")
        # Its age is what the file is removed for in the end.
        shutil.copystat(path, new)
        new.replace(path)
    return len(before) - len(after)


def _texts(path: Path) -> list[str]:
    """Returns a file's lines."""
    # One damaged byte must not keep everybody else's lines.
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.splitlines(keepends=True)


def _is_of_forgotten(line: dict[str, Any], forgotten: dict[str, float]) -> bool:
    # The line that says forget stays: other files may need it.
    if line["kind"] == "forget":
        return False
    return bool(line["ms"] <= forgotten.get(line["user"], -1))
