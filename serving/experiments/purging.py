"""Removes from exposure logs what must not stay."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

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
    left for the next time; their users are out of every report already.

    Args:
        folder: Of the exposure log.
        keep_days: Files not written to for so long are removed.
        clock: Seconds since 1970.

    Returns:
        How many files, and how many lines of others, were removed.

    Raises:
        LaunchError: There is no log.
    """
    forgotten = {
        line["user"]: line["ms"]
        for line in sorted(read_lines(folder), key=lambda line: line["ms"])
        if line["kind"] == "forget"
    }
    files = lines = 0
    for path in sorted(folder.glob(FILE_PATTERN)):
        age = clock() - path.stat().st_mtime
        if age > keep_days * _SECONDS_PER_DAY:
            path.unlink()
            files += 1
        elif age > _SECONDS_PER_DAY and forgotten:
            lines += _rewrite(path, forgotten)
    return files, lines


def _rewrite(path: Path, forgotten: dict[str, float]) -> int:
    """Leaves out the lines of forgotten users; returns how many."""
    # One damaged byte must not keep everybody else's lines.
    text = path.read_text(encoding="utf-8", errors="replace")
    before = text.splitlines(keepends=True)
    after = [text for text in before if not _of_forgotten(text, forgotten)]
    if len(after) < len(before):
        new = path.with_suffix(".new")
        new.write_text("".join(after), encoding="utf-8")
        # Its age is what the file is removed for in the end.
        shutil.copystat(path, new)
        new.replace(path)
    return len(before) - len(after)


def _of_forgotten(text: str, forgotten: dict[str, float]) -> bool:
    line = parse_line(text)
    if line is None:
        # Cut off by a kill: good for nothing, and may name anybody.
        return True
    # The line that says forget stays: other files may need it.
    stays = line["kind"] == "forget"
    return not stays and bool(line["ms"] <= forgotten.get(line["user"], -1))
