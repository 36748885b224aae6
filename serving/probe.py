"""Asks a server whether it serves: `python -m serving.probe HOST:PORT`.

For health checks of containers that can't speak gRPC themselves. Ends with
status 0 if it does.
"""

import argparse
import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def main(arguments: Sequence[str] | None = None) -> int:
    """Asks once; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.probe", description=__doc__
    )
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--timeout-seconds", type=float, default=2.0)
    flags = parser.parse_args(arguments)
    with grpc.insecure_channel(flags.target) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=flags.timeout_seconds
            )
        except grpc.RpcError as error:
            print(f"{flags.target}: {error.details()}", file=sys.stderr)
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(f"{flags.target}: {status}", file=sys.stderr)
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
