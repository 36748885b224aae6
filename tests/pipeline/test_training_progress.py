import io
import logging

import pytest

from pipeline import training_progress
from pipeline.training_progress import PROGRESS, RESULTS, show_progress

CLEAR = "\r\x1b[K"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def tell(name, message):
    logging.getLogger(name).info(message)


def test_on_a_terminal_progress_is_one_line_and_results_stay():
    screen = Terminal()
    with show_progress(screen) as display:
        tell(PROGRESS, "step 1")
        tell(PROGRESS, "step 2")
        tell(RESULTS, "kept step 1")
        display.clear()
        screen.write("somebody else's line\n")
        tell(PROGRESS, "step 3")
    assert screen.getvalue() == (
        f"{CLEAR}        step 1{CLEAR}        step 2{CLEAR}"
        "        kept step 1\nsomebody else's line\n"
        f"{CLEAR}        step 3{CLEAR}"
    )


def test_a_line_that_changes_is_never_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    screen = Terminal()
    with show_progress(screen):
        tell(PROGRESS, "x" * 100)
    assert screen.getvalue() == f"{CLEAR}        {'x' * 11}{CLEAR}"


def test_in_a_file_every_result_stands_but_progress_only_now_and_then(
    monkeypatch,
):
    now = iter([0.0, 1.0, 2.0, 20.0])
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: next(now))
    file = io.StringIO()
    with show_progress(file):
        tell(PROGRESS, "step 1")
        tell(PROGRESS, "step 2")
        tell(RESULTS, "kept step 1")
        tell(PROGRESS, "step 3")
    lines = [line.strip() for line in file.getvalue().splitlines()]
    assert lines == ["step 1", "kept step 1", "step 3"]


def test_nothing_is_shown_afterwards_be_it_by_an_error():
    file = io.StringIO()
    with pytest.raises(ValueError, match="of the run"), show_progress(file):
        raise ValueError("of the run")
    tell(RESULTS, "late")
    assert file.getvalue() == ""


def test_loggers_are_those_of_the_trainer():
    from trainer import progress

    assert progress.PROGRESS.name == PROGRESS
    assert progress.RESULTS.name == RESULTS
