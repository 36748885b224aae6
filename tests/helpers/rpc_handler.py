"""A handler of groups of calls that does as the requests say."""

import threading

import grpc


class Handler:
    """Answers with the request twice; notes the groups it was given."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.groups = []

    def __call__(self, calls):
        self.groups.append([call.request for call in calls])
        assert self.gate.wait(100)
        for call in calls:
            match call.request:
                case b"refuse":
                    call.refuse(grpc.StatusCode.DATA_LOSS, "böse")
                case b"raise":
                    raise RuntimeError("a bug")
                case b"method":
                    call.answer(call.method.encode())
                case b"deadline":
                    call.answer(b"%.3f" % call.deadline)
                case _:
                    call.answer(2 * call.request)
