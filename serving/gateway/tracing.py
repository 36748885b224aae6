"""Traces by OpenTelemetry, where its API is installed and traces are wanted.

Only the API is used: which exporter gets the spans is the deployment's choice,
say `opentelemetry-instrument python -m serving.gateway --trace ...`, and
without one the spans cost little and go nowhere. A caller's `traceparent`
makes the gateway's span a child of the caller's.
"""

import importlib.util
import logging
from typing import Any

from serving.gateway.rpcs.call import Call, Method, status_and_words

_log = logging.getLogger(__name__)


class Tracer:
    """Makes a span of each call."""

    def __init__(self) -> None:
        from opentelemetry import propagate, trace

        self._extract = propagate.extract
        self._kind = trace.SpanKind.SERVER
        self._tracer = trace.get_tracer("adaptower.gateway")

    def traced(self, path: str, method: Method) -> Method:
        """Returns the method with a span around each call.

        Args:
            path: `/package.Service/Method`.
            method: The method.
        """
        service, _, name = path[1:].rpartition("/")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": name,
        }

        async def run(request: Any, call: Call) -> Any:
            metadata = dict(call.context.invocation_metadata() or ())
            # It notes an exception that leaves it, and marks the span failed.
            with self._tracer.start_as_current_span(
                path[1:],
                context=self._extract(metadata),
                kind=self._kind,
                attributes={**attributes, "request_id": call.request_id},
            ) as span:
                code = 0
                try:
                    return await method(request, call)
                except BaseException as error:
                    code = status_and_words(error)[0].value[0]
                    raise
                finally:
                    span.set_attribute("rpc.grpc.status_code", code)
                    span.set_attributes(call.notes())

        return run


def make_tracer(wanted: bool) -> Tracer | None:
    """Returns a tracer if traces are wanted and can be made."""
    if not wanted:
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        _log.warning(
            "--trace has no effect without OpenTelemetry's API; install it "
            "with the extra: pip install 'adaptower[traces]'"
        )
        return None
    return Tracer()
