"""Ids, metrics, logs and traces around calls."""

import asyncio
import json
import logging
import sys
import types
import urllib.request

import grpc
import pytest

from serving.gateway.rpcs.call import Call
from serving.gateway.rpcs.handler import Observers
from serving.logs import JsonFormatter, TextFormatter
from serving.metrics import Metrics
from serving.ports import free_port
from serving.protos import recommender_pb2 as pb

REQUEST = pb.RankRequest(user_id="u", item_ids=["001"])


def test_callers_request_id_is_in_the_answer(gateway):
    answer = gateway.stub.Rank(REQUEST, metadata=[("x-request-id", "mine-7")])
    assert answer.provenance.request_id == "mine-7"


def test_calls_without_an_id_get_ids_of_their_own(gateway):
    first, second = (
        gateway.stub.Rank(REQUEST).provenance.request_id for _ in range(2)
    )
    assert first
    assert first != second


def test_overlong_request_id_is_cut(gateway):
    answer = gateway.stub.Rank(REQUEST, metadata=[("x-request-id", "x" * 1000)])
    assert answer.provenance.request_id == "x" * 64


@pytest.mark.parametrize("sent", ["é", "a\nb", "a\x7f"])
def test_request_id_that_can_not_be_sent_back_is_replaced(sent):
    # No client of gRPC's sends it; others may.
    context = types.SimpleNamespace(
        invocation_metadata=lambda: [("x-request-id", sent)]
    )
    request_id = Call.of(context).request_id
    assert request_id.isascii()
    assert request_id.isprintable()


def test_refusal_carries_the_request_id(gateway):
    with pytest.raises(grpc.RpcError) as refused:
        gateway.stub.Rank(pb.RankRequest())
    assert dict(refused.value.trailing_metadata())["x-request-id"]


def test_prometheus_finds_what_was_counted(gateway):
    gateway.stub.Rank(REQUEST)
    with pytest.raises(grpc.RpcError):
        gateway.stub.Rank(pb.RankRequest())
    port = free_port()
    gateway.metrics.serve("127.0.0.1", port)
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    name = "adaptower_requests_total"
    assert f'{name}{{code="OK",method="Rank"}} 1.0' in lines
    assert f'{name}{{code="INVALID_ARGUMENT",method="Rank"}} 1.0' in lines
    assert 'adaptower_request_seconds_count{method="Rank"} 2.0' in lines
    assert any(line.startswith("process_resident_memory") for line in lines)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_log_line_of_a_request_has_its_id(start, caplog, formatter):
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(formatter.format(record))

    handler = Handler()
    gateway = start(log_requests=True)
    logger = logging.getLogger("serving.gateway.rpcs.handler")
    logger.addHandler(handler)
    caplog.set_level(logging.INFO, logger.name)
    gateway.stub.Rank(REQUEST, metadata=[("x-request-id", "mine-7")])
    logger.removeHandler(handler)
    (line,) = lines
    if isinstance(formatter, TextFormatter):
        assert line.endswith("[mine-7]")
        assert "Rank OK in" in line
        return
    values = json.loads(line)
    assert values["request_id"] == "mine-7"
    assert (values["method"], values["code"]) == ("Rank", "OK")
    assert (values["model"], values["rung"]) == ("model0", "RUNG_META_INIT")
    assert values["milliseconds"] > 0


def test_json_log_line_holds_the_exception():
    try:
        raise ValueError("no good")
    except ValueError:
        record = logging.LogRecord(
            "a.b", logging.ERROR, "", 0, "failed: %s", ("x",), None
        )
        record.exc_info = sys.exc_info()
    values = json.loads(JsonFormatter().format(record))
    assert values["message"] == "failed: x"
    assert (values["level"], values["logger"]) == ("ERROR", "a.b")
    assert "ValueError: no good" in values["exception"]
    assert "request_id" not in values


def test_spans_tell_of_calls_and_follow_the_callers_trace(start):
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace as api
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
        InMemorySpanExporter,
    )

    exporter = InMemorySpanExporter()
    provider = trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    api.set_tracer_provider(provider)
    gateway = start(trace=True)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    gateway.stub.Rank(REQUEST, metadata=[("traceparent", parent)])
    with pytest.raises(grpc.RpcError):
        gateway.stub.Rank(pb.RankRequest())
    ranked, refused = exporter.get_finished_spans()
    assert ranked.name == "adaptower.v1.Recommender/Rank"
    assert f"{ranked.context.trace_id:032x}" == parent.split("-")[1]
    assert ranked.attributes["rung"] == "RUNG_META_INIT"
    assert ranked.attributes["rpc.grpc.status_code"] == 0
    assert refused.attributes["rpc.grpc.status_code"] == 3
    assert not refused.status.is_ok


def test_log_tells_of_calls_whose_callers_left(caplog):
    caplog.set_level(logging.INFO, "serving.gateway.rpcs.handler")

    async def method(request, call):
        raise asyncio.CancelledError

    context = types.SimpleNamespace(invocation_metadata=list)
    observers = Observers(Metrics(), log_requests=True)
    handler = observers.handler("/a.Service/Rank", method, pb.RankRequest)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(handler.unary_unary(REQUEST, context))
    (record,) = caplog.records
    assert record.getMessage().startswith("Rank CANCELLED in")


def test_span_tells_of_a_call_whose_caller_left():
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    from serving.gateway.tracing import Tracer

    tracer = Tracer()
    tracer._tracer = trace.TracerProvider().get_tracer("test")
    spans = []

    async def method(request, call):
        from opentelemetry import trace as api

        spans.append(api.get_current_span())
        raise asyncio.CancelledError

    context = types.SimpleNamespace(invocation_metadata=list)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(tracer.traced("/a.S/Rank", method)(None, Call.of(context)))
    (span,) = spans
    assert span.attributes["rpc.grpc.status_code"] == 1
