"""What a person who waits for a training wants to know, a line at a time.

Lines go to loggers of their own: a library prints nothing, and a command line
decides whether and how to show them (`pipeline.training_progress`).
"""

import logging
import time

# True for the moment; a line may take the place of the one before.
PROGRESS = logging.getLogger("trainer.progress")
# Worth keeping on the screen.
RESULTS = logging.getLogger("trainer.results")


class TrainingProgress:
    """Rate, time left and best figure of one training."""

    def __init__(self, max_steps: int, first_step: int = 0) -> None:
        """Starts the clock.

        Args:
            max_steps: Outer steps at most.
            first_step: Steps that an earlier process has taken.
        """
        self._max_steps = max_steps
        self._first_step = first_step
        self._start = time.monotonic()
        if first_step:
            PROGRESS.info("going on from the checkpoint of step %d", first_step)

    def report(
        self, steps: int, value: float, best: float, best_step: int
    ) -> None:
        """Reports an evaluation.

        Args:
            steps: Outer steps taken.
            value: Objective on meta_valid now.
            best: Best objective so far.
            best_step: Step it is from.
        """
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = (steps - self._first_step) / seconds
        left = round((self._max_steps - steps) / rate)
        PROGRESS.info(
            "step %d of %d  %.1f/s  at most %d:%02d left  meta_valid %.4f  "
            "best %.4f at %d",
            steps,
            self._max_steps,
            rate,
            *divmod(left, 60),
            value,
            best,
            best_step,
        )
