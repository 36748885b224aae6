"""Serve a run's pushed model: model server, store and gateway.

Starts the model server (tensorflow_model_server where it is installed, else
the embedded one) on the run's models and the gateway in front of it, and
keeps them until Ctrl-C. What users teach it is kept in the run's store.
"""

import argparse
import pathlib
import signal
import sys
import time
import typing

if typing.TYPE_CHECKING:
    from serving.server_process import ServerProcess

HELP = "serve a run's model to your own clients"
EPILOG = """
examples:
  adaptower serve                              the last run
  adaptower serve --run runs/movielens-1m --port 9000
  adaptower serve --host 0.0.0.0               let other machines in (no TLS!)

from Python, while it runs:
  from serving.client import RecommenderClient
  with RecommenderClient("localhost:8600") as client:
      client.rank("user 7", ["50", "181"], {"age": 30.0})
"""

GATEWAY_PORT = 8600
# The port that TensorFlow Serving has in all its documentation.
MODEL_SERVER_PORT = 8500
DEFAULT_PORTS = (GATEWAY_PORT, MODEL_SERVER_PORT)

_WATCH_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--run",
        type=pathlib.Path,
        default=pathlib.Path("runs/latest"),
        metavar="FOLDER",
        help="the run (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=GATEWAY_PORT,
        help="the gateway's port (default: %(default)s)",
    )
    parser.add_argument(
        "--model-server-port",
        type=int,
        default=MODEL_SERVER_PORT,
        metavar="PORT",
        help="on the loopback address only (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from pipeline.run_config import open_run
    from serving.launch import start_gateway, start_model_server

    layout = open_run(args.run)
    models = layout.models()
    # Said outright: a shell starts background jobs with Ctrl-C ignored, and
    # process managers send the other one.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    print("Starting the servers ...", flush=True)
    with (
        start_model_server(
            models,
            port=args.model_server_port,
            log_path=layout.logs / "model_server.log",
        ) as model_server,
        start_gateway(
            model_server.backend,
            models,
            store=layout.store,
            port=args.port,
            log_path=layout.logs / "gateway.log",
            flags=[f"--host={args.host}"],
        ) as gateway,
    ):
        print(f"gateway       {args.host}:{gateway.port}")
        print(f"model server  {model_server.target}  ({', '.join(models)})")
        print(f"store         {layout.store}")
        print(f"logs          {layout.logs}")
        print("Ctrl-C ends both.", flush=True)
        return _watch(model_server, gateway)


def _watch(*servers: "ServerProcess") -> int:
    """Waits for Ctrl-C (0), or for a server that ends by itself (1)."""
    try:
        while True:
            for server in servers:
                if server.process.poll() is not None:
                    print(
                        f"error: the {server.name} ended; its log is "
                        f"{server.log_path}",
                        file=sys.stderr,
                    )
                    return 1
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        print("\nStopping.")
        return 0
