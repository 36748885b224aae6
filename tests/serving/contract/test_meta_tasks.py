import numpy as np
import pytest

from serving.contract.errors import MetaStateError
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_tasks import TaskCollector, is_held_back
from serving.contract.support import SupportEvent

CONFIG = OnlineMetaConfig(
    query_events=4,
    tasks_per_update=2,
    held_back_share=0.0,
    held_back_tasks=1,
    min_held_back_tasks=1,
)


def events(*items):
    return [SupportEvent(item, float(len(item) % 2)) for item in items]


def some_ids(held_back, share=0.3):
    ids = (f"user-{n}" for n in range(10_000))
    return (i for i in ids if is_held_back(i, share) == held_back)


def collector(**changes):
    """One that judges by a task that has come already."""
    config = OnlineMetaConfig(
        **{**vars(CONFIG), "held_back_share": 0.3, **changes}
    )
    made = TaskCollector(config)
    judge = next(some_ids(held_back=True))
    made.observe(judge, "judge", events("x"), 1, events(*"abcd"))
    return made


def test_what_came_before_is_support_and_what_comes_is_query_set():
    made = collector(tasks_per_update=1)
    user = next(some_ids(held_back=False))
    batch = made.observe(user, "c", events("s", "t"), 6, events(*"abcde"))
    (task,) = batch.tasks
    assert task.user_id == user
    assert task.context == "c"
    assert task.support == tuple(events("s", "t"))
    assert task.query_set == tuple(events(*"abcde"))


def test_a_query_set_grows_until_it_is_full_with_the_support_of_its_start():
    made = collector(tasks_per_update=1)
    user = next(some_ids(held_back=False))
    assert made.observe(user, 0, events("s"), 1, events("a", "b")) is None
    assert made.observe(user, 1, events(*"sab"), 3, events("c")) is None
    batch = made.observe(user, 2, events(*"sabc"), 4, events("d"))
    (task,) = batch.tasks
    assert task.context == 0
    assert task.support == tuple(events("s"))
    assert task.query_set == tuple(events(*"abcd"))


def test_first_events_of_a_user_are_support_only():
    made = collector(tasks_per_update=1)
    user = next(some_ids(held_back=False))
    assert made.observe(user, 0, (), 0, events(*"abcdef")) is None
    assert made.observe(user, 0, events("a"), 6, events(*"ghij")) is not None


def test_zero_support_tasks_come_when_asked_for():
    made = collector(tasks_per_update=1, min_support_events=0)
    user = next(some_ids(held_back=False))
    (task,) = made.observe(user, 0, (), 0, events(*"abcd")).tasks
    assert task.support == ()


def test_batches_hold_tasks_in_order_of_arrival_and_none_twice():
    made = collector()
    ids = some_ids(held_back=False)
    seen = []
    for number in range(6):
        batch = made.observe(next(ids), number, events("s"), 1, events(*"abcd"))
        assert (batch is None) == (number % 2 == 0)
        if batch is not None:
            seen += [task.context for task in batch.tasks]
            assert [task.context for task in batch.held_back] == ["judge"]
    assert seen == list(range(6))


def test_held_back_users_only_judge():
    made = collector(held_back_tasks=3)
    for user, number in zip(some_ids(held_back=True), range(9), strict=False):
        assert not made.observe(user, number, events("s"), 1, events(*"abcd"))
    ids = some_ids(held_back=False)
    made.observe(next(ids), "a", events("s"), 1, events(*"abcd"))
    batch = made.observe(next(ids), "b", events("s"), 1, events(*"abcd"))
    assert [task.context for task in batch.tasks] == ["a", "b"]
    assert [task.context for task in batch.held_back] == [6, 7, 8]


def test_nothing_is_handed_out_while_nobody_can_judge():
    made = TaskCollector(CONFIG)
    for number in range(50):
        assert not made.observe(
            f"u{number}", number, events("s"), 1, events(*"abcd")
        )


def test_unfinished_query_sets_are_bounded():
    made = collector(tasks_per_update=1, max_open_users=2)
    ids = [user for user, _ in zip(some_ids(False), range(3), strict=False)]
    for user in ids:
        made.observe(user, 0, events("s"), 1, events(*"abc"))
    # The first one was forgotten: its query set begins anew.
    assert made.observe(ids[0], 0, events("s"), 4, events("d")) is None
    assert made.observe(ids[2], 0, events("s"), 4, events("d")) is not None


def test_a_deleted_user_is_in_no_batch():
    made = collector()
    ids = some_ids(held_back=False)
    gone, other = next(ids), next(ids)
    made.observe(gone, "gone", events("s"), 1, events(*"abcd"))
    made.observe(gone, "open", events("s"), 1, events(*"ab"))
    made.forget(gone)
    assert made.observe(gone, 0, events("s"), 1, events(*"ab")) is None
    made.observe(other, 1, events("s"), 1, events(*"abcd"))
    batch = made.observe(other, 2, events("s"), 1, events(*"abcd"))
    assert [task.context for task in batch.tasks] == [1, 2]


def test_it_tells_of_whom_it_holds_something():
    made = TaskCollector(CONFIG)
    ids = some_ids(held_back=False)
    complete, open_, gone = next(ids), next(ids), next(ids)
    for user, letters in ((complete, "abcd"), (open_, "ab"), (gone, "a")):
        made.observe(user, 0, events("s"), 1, events(*letters))
    assert made.user_ids == {complete, open_, gone}
    made.forget(gone)
    assert made.user_ids == {complete, open_}


def test_a_batch_without_some_users_keeps_the_order_of_the_others():
    made = collector(tasks_per_update=3)
    ids = some_ids(held_back=False)
    gone, other = next(ids), next(ids)
    for number, user in enumerate((other, gone, other)):
        batch = made.observe(user, number, events("s"), 1, events(*"abcd"))
    judge = next(some_ids(held_back=True))
    assert batch.user_ids == {gone, other, judge}
    left = batch.without({gone})
    assert [task.context for task in left.tasks] == [0, 2]
    assert left.held_back == batch.held_back
    assert batch.without({judge}).held_back == ()


def test_the_held_back_share_is_about_what_was_asked_for():
    share = np.mean([is_held_back(f"{n:05d}", 0.1) for n in range(20_000)])
    assert share == pytest.approx(0.1, abs=0.01)
    assert not any(is_held_back(f"{n}", 0.0) for n in range(100))


def test_a_user_in_another_namespace_is_on_the_same_side():
    for number in range(100):
        name = f"user {number}"
        assert is_held_back(name, 0.5) == is_held_back(f"t0/online/{name}", 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks_per_update": 0}, "tasks_per_update must be 1 or more"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\)"),
        ({"outer_lr": 0.0}, "outer_lr must be above 0"),
        ({"max_shift": float("nan")}, "max_shift must be above 0"),
        ({"held_back_tasks": 8}, r"min_held_back_tasks \(32\) can't be more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(MetaStateError, match=message):
        OnlineMetaConfig(**change)
