"""Errors of the serving side, and the gRPC status that each becomes.

ServingError
├── InvalidRequestError     the caller must change the request
├── UnauthenticatedError    who calls is not known
├── PermissionDeniedError   who calls may not
├── DeadlinePassedError     the caller does not wait any more
├── RetryLaterError         not now
│   ├── OverloadedError     the gateway has as much to do as it may
│   └── RateLimitedError    the user sends too much
├── UnknownModelError       no such model, or not loaded yet
├── UnknownSignatureError   the SavedModel has no such signature
├── GraphError              TensorFlow can't load or run a SavedModel
├── BackendError            the model server answered with an error
│   ├── BackendRefusalError  it will not take the request as it is
│   ├── BackendUnavailableError
│   └── BackendDeadlineError
├── StoreError              the adaptive-weight store can't be used
│   ├── StoreFullError
│   ├── StoreConflictError  another writer was quicker, again and again
│   └── RecordError         stored bytes that are damaged or unfit
├── EventLogError           the event log can't be used
│   └── LogFullError        it takes in no more events for now
├── ExposureLogError        the log of experiments can't be written
├── DeletedUserError        the user was deleted and may not come back yet
└── LaunchError             a server process did not come up
"""

import grpc


class ServingError(Exception):
    """Base of the errors raised by `serving`."""


class InvalidRequestError(ServingError):
    """A request has a missing, wrong or oversized part."""


class UnauthenticatedError(ServingError):
    """A call shows no token, or one that is not valid."""


class PermissionDeniedError(ServingError):
    """A call's token does not allow what it asks for."""


class DeadlinePassedError(ServingError):
    """A call's deadline passed before work on it began."""


class RetryLaterError(ServingError):
    """A call is refused for now.

    Attributes:
        retry_after_seconds: When it may be tried again.
    """

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OverloadedError(RetryLaterError):
    """The gateway works on as many calls as it may."""


class RateLimitedError(RetryLaterError):
    """A user sends more than a user may."""


class UnknownModelError(ServingError):
    """A request names a model that is not served."""


class UnknownSignatureError(ServingError):
    """A request names a signature that the SavedModel does not have."""


class GraphError(ServingError):
    """TensorFlow can't load or run a SavedModel.

    Attributes:
        code: TensorFlow's error code, which is gRPC's.
    """

    def __init__(
        self, message: str, code: int = grpc.StatusCode.INTERNAL.value[0]
    ) -> None:
        super().__init__(message)
        self.code = code


class BackendError(ServingError):
    """The model server answered with an error or with unusable values."""


class BackendRefusalError(BackendError):
    """The model server refuses a request for what is in it."""


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


class EventLogError(ServingError):
    """The event log can't be opened, read or written."""


class LogFullError(EventLogError):
    """The event log has no room for a submission; nothing was stored of it."""


class ExposureLogError(ServingError):
    """The exposure log can't be written."""


class DeletedUserError(ServingError):
    """A user was deleted; late events and weights are refused."""


class LaunchError(ServingError):
    """A server process ended, or was not ready in time."""


# Looked up along the class's bases, so the nearest entry counts.
_STATUS = {
    ServingError: grpc.StatusCode.INTERNAL,
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    DeadlinePassedError: grpc.StatusCode.DEADLINE_EXCEEDED,
    RetryLaterError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RateLimitedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    # As TF Serving answers.
    UnknownSignatureError: grpc.StatusCode.FAILED_PRECONDITION,
    GraphError: grpc.StatusCode.INTERNAL,
    BackendError: grpc.StatusCode.INTERNAL,
    # Requests are checked before: what is refused then is our own mistake.
    BackendRefusalError: grpc.StatusCode.INTERNAL,
    BackendUnavailableError: grpc.StatusCode.UNAVAILABLE,
    BackendDeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    StoreError: grpc.StatusCode.UNAVAILABLE,
    StoreFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StoreConflictError: grpc.StatusCode.ABORTED,
    RecordError: grpc.StatusCode.DATA_LOSS,
    EventLogError: grpc.StatusCode.UNAVAILABLE,
    LogFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ExposureLogError: grpc.StatusCode.UNAVAILABLE,
    DeletedUserError: grpc.StatusCode.FAILED_PRECONDITION,
}


_STATUS_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


def status_of(error: BaseException) -> grpc.StatusCode:
    """Returns the gRPC status that a client sees for an error."""
    if isinstance(error, GraphError):
        return _STATUS_BY_NUMBER.get(error.code, grpc.StatusCode.UNKNOWN)
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return grpc.StatusCode.INTERNAL
