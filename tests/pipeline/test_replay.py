from collections import defaultdict

import numpy as np
import pytest

from pipeline.cold_stream import ColdStream
from pipeline.errors import ReplayInterrupted
from pipeline.replay import replay
from pipeline.replay_session import Session
from serving.contract.regimes import JOINT, OFFLINE, ONLINE, REGIMES
from tests.helpers.cold_world import RecorderClient, make_stream, make_user


def _replayed(stream):
    client = RecorderClient()
    session = Session(client, token="t")
    return client, session, replay(client, stream, session=session)


def _by_user(client):
    calls = defaultdict(list)
    for call in client.calls:
        calls[call.user_id].append(call)
    return calls


def test_every_window_is_ranked_before_it_is_learned_from():
    stream = make_stream()
    client, session, _ = _replayed(stream)
    calls = _by_user(client)
    for user in stream.users:
        submitted: set[str] = set()
        for call in calls[session.served_id(ONLINE, user)]:
            if call.kind == "rank":
                assert not submitted & set(call.item_ids)
            else:
                submitted |= set(call.item_ids)


def test_online_knows_all_earlier_events_and_no_later_one_at_each_rank():
    stream = make_stream()
    client, session, _ = _replayed(stream)
    calls = _by_user(client)
    for user in stream.users:
        known: list[str] = []
        for call in calls[session.served_id(ONLINE, user)]:
            if call.kind == "feedback":
                known += call.item_ids
                continue
            first = list(user.item_ids).index(call.item_ids[0])
            assert known == list(user.item_ids[:first])


def test_nothing_later_than_a_ranked_event_was_submitted_by_any_user():
    stream = make_stream()
    client, session, _ = _replayed(stream)
    time_of = {
        item: time
        for user in stream.users
        for item, time in zip(user.item_ids, user.timestamps, strict=True)
    }
    for regime in REGIMES:
        latest_learned = 0
        for call in client.calls:
            if not call.user_id.startswith(session.prefix(regime)):
                continue
            times = [time_of[item] for item in call.item_ids]
            if call.kind == "feedback":
                latest_learned = max(latest_learned, *times)
            else:
                assert latest_learned <= min(times)


def test_offline_is_through_before_online_begins():
    """What online users teach moves what offline users would start from."""
    client, session, _ = _replayed(make_stream())
    is_online = [
        call.user_id.startswith(session.prefix(ONLINE)) for call in client.calls
    ]
    assert is_online == sorted(is_online)


def test_offline_submits_the_first_support_set_once_and_nothing_else():
    stream = make_stream()
    client, session, _ = _replayed(stream)
    calls = _by_user(client)
    for user in stream.users:
        feedback = [
            call
            for call in calls[session.served_id(OFFLINE, user)]
            if call.kind == "feedback"
        ]
        assert [call.item_ids for call in feedback] == [
            tuple(user.item_ids[:10])
        ]


def test_joint_never_submits_and_asks_the_joint_model():
    client, session, _ = _replayed(make_stream())
    joint = [
        call
        for call in client.calls
        if call.user_id.startswith(session.prefix(JOINT))
    ]
    assert joint
    assert {(call.kind, call.model) for call in joint} == {("rank", "joint")}


def test_regimes_and_sessions_share_no_user_id():
    stream = make_stream(2)
    client = RecorderClient()
    replay(client, stream)
    first = {call.user_id for call in client.calls}
    replay(client, stream)
    second = {call.user_id for call in client.calls} - first
    assert len(first) == len(second) == 3 * len(stream.users)


def test_event_ids_are_unique_within_a_user():
    client, _, _ = _replayed(make_stream())
    for calls in _by_user(client).values():
        ids = [event for call in calls for event in call.event_ids]
        assert len(ids) == len(set(ids))


def test_sampled_negatives_are_judged_and_submitted_with_label_zero():
    user = make_user("u", 32, 0, negatives=4)
    client, _, result = _replayed(ColdStream((user,)))
    feedback = [call for call in client.calls if call.kind == "feedback"]
    assert {len(call.labels) for call in feedback} == {50, 10}
    assert all(sum(c.labels) == len(c.labels) / 5 for c in feedback)
    assert len(result.rows.label) == 22 * 5
    np.testing.assert_array_equal(result.rows.label, user.labels[50:])


def test_rows_carry_the_labels_and_items_of_their_own_user_and_window():
    stream = make_stream()
    _, _, result = _replayed(stream)
    for arrival, user in enumerate(stream.users):
        for window, rows in user.windows:
            chosen = (result.rows.user == arrival) & (
                result.rows.window == window
            )
            np.testing.assert_array_equal(
                result.rows.label[chosen], user.labels[rows]
            )
            np.testing.assert_array_equal(
                result.item_ids[chosen], user.item_ids[rows]
            )
    assert {r: len(s) for r, s in result.scores.items()} == dict.fromkeys(
        REGIMES, len(result.rows.label)
    )


def test_streams_longer_than_the_protocol_are_cut_after_eight_windows():
    stream = ColdStream((make_user("u", 200, 0),))
    _, _, result = _replayed(stream)
    assert result.rows.window.max() == 7
    assert len(result.rows.label) == 80


def test_short_last_windows_are_judged_as_they_are():
    _, _, result = _replayed(ColdStream((make_user("u", 33, 0),)))
    assert np.bincount(result.rows.window).tolist() == [10, 10, 3]


def test_calls_and_degraded_answers_are_counted():
    stream = make_stream(2)
    client = RecorderClient(degraded=True)
    result = replay(client, stream)
    assert result.degraded == len(result.rank_ms) == 3 * stream.num_windows
    assert len(result.feedback_ms) == 2 * len(stream.users) + stream.num_windows
    assert set(result.model_versions) == {"adaptower/3", "joint/3"}


def test_ctrl_c_says_how_far_it_was_and_what_to_do():
    def interrupt(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    stream = make_stream(2)
    message = f"after 3 of {2 * stream.num_windows} windows.*adaptower replay"
    with pytest.raises(ReplayInterrupted, match=message):
        replay(RecorderClient(), stream, on_progress=interrupt)
