"""Serve a run's pushed model: model server, store and gateway.

Starts the model server (tensorflow_model_server where it is installed, else
the embedded one) on the run's models and the gateway in front of it, and
keeps them until Ctrl-C. What users teach it is kept in the run's store.
"""

import argparse
import pathlib

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
