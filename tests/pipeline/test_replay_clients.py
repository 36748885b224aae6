import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ReplayError
from pipeline.replay import replay
from pipeline.replay_clients import InOrder, walk
from pipeline.replay_session import Session
from serving.contract.regimes import REGIMES
from serving.contract.timeline import timeline
from tests.helpers.cold_world import RecorderClient, make_stream


@given(st.permutations(range(12)))
def test_items_are_passed_on_in_their_order(numbers):
    passed = []
    in_order = InOrder(passed.append)
    for number in numbers:
        in_order.put(number, number)
    assert passed == list(range(12))


@pytest.mark.parametrize("clients", [1, 3, 64])
def test_each_step_is_taken_once_and_each_users_in_order(clients):
    steps = list(timeline(make_stream().users))
    taken = []
    walk(steps, clients, lambda number, step: taken.append((number, step)))
    assert sorted(number for number, _ in taken) == list(range(len(steps)))
    for arrival in {step.arrival for step in steps}:
        own = [n for n, step in taken if step.arrival == arrival]
        assert own == sorted(own)


def test_clients_call_at_the_same_time():
    steps = list(timeline(make_stream().users))
    together = threading.Barrier(2, timeout=20)
    met = set()

    def take(number, step):
        if step.arrival in (0, 1) and step.arrival not in met:
            met.add(step.arrival)
            together.wait()

    walk(steps, 2, take)
    assert met == {0, 1}


def test_failure_of_one_client_ends_the_walk():
    steps = list(timeline(make_stream().users))

    def take(number, step):
        raise ReplayError("no")

    with pytest.raises(ReplayError, match="no"):
        walk(steps, 4, take)


def test_many_clients_get_what_one_gets_where_users_do_not_meet():
    stream = make_stream()
    results = []
    for clients in (1, 8):
        client = RecorderClient()
        session = Session(client, token="t")
        progress = []
        results.append(
            replay(
                client,
                stream,
                session=session,
                clients=clients,
                on_progress=lambda each, seen=progress: seen.append(each.done),
            )
        )
        assert progress == list(range(1, len(progress) + 1))
        assert len(results[-1].rank_ms) == len(results[0].rank_ms)
    one, many = results
    for name in ("user", "window", "label"):
        np.testing.assert_array_equal(
            getattr(one.rows, name), getattr(many.rows, name)
        )
    np.testing.assert_array_equal(one.item_ids, many.item_ids)
    for regime in REGIMES:
        np.testing.assert_array_equal(one.scores[regime], many.scores[regime])
