"""Gateways killed in the midst of feedback: acknowledged events are learned.

Each counts once and in its order, though some were sent twice.
"""

import random
import threading
import time

import grpc
import pytest

from serving.client import RecommenderClient
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import ITEM_IDS

pytestmark = pytest.mark.fault

NUM_USERS = 4
RESERVOIR = 16


class Sender:
    """Sends one user's events, one after the other; counts answers.

    Attributes:
        sent: Events sent, the last one maybe in vain.
        acknowledged: Events that the gateway said it has taken in.
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
            event = pb.FeedbackEvent(
                event_id=str(self.sent), item_id=item_of(self.sent)
            )
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


def item_of(number):
    return ITEM_IDS[number % len(ITEM_IDS)]


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
                thread.join(60)
        gateway.process.wait()
    with RecommenderClient(run_gateway().target) as client:
        for sender in senders:
            user = learned(client, sender)
            assert user.support_count <= sender.sent
            # No event is missing, none is there twice, none is out of order.
            last = user.support_count
            assert [item for item, _ in user.reservoir] == [
                item_of(number + 1)
                for number in range(max(0, last - RESERVOIR), last)
            ]
            answer = client.rank(sender.user_id, ["003"])
            assert answer.store_hit
            assert not answer.degraded


def learned(client, sender):
    """What is held of a user, once all that was acknowledged is learned."""

    def user():
        (user,) = client.get_user(sender.user_id).models
        return user.support_count >= sender.acknowledged and user

    return wait_until(user)
