"""The progress bar of the replay: rate, time left and running AUC."""

import time

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from pipeline.replay import Progress
from serving.contract import metrics

# Sorting all rows again takes milliseconds; after each window it would cost
# more than the calls that are being measured.
_SECONDS_BETWEEN_AUCS = 1.0


class ReplayProgress:
    """Shows how far a replay is; pass it as `on_progress`.

    Example:
        with ReplayProgress(console) as progress:
            result = replay(client, stream, on_progress=progress)
    """

    def __init__(self, console: Console | None = None) -> None:
        """Prepares the bar.

        Args:
            console: Where to draw; standard output by default.
        """
        self._bar = RichProgress(
            # Narrow, so that the line fits 80 columns with the figures.
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[aucs]}"),
            console=console,
        )
        self._task = self._bar.add_task("replay", total=None, rate="", aucs="")
        self._start = time.monotonic()
        self._last_aucs = 0.0

    def __enter__(self) -> "ReplayProgress":
        """Draws the bar."""
        self._start = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leaves the bar as it is."""
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Moves the bar on; now and then works out the AUC so far."""
        now = time.monotonic()
        rate = progress.done / max(now - self._start, 1e-9)
        self._bar.update(
            self._task,
            completed=progress.done,
            total=progress.total,
            rate=f"{rate:.0f}/s",
        )
        is_last = progress.done == progress.total
        if is_last or now - self._last_aucs >= _SECONDS_BETWEEN_AUCS:
            self._last_aucs = now
            self._bar.update(self._task, aucs=_running_aucs(progress))


def _running_aucs(progress: Progress) -> str:
    figures = {
        regime: metrics.auc(
            np.concatenate(progress.labels[: len(windows)]),
            np.concatenate(windows),
        )
        for regime, windows in progress.scores.items()
        if windows
    }
    return "AUC " + " ".join(f"{r} {v:.3f}" for r, v in figures.items())
