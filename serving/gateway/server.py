"""Puts a gateway together and runs it until it is told to stop."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Sequence

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2_grpc import (
    add_ServerReflectionServicer_to_server,
)

from serving.gateway import health
from serving.gateway.config import GatewayConfig
from serving.gateway.health import HealthService
from serving.gateway.reflection import ReflectionService
from serving.gateway.service import SERVICE_NAME, gateway_services
from serving.gateway.trials import Trials
from serving.models.registry import ModelRegistry
from serving.online.parts import open_parts
from serving.online.stage import OnlineStage
from serving.rpc.async_server import AsyncServer
from serving.security.wiring import (
    KEEPALIVE_OPTIONS,
    interceptors,
    listen,
    warn_if_open,
)

_log = logging.getLogger(__name__)
# Of the time for what has begun, so much is the online stage's at least.
_STAGE_SHARE = 0.1
# What the end takes beyond it where nothing ends by itself: calls and health
# checks that are cancelled, and exposures for a disk that hangs.
AFTER_GRACE_SECONDS = 15.0
# How often readiness is looked at before the first version is known.
_STARTUP_POLL_SECONDS = 0.1


async def serve(config: GatewayConfig) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Raises:
        LaunchError: The address can't be listened on, or a file not used.
        StoreError: The store can't be opened.
        EventLogError: The event log can't be opened.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(config))
        trials = Trials(parts.experiments, parts.metrics.count_lost_exposure)
        stack.push_async_callback(trials.close)
        server, health_service = _build_server(
            config,
            gateway_services(config, parts, trials),
            interceptors(config.security, parts.metrics.count_refusal),
        )
        if config.metrics_port is not None:
            parts.metrics.serve(config.host, config.metrics_port)
        warn_if_open(config.security, config.host)
        await server.start()
        _log.info("Listening on %s:%d", config.host, config.port)
        if config.health_port is not None:
            plain = _health_server(
                config.host, config.health_port, health_service
            )
            await plain.start()
            stack.push_async_callback(plain.stop, 0)
        refresher = asyncio.create_task(
            _keep_fresh(parts.registry, health_service, config.poll_seconds)
        )
        parts.stage.start()
        await stopped.wait()
        # First tell load balancers, then finish what has begun.
        health_service.shut_down()
        refresher.cancel()
        await drain(server, parts.stage, config.grace_seconds)
        _log.info("Stopped")


async def drain(
    server: AsyncServer, stage: OnlineStage, grace_seconds: float
) -> None:
    """Lets calls end, then learning, within one time for both.

    Args:
        server: Takes no more calls.
        stage: Has what calls leave of the time, and a tenth of it at least.
        grace_seconds: How long what has begun may take.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + grace_seconds
    least = _STAGE_SHARE * grace_seconds
    await server.stop(grace_seconds - least)
    await stage.close(max(end - clock(), least))


def _build_server(
    config: GatewayConfig,
    services: tuple[grpc.GenericRpcHandler, ...],
    intercepted_by: Sequence[grpc.aio.ServerInterceptor],
) -> tuple[AsyncServer, HealthService]:
    server = AsyncServer(
        interceptors=intercepted_by,
        options=(
            ("grpc.max_receive_message_length", config.limits.message_bytes),
            # Two gateways on one port would share its users by accident.
            ("grpc.so_reuseport", 0),
            *KEEPALIVE_OPTIONS,
        ),
    )
    server.add_generic_rpc_handlers(services)
    health_service = HealthService((SERVICE_NAME,))
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    add_ServerReflectionServicer_to_server(
        ReflectionService((SERVICE_NAME, health.SERVICE_NAME)), server
    )
    listen(server, config.host, config.port, config.security.tls)
    return server, health_service


def _health_server(
    host: str, port: int, health_service: HealthService
) -> AsyncServer:
    """Returns a server of health checks alone, in plaintext."""
    server = AsyncServer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    listen(server, host, port, None)
    return server


async def _keep_fresh(
    registry: ModelRegistry,
    health_service: HealthService,
    poll_seconds: float,
) -> None:
    """Follows the model server's versions; SERVING once all are known."""
    await registry.refresh()
    while not registry.ready:
        await asyncio.sleep(min(poll_seconds, _STARTUP_POLL_SECONDS))
        await registry.refresh()
    health_service.serve()
    await registry.refresh_forever(poll_seconds)
