import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequestError, RateLimitedError
from serving.security.rate_limit import FeedbackRateLimit
from tests.helpers.clock import Clock


class PlainBuckets:
    """The textbook's token bucket: a number of tokens, filled by time."""

    def __init__(self, rate, burst):
        self._rate, self._burst = rate, burst
        self._buckets = {}

    def spend(self, user, size, now):
        tokens, then = self._buckets.get(user, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        fits = size <= tokens + 1e-4
        self._buckets[user] = (tokens - size * fits, now)
        return fits


@given(
    rate=st.sampled_from([0.5, 1.0, 10.0]),
    burst=st.integers(1, 20),
    steps=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.integers(1, 8),
            st.sampled_from([0.0, 0.25, 1.0, 3.0]),
        ),
        max_size=60,
    ),
)
def test_lets_through_what_a_plain_token_bucket_does(rate, burst, steps):
    clock = Clock()
    limit = FeedbackRateLimit(rate, burst, clock=clock)
    plain = PlainBuckets(rate, burst)
    for user, size, seconds in steps:
        clock.now += seconds
        size = min(size, burst)
        try:
            limit.spend(user, size)
            fits = True
        except RateLimitedError:
            fits = False
        assert fits == plain.spend(user, size, clock.now)


def test_check_refuses_what_could_not_be_spent_and_takes_nothing():
    limit = FeedbackRateLimit(1.0, 4, clock=Clock())
    for _ in range(3):
        limit.check("u", 4)
    assert len(limit) == 0
    limit.spend("u", 3)
    with pytest.raises(RateLimitedError):
        limit.check("u", 2)
    with pytest.raises(InvalidRequestError):
        limit.check("u", 5)
    limit.spend("u", 1)


def test_refused_user_is_let_in_at_the_time_told():
    clock = Clock()
    limit = FeedbackRateLimit(2.0, 10, clock=clock)
    limit.spend("u", 10)
    with pytest.raises(RateLimitedError, match=r"2 events a second") as refused:
        limit.spend("u", 3)
    assert refused.value.retry_after_seconds == pytest.approx(1.5)
    clock.now += refused.value.retry_after_seconds - 0.01
    with pytest.raises(RateLimitedError):
        limit.spend("u", 3)
    clock.now += 0.01
    limit.spend("u", 3)


def test_one_user_does_not_spend_anothers():
    limit = FeedbackRateLimit(1.0, 5, clock=Clock())
    limit.spend("a", 5)
    limit.spend("b", 5)


def test_more_at_once_than_a_full_bucket_never_fits():
    limit = FeedbackRateLimit(1.0, 5, clock=Clock())
    with pytest.raises(InvalidRequestError, match="--feedback-burst"):
        limit.spend("a", 6)


def test_users_with_full_buckets_are_forgotten():
    clock = Clock()
    limit = FeedbackRateLimit(1.0, 10, clock=clock)
    for user in range(100):
        limit.spend(str(user), 10)
    clock.now += 10
    limit.spend("next", 1)
    assert len(limit) == 1


def test_memory_is_bounded_and_the_newest_are_kept():
    limit = FeedbackRateLimit(1.0, 10, max_users=50, clock=Clock())
    for user in range(1000):
        limit.spend(str(user), 10)
    assert len(limit) == 50
    with pytest.raises(RateLimitedError):
        limit.spend("999", 1)
    limit.spend("0", 1)


@pytest.mark.parametrize("rate", [1e18, float("inf")])
def test_rate_without_end_lets_everything_through(rate):
    clock = Clock()
    clock.now = 1e5
    limit = FeedbackRateLimit(rate, 5, clock=clock)
    for _ in range(3):
        limit.spend("ann", 5)
    assert len(limit) == 0
