import grpc
import pytest

from serving import errors
from serving.errors import ServingError, status_of


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize(
    "kind",
    [k for k in subclasses(ServingError) if k is not errors.LaunchError],
)
def test_every_error_has_a_status_of_its_own(kind):
    assert kind in errors._STATUS
    assert status_of(kind("words")) == errors._STATUS[kind]


def test_unexpected_error_is_internal():
    assert status_of(ValueError()) == grpc.StatusCode.INTERNAL
