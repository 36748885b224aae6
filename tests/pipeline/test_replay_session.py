import grpc
import pytest

from pipeline.errors import ReplayError
from pipeline.replay import replay
from tests.helpers.cold_world import RecorderClient, make_stream


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
