"""Gateways killed in the midst of feedback: what was acknowledged is there."""

import random
import threading
import time

import grpc
import pytest

from serving.client import RecommenderClient
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc

pytestmark = pytest.mark.fault

NUM_USERS = 4


class Sender:
    """Sends one user's events, one after the other; counts answers.

    Attributes:
        sent: Events sent, the last one maybe in vain.
        acknowledged: Events that the gateway said it learned from.
    """

    def __init__(self, user_id):
        self.user_id = user_id
        self.sent = self.acknowledged = 0

    def run(self, stub):
        """Sends until the gateway is gone."""
        while True:
            # One that got no answer is sent again, as real senders do.
            if self.sent == self.acknowledged:
                self.sent += 1
            event = pb.FeedbackEvent(event_id=str(self.sent), item_id="003")
            try:
                stub.SubmitFeedback(
                    pb.SubmitFeedbackRequest(
                        user_id=self.user_id, events=[event]
                    ),
                    timeout=10,
                )
            except grpc.RpcError:
                return
            self.acknowledged = self.sent


def acknowledged(senders):
    return sum(sender.acknowledged for sender in senders)


def test_killed_gateway_loses_nothing_acknowledged(run_gateway, rounds):
    random.seed(3)
    senders = [Sender(f"u{number}") for number in range(NUM_USERS)]
    for _ in range(rounds):
        gateway = run_gateway("--feedback-per-second=1000")
        with grpc.insecure_channel(
            gateway.target, [("grpc.enable_retries", 0)]
        ) as channel:
            stub = pb_grpc.RecommenderStub(channel)
            threads = [
                threading.Thread(target=sender.run, args=(stub,))
                for sender in senders
            ]
            for thread in threads:
                thread.start()
            # In the midst of some write, on quick machines and slow ones.
            enough = acknowledged(senders) + random.randint(2, 12)
            while acknowledged(senders) < enough:
                time.sleep(random.uniform(0.0, 0.005))
            gateway.process.kill()
            for thread in threads:
                thread.join(20)
        gateway.process.wait()
    with RecommenderClient(run_gateway().target) as client:
        for sender in senders:
            answer = client.rank(sender.user_id, ["003"])
            # Each event counts once, though some were sent twice.
            assert sender.acknowledged <= answer.support_count <= sender.sent
            assert answer.store_hit
            assert not answer.degraded
