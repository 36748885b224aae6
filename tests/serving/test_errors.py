import grpc
import pytest

from serving import errors
from serving.errors import ServingError, status_of


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


# Those of clients, in modules of their own, never become an answer.
@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in subclasses(ServingError)
        if kind.__module__ == errors.__name__ and kind is not errors.LaunchError
    ],
)
def test_every_error_has_a_status_of_its_own(kind):
    assert kind in errors._STATUS
    assert status_of(kind("words")) == errors._STATUS[kind]


def test_unexpected_error_is_internal():
    assert status_of(ValueError()) == grpc.StatusCode.INTERNAL
