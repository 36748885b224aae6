import asyncio
import contextlib
import json
import os
import stat

import numpy as np
import pytest

from serving.errors import LaunchError
from serving.experiments.assignment import Assignment
from serving.experiments.config import Arm, Experiment
from serving.experiments.exposure_log import MAX_ITEMS, ExposureLog, Pseudonyms
from serving.experiments.joining import join
from serving.experiments.purging import purge
from tests.helpers.clock import Clock
from tests.helpers.patience import PATIENT_SECONDS

PLACE = Assignment(Experiment("x", (Arm("a"),)), Arm("a"))
DAY = 86_400.0


@pytest.fixture
def clock():
    return Clock(1_700_000_000.0)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def make_log(folder, tmp_path, clock):
    """Opens logs; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(where=folder):
            log = ExposureLog(where, tmp_path / "key", pytest.fail, clock)
            stack.callback(close, log)
            return log

        yield make


@pytest.fixture
def log(make_log):
    return make_log()


def close(log):
    log.close(PATIENT_SECONDS)


def forget(log, user):
    asyncio.run(log.forget(user))


def show(log, user="u", items=("1", "2"), scores=(0.5, 1.25)):
    log.exposure(PLACE, user, "m", 3, items, np.array(scores, np.float32))


def lines(folder, *logs):
    """Returns what is written, by those still open after they are closed."""
    for log in logs:
        close(log)
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_exposure_names_all_that_a_report_needs_best_items_first(log, folder):
    show(log)
    (line,) = lines(folder, log)
    assert line.pop("user") != "u"
    assert line == {
        "ms": 1_700_000_000_000,
        "kind": "exposure",
        "experiment": "x",
        "arm": "a",
        "model": "m",
        "version": 3,
        "items": ["2", "1"],
        "scores": [1.25, 0.5],
    }


def test_user_ids_are_nowhere_in_the_log(log, folder):
    show(log, "ann@example.org")
    log.outcome("ann@example.org", "event-1", "1", 1.0)
    forget(log, "ann@example.org")
    written = "".join(path.read_text() for path in folder.glob("*"))
    assert "ann" not in written
    assert len({line["user"] for line in lines(folder)}) == 1


def test_long_lists_keep_their_best(log, folder):
    size = 5 * MAX_ITEMS
    scores = np.random.default_rng(0).permutation(size)
    show(log, items=[str(score) for score in scores], scores=scores)
    (line,) = lines(folder, log)
    best = range(size - 1, size - 1 - MAX_ITEMS, -1)
    assert line["items"] == [str(score) for score in best]


def test_answers_within_one_millisecond_keep_their_order(log, folder, clock):
    for label in (1.0, 0.0):
        clock.now += 1e-4
        show(log)
        clock.now += 1e-4
        log.outcome("u", f"e{label}", "2", label)
    joined = join(lines(folder, log), horizon_seconds=1.0)["x", "a"]
    assert [exposure.labels for exposure in joined] == [{"2": 1.0}, {"2": 0.0}]


def test_two_gateways_with_one_key_name_users_alike(folder, make_log):
    names = set()
    for number in range(2):
        log = make_log(folder / str(number))
        log.outcome("u", "e", "1", 1.0)
        names |= {line["user"] for line in lines(folder / str(number), log)}
    assert len(names) == 1


def test_another_key_names_users_otherwise(tmp_path):
    first, second = (Pseudonyms(tmp_path / name) for name in "ab")
    assert first.of("u") != second.of("u")
    assert first.of("u") != first.of("v")


def test_key_is_for_its_owner_only(log, tmp_path):
    mode = stat.S_IMODE((tmp_path / "key").stat().st_mode)
    assert mode == 0o600


@pytest.mark.parametrize(
    "text",
    ["no key", "", "ab" * 8, "ab" * 65],
    ids=["no key", "empty", "short", "longer than the hash takes"],
)
def test_key_that_can_name_nobody_is_refused(folder, tmp_path, text):
    (tmp_path / "key").write_text(text)
    with pytest.raises(LaunchError, match="Can't log exposures"):
        ExposureLog(folder, tmp_path / "key", pytest.fail)


def test_purge_removes_old_files_and_forgotten_users(log, folder, clock):
    show(log, "ann")
    show(log, "bob")
    log.outcome("ann", "e", "1", 1.0)
    clock.now += 3 * DAY
    forget(log, "ann")
    show(log, "ann")
    close(log)
    written = sorted(folder.glob("*.jsonl"))
    stamp(written[0], clock.now - 3 * DAY)
    stamp(written[1], clock.now)
    assert purge(folder, keep_days=90, clock=clock) == (0, 2)
    kinds = [(line["kind"], line["ms"]) for line in lines(folder)]
    now = int(clock.now * 1000)
    assert kinds == [
        ("exposure", 1_700_000_000_000),
        ("forget", now),
        ("exposure", now),
    ]
    assert purge(folder, keep_days=2, clock=clock) == (1, 0)
    assert [p.name for p in folder.glob("*.jsonl")] == [written[1].name]


def test_user_deleted_through_one_gateway_goes_from_all_of_their_files(
    folder, make_log, clock
):
    one, other = make_log(), make_log()
    for log in (one, other):
        show(log, "ann")
        show(log, "bob")
    clock.now += 1.0
    forget(other, "ann")
    (joined,) = join(lines(folder, one, other), horizon_seconds=1.0).values()
    assert len(joined) == 2
    for path in folder.glob("*.jsonl"):
        stamp(path, clock.now)
    clock.now += 2 * DAY
    assert purge(folder, keep_days=90, clock=clock) == (0, 2)
    kinds = sorted(line["kind"] for line in lines(folder))
    assert kinds == ["exposure", "exposure", "forget"]


def test_damaged_lines_keep_nobody_elses_in_a_purge(log, folder, clock):
    show(log, "ann")
    show(log, "bob")
    forget(log, "ann")
    close(log)
    (path,) = folder.glob("*.jsonl")
    # As a disk may leave them, and somebody's note.
    with path.open("ab") as file:
        file.write(b'\xff\xfe{"kind"\n"torn"\n{"note": "moved"}\n')
    stamp(path, clock.now)
    clock.now += 2 * DAY
    assert purge(folder, keep_days=90, clock=clock) == (0, 4)
    assert [line["kind"] for line in lines(folder)] == ["exposure", "forget"]


def test_purge_leaves_files_that_a_gateway_may_still_write_to(
    log, folder, clock
):
    show(log)
    close(log)
    (path,) = folder.glob("*.jsonl")
    stamp(path, clock.now)
    clock.now += 0.9 * DAY
    for days in (1e-9, 0.5, 1.0):
        assert purge(folder, keep_days=days, clock=clock) == (0, 0)
    clock.now += 0.2 * DAY
    assert purge(folder, keep_days=0.5, clock=clock) == (1, 0)


@pytest.mark.parametrize("days", [0.0, -1.0, float("nan")])
def test_purge_refuses_to_keep_files_for_no_time(log, folder, clock, days):
    show(log)
    close(log)
    with pytest.raises(LaunchError, match="must be more than 0"):
        purge(folder, days, clock)


def test_purge_keeps_forgotten_users_of_whom_younger_files_have_lines(
    folder, make_log, clock
):
    busy, idle = make_log(), make_log()
    for user in ("ann", "bob"):
        show(busy, user)
        show(idle, user)
    clock.now += 1.0
    forget(idle, "ann")
    close(idle)
    close(busy)
    (old,) = (p for p in folder.glob("*.jsonl") if "forget" in p.read_text())
    (young,) = {*folder.glob("*.jsonl")} - {old}
    stamp(old, clock.now)
    # Somebody else was shown something in the evening.
    stamp(young, clock.now + 0.9 * DAY)
    clock.now += 1.5 * DAY
    assert purge(folder, keep_days=1, clock=clock) == (0, 2)
    (exposures,) = join(lines(folder), horizon_seconds=1.0).values()
    assert len(exposures) == 1
    clock.now += DAY
    # The younger one loses her line, and then there is nothing to keep.
    assert purge(folder, keep_days=2, clock=clock) == (1, 1)
    (line,) = lines(folder)
    assert line["kind"] == "exposure"


def stamp(path, seconds):
    os.utime(path, (seconds, seconds))


def test_purge_keeps_the_name_of_the_folder_in_its_refusal(tmp_path):
    with pytest.raises(LaunchError, match="holds no exposure log"):
        purge(tmp_path, 1)
