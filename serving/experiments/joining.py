"""Joins what users were shown with what they then made of it.

An outcome counts for the newest exposure of the user, in each arm, that held
the item and came before it, within a horizon. Of several outcomes of one
exposed item the last one counts.
"""

import collections
import dataclasses
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from serving.errors import LaunchError
from serving.experiments.exposure_log import FILE_PATTERN

# An arm of an experiment, by their names.
ArmKey = tuple[str, str]

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Exposure:
    """What one user was shown once.

    Attributes:
        user: The user's name in the log.
        ms: When, milliseconds since 1970, UTC, with what fractions there are.
        items: The items, best first.
        scores: Their scores.
        labels: What the user made of some of them, by item.
    """

    user: str
    ms: float
    items: Sequence[str]
    scores: Sequence[float]
    labels: dict[str, float] = dataclasses.field(default_factory=dict)


def read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of all files, each file in its order.

    Lines that a kill cut off are left out and counted in the log.

    Raises:
        LaunchError: There is no file, or one can't be read.
    """
    paths = sorted(folder.glob(FILE_PATTERN))
    if not paths:
        raise LaunchError(
            f"{folder} holds no exposure log ({FILE_PATTERN}). It is the "
            "folder that the experiments file names as `log`."
        )
    broken = 0
    for path in paths:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                for text in file:
                    line = parse_line(text)
                    if line is None:
                        broken += 1
                    else:
                        yield line
        except OSError as error:
            raise LaunchError(f"Can't read {path}: {error}") from error
    if broken:
        _log.warning("%d lines can't be read and are left out", broken)


def parse_line(text: str) -> dict[str, Any] | None:
    """Returns what a line says; None if it is damaged or says nothing."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or not {"kind", "ms", "user"} <= line.keys():
        return None
    return line


def join(
    lines: Iterable[dict[str, Any]], horizon_seconds: float
) -> dict[ArmKey, list[Exposure]]:
    """Returns the exposures of each arm with the labels that came back.

    Args:
        lines: Of the log, in any order.
        horizon_seconds: How long after an exposure an outcome counts for it.
    """
    # At one moment: first shown, then liked, and forgetting comes last.
    order = {"exposure": 0, "outcome": 1, "forget": 2}
    known = [line for line in lines if line["kind"] in order]
    known.sort(key=lambda line: (line["ms"], order[line["kind"]]))
    forgotten = {
        line["user"]: line["ms"] for line in known if line["kind"] == "forget"
    }
    joined: dict[ArmKey, list[Exposure]] = collections.defaultdict(list)
    # The newest exposure that held an item, by user, item and arm.
    newest: dict[tuple[str, str], dict[ArmKey, Exposure]] = (
        collections.defaultdict(dict)
    )
    seen_events: set[tuple[str, str]] = set()
    for line in known:
        user = line["user"]
        if line["kind"] == "forget" or line["ms"] <= forgotten.get(user, -1):
            continue
        if line["kind"] == "exposure":
            arm = (line["experiment"], line["arm"])
            exposure = Exposure(user, line["ms"], line["items"], line["scores"])
            joined[arm].append(exposure)
            for item in exposure.items:
                newest[user, item][arm] = exposure
        elif (user, line["event"]) not in seen_events:
            seen_events.add((user, line["event"]))
            for exposure in newest.get((user, line["item"]), {}).values():
                if line["ms"] - exposure.ms <= horizon_seconds * 1000:
                    exposure.labels[line["item"]] = line["label"]
    return dict(joined)
