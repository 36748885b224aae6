"""What a caller is told who is refused."""

from collections.abc import Callable

import grpc
import pytest


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """Makes a call that must fail; returns status and details."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code().name, error.value.details()
