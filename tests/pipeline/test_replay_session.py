import time

import grpc
import numpy as np
import pytest

from pipeline.closing_act import REPLAY_FLAGS
from pipeline.cold_stream import ColdStream
from pipeline.errors import ReplayError
from pipeline.replay import replay
from serving.gateway.config import parse_args
from serving.gateway.requests import check_candidates, check_events, check_id
from serving.protos import recommender_pb2 as pb
from serving.security.rate_limit import FeedbackRateLimit
from tests.helpers.cold_world import RecorderClient, make_stream, make_user


class CheckedClient(RecorderClient):
    """Refuses what the gateway that a replay starts would refuse."""

    def __init__(self):
        super().__init__()
        config = parse_args(
            ["--backend=localhost:1", "--model=m=/m", *REPLAY_FLAGS]
        )
        self._limits = config.limits
        # Months of a user's feedback take no time at all here.
        self._rate_limit = FeedbackRateLimit(
            config.security.feedback_per_second,
            config.security.feedback_burst,
            clock=lambda: 0.0,
        )

    def rank(self, user_id, item_ids, *args, **kwargs):
        check_id("user_id", user_id, self._limits)
        check_candidates(item_ids, self._limits)
        return super().rank(user_id, item_ids, *args, **kwargs)

    def submit_feedback(self, user_id, events, *args, **kwargs):
        check_id("user_id", user_id, self._limits)
        sent = [
            pb.FeedbackEvent(
                event_id=event.event_id,
                item_id=event.item_id,
                label=event.label,
                timestamp=event.timestamp,
            )
            for event in events
        ]
        check_events(sent, self._limits)
        self._rate_limit.spend(user_id, len(sent))
        return super().submit_feedback(user_id, events, *args, **kwargs)


# 99 is as many as a spec may ask for.
@pytest.mark.parametrize("negatives", [0, 20, 99])
def test_no_feedback_of_a_whole_stream_is_refused(negatives):
    user = make_user("u", 90, 1_000_000, negatives=negatives)
    result = replay(CheckedClient(), ColdStream((user,)))
    assert len(result.rows.label) == 80 * (1 + negatives)


def test_log_in_the_local_time_of_the_east_is_replayed():
    """Its times name no zone, and so are hours ahead of UTC."""
    ahead = int(time.time()) + 9 * 3600 - 40 * 60
    replay(CheckedClient(), ColdStream((make_user("u", 40, ahead),)))


def test_longest_user_ids_are_replayed_and_told_apart():
    users = [
        make_user(127 * "é" + last, 40, 1000, seed=seed)
        for seed, last in enumerate(("aa", "ab"))
    ]
    client = CheckedClient()
    result = replay(client, ColdStream(tuple(users)))
    assert len({call.user_id for call in client.calls}) == 6
    assert np.unique(result.rows.user).tolist() == [0, 1]


def test_scores_that_are_not_finite_stop_the_replay():
    class NanClient(RecorderClient):
        def rank(self, *args, **kwargs):
            answer = super().rank(*args, **kwargs)
            answer.scores[0] = float("nan")
            return answer

    with pytest.raises(ReplayError, match="9 of them finite, for 10"):
        replay(NanClient(), make_stream(1))


def test_a_failing_gateway_is_reported_with_the_user_and_what_to_do():
    class DownClient(RecorderClient):
        def submit_feedback(self, *args, **kwargs):
            raise grpc.RpcError("UNAVAILABLE")

    with pytest.raises(ReplayError, match=r"user 'u0'.*adaptower doctor"):
        replay(DownClient(), make_stream(1))


def test_feedback_that_is_left_out_stops_the_replay():
    class LossyClient(RecorderClient):
        def submit_feedback(self, *args, **kwargs):
            answer = super().submit_feedback(*args, **kwargs)
            answer.accepted -= 1
            return answer

    with pytest.raises(ReplayError, match="10 events the gateway accepted 9"):
        replay(LossyClient(), make_stream(1))


def test_feedback_sent_again_is_no_loss():
    class RetriedClient(RecorderClient):
        def submit_feedback(self, *args, **kwargs):
            answer = super().submit_feedback(*args, **kwargs)
            answer.accepted, answer.duplicates = 0, answer.accepted
            return answer

    replay(RetriedClient(), make_stream(1))
