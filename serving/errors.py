"""Errors of the serving side, and the gRPC status that each becomes.

ServingError
├── InvalidRequestError     the caller must change the request
├── UnknownModelError       no such model, or not loaded yet
├── BackendError            the model server answered with an error
│   ├── BackendUnavailableError
│   └── BackendDeadlineError
├── StoreError              the adaptive-weight store can't be used
│   ├── StoreFullError
│   ├── StoreConflictError  another writer was quicker, again and again
│   └── RecordError         stored bytes that are damaged or unfit
└── LaunchError             a server process did not come up
"""

import grpc


class ServingError(Exception):
    """Base of the errors raised by `serving`."""


class InvalidRequestError(ServingError):
    """A request has a missing, wrong or oversized part."""


class UnknownModelError(ServingError):
    """A request names a model that is not served."""


class UnknownSignatureError(ServingError):
    """A request names a signature that the SavedModel does not have."""


class BackendError(ServingError):
    """The model server answered with an error or with unusable values."""


class BackendUnavailableError(BackendError):
    """The model server can't be reached."""


class BackendDeadlineError(BackendError):
    """The model server did not answer in time."""


class StoreError(ServingError):
    """The adaptive-weight store can't be opened, read or written."""


class StoreFullError(StoreError):
    """The store has no room for another record."""


class StoreConflictError(StoreError):
    """Another writer of the same user was quicker at every attempt."""


class RecordError(StoreError):
    """A record is damaged, or holds what must not be stored."""


class LaunchError(ServingError):
    """A server process ended, or was not ready in time."""


# Looked up along the class's bases, so the nearest entry counts.
_STATUS = {
    ServingError: grpc.StatusCode.INTERNAL,
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    # As TF Serving answers.
    UnknownSignatureError: grpc.StatusCode.FAILED_PRECONDITION,
    BackendError: grpc.StatusCode.INTERNAL,
    BackendUnavailableError: grpc.StatusCode.UNAVAILABLE,
    BackendDeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    StoreError: grpc.StatusCode.UNAVAILABLE,
    StoreFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StoreConflictError: grpc.StatusCode.ABORTED,
    RecordError: grpc.StatusCode.DATA_LOSS,
}


def status_of(error: BaseException) -> grpc.StatusCode:
    """Returns the gRPC status that a client sees for an error."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return grpc.StatusCode.INTERNAL
