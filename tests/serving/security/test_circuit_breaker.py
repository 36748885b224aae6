import asyncio

import grpc
import pytest

from serving.errors import BackendUnavailableError
from serving.security.circuit_breaker import CircuitBreaker
from tests.helpers.clock import Clock


class Failure(grpc.RpcError):
    def __init__(self, code):
        super().__init__()
        self._code = code

    def code(self):
        return self._code


UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
LATE = Failure(grpc.StatusCode.DEADLINE_EXCEEDED)
LEFT = asyncio.CancelledError()
LONG = 0.25


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(
        LONG,
        failures=3,
        pause_seconds=1.0,
        max_pause_seconds=3.0,
        clock=clock,
        draw=lambda: 1.0,
    )


def call(breaker, error=None):
    """Returns whether the server was called."""
    called = False
    try:
        with breaker.guard():
            called = True
            if error is not None:
                raise error
    except (grpc.RpcError, BackendUnavailableError, asyncio.CancelledError):
        pass
    return called


def wait_in_vain(breaker, clock, seconds, end):
    """Returns whether the server was called."""
    called = False
    try:
        with breaker.guard():
            called = True
            clock.now += seconds
            raise end
    except (grpc.RpcError, BackendUnavailableError, asyncio.CancelledError):
        pass
    return called


def fail(breaker, times=1, error=None):
    return [call(breaker, error or Failure(UNAVAILABLE)) for _ in range(times)]


def test_opens_after_failures_in_a_row_and_calls_no_more(breaker):
    assert fail(breaker, 10) == [True] * 3 + [False] * 7
    with (
        pytest.raises(BackendUnavailableError, match="tried again"),
        breaker.guard(),
    ):
        raise AssertionError


def test_success_between_failures_keeps_it_closed(breaker):
    for _ in range(5):
        fail(breaker, 2)
        assert call(breaker)
    assert not breaker.is_open


def test_answer_with_an_error_is_an_answer(breaker):
    assert (
        fail(breaker, 10, Failure(grpc.StatusCode.INVALID_ARGUMENT))
        == [True] * 10
    )


@pytest.mark.parametrize("end", [LATE, LEFT])
def test_server_that_keeps_callers_waiting_for_long_opens_it(
    breaker, clock, end
):
    called = [wait_in_vain(breaker, clock, LONG, end) for _ in range(4)]
    assert called == [True] * 3 + [False]


@pytest.mark.parametrize("end", [LATE, LEFT])
def test_hurried_callers_never_open_it(breaker, clock, end):
    for _ in range(10):
        assert wait_in_vain(breaker, clock, 0.99 * LONG, end)


@pytest.mark.parametrize("end", [LATE, LEFT])
def test_calls_left_while_others_are_answered_never_open_it(
    breaker, clock, end
):
    guards = [breaker.guard() for _ in range(10)]
    for guard in guards:
        guard.__enter__()
    clock.now += LONG
    assert call(breaker)
    clock.now += LONG
    for guard in guards:
        guard.__exit__(type(end), end, None)
    assert not breaker.is_open


def test_hurried_trial_changes_nothing_and_a_long_one_prolongs_the_pause(
    breaker, clock
):
    fail(breaker, 3)
    clock.now += 1.0
    assert wait_in_vain(breaker, clock, 0.0, LEFT)
    assert wait_in_vain(breaker, clock, LONG, LEFT)
    clock.now += 1.99
    assert fail(breaker) == [False]
    clock.now += 0.01
    assert call(breaker)
    assert not breaker.is_open


def test_pauses_double_up_to_the_longest(breaker, clock):
    fail(breaker, 3)
    for pause in (1.0, 2.0, 3.0, 3.0):
        clock.now += pause - 0.01
        assert fail(breaker) == [False]
        clock.now += 0.01
        assert fail(breaker) == [True]
        assert fail(breaker) == [False]


def test_one_trial_at_a_time_and_its_success_closes(breaker, clock):
    fail(breaker, 3)
    clock.now += 1.0
    with breaker.guard():
        assert fail(breaker, 3) == [False] * 3
    assert call(breaker)
    assert not breaker.is_open
    # The next time the pauses begin with the shortest again.
    fail(breaker, 3)
    clock.now += 1.0
    assert call(breaker)


def test_cancelled_trial_lets_the_next_one_try(breaker, clock):
    fail(breaker, 3)
    clock.now += 1.0
    with pytest.raises(KeyboardInterrupt), breaker.guard():
        raise KeyboardInterrupt
    assert breaker.is_open
    assert call(breaker)
    assert not breaker.is_open


def test_calls_under_way_when_it_opened_do_not_lengthen_the_pause(
    breaker, clock
):
    guards = [breaker.guard() for _ in range(20)]
    for guard in guards:
        guard.__enter__()
    for guard in guards:
        error = Failure(UNAVAILABLE)
        guard.__exit__(type(error), error, None)
    clock.now += 1.0
    assert call(breaker)


def test_jitter_spreads_trials_over_the_second_half_of_the_pause(clock):
    starts = []
    for draw in (0.0, 0.5, 1.0):
        breaker = CircuitBreaker(
            LONG,
            failures=1,
            pause_seconds=1.0,
            clock=clock,
            draw=lambda d=draw: d,
        )
        fail(breaker)
        starts.append(breaker._trial_at)
    assert starts == [0.5, 0.75, 1.0]
