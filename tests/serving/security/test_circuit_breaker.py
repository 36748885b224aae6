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


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(
        failures=3,
        pause_seconds=1.0,
        max_pause_seconds=3.0,
        clock=clock,
        draw=lambda: 1.0,
    )


def call(breaker, error=None, **options):
    """Returns whether the server was called."""
    called = False
    try:
        with breaker.guard(**options):
            called = True
            if error is not None:
                raise error
    except (grpc.RpcError, BackendUnavailableError):
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


def test_deadline_counts_unless_the_caller_left_too_little(breaker):
    for _ in range(10):
        assert call(breaker, LATE, counts_deadline=False)
    assert fail(breaker, 4, LATE) == [True] * 3 + [False]


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
            failures=1, pause_seconds=1.0, clock=clock, draw=lambda d=draw: d
        )
        fail(breaker)
        starts.append(breaker._trial_at)
    assert starts == [0.5, 0.75, 1.0]
