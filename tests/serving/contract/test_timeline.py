import numpy as np

from serving.contract.timeline import (
    FIRST_SUPPORT,
    LEARN,
    RANK,
    arrival_order,
    timeline,
)
from tests.helpers.stream_users import ToyUser, make_users


def user(user_id, num_events, start, step=60):
    items = ("001",) * num_events
    times = start + step * np.arange(num_events)
    return ToyUser(user_id, items, (1.0,) * num_events, times)


def test_users_are_interleaved_and_arrive_in_order_of_first_event():
    users = make_users(12)
    ordered = [users[index] for index in arrival_order(users)]
    firsts = [u.timestamps[0] for u in ordered]
    assert firsts == sorted(firsts)
    steps = timeline(ordered)
    assert [s.time for s in steps] == sorted(s.time for s in steps)
    arrivals = [step.arrival for step in steps]
    assert arrivals != sorted(arrivals)


def test_users_who_arrive_at_once_are_ordered_by_id():
    users = [user("b", 11, 5), user("a", 11, 5), user("c", 11, 4)]
    assert arrival_order(users) == [2, 1, 0]


def test_a_window_is_ranked_at_its_first_event_and_learned_at_its_last():
    steps = timeline([user("u", 25, 1000)])
    assert [(s.kind, s.window, s.time, len(s.rows)) for s in steps] == [
        (FIRST_SUPPORT, -1, 1000 + 9 * 60, 10),
        (RANK, 0, 1000 + 10 * 60, 10),
        (LEARN, 0, 1000 + 19 * 60, 10),
        (RANK, 1, 1000 + 20 * 60, 5),
        (LEARN, 1, 1000 + 24 * 60, 5),
    ]


def test_steps_of_a_user_keep_their_order_when_all_events_share_a_time():
    steps = timeline([user("u", 45, 0, step=0)])
    orders = [step.order for step in steps]
    assert orders == sorted(orders)
    assert [s.window for s in steps if s.kind == LEARN] == [0, 1, 2, 3]
