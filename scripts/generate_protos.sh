#!/usr/bin/env bash
# Writes serving/protos/*_pb2*.py(i) from the .proto files beside them.
#
# grpcio-tools 1.48.2 on purpose: what it generates runs on protobuf 3.20.3
# (TFX 1.16) as well as on 4, 5, 6 and 7 (TFX 1.21). It gets an environment of
# its own, which is removed afterwards. Needs uv and, as .venv or in PYTHON, Python 3.10.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-.venv/bin/python}"
venv="$(mktemp -d)"
trap 'rm -rf "$venv"' EXIT
uv venv --quiet --python "$(readlink -f "$python")" "$venv"
uv pip install --quiet --python "$venv/bin/python" \
  'grpcio-tools==1.48.2' 'mypy-protobuf==3.3.0' 'setuptools<81'

PATH="$venv/bin:$PATH" PYTHONWARNINGS=ignore \
  python -m grpc_tools.protoc -I. \
  --python_out=. --mypy_out=. \
  serving/protos/recommender.proto serving/protos/tf_serving.proto \
  serving/protos/model_server.proto
PATH="$venv/bin:$PATH" PYTHONWARNINGS=ignore \
  python -m grpc_tools.protoc -I. --grpc_python_out=. --mypy_grpc_out=. \
  serving/protos/recommender.proto
