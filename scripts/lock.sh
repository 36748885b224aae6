#!/usr/bin/env bash
# Resolves the lock files from setup.py. Versions stay as they are unless
# setup.py forbids them; --upgrade moves them, --upgrade-package NAME one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv=$(command -v uv || true)
if ! "${uv:-false}" --version >/dev/null 2>&1; then
  uv=.cache/uv/bin/uv
fi
if ! "$uv" --version >/dev/null 2>&1; then
  echo "error: make lock needs uv: pip install uv" >&2
  exit 1
fi

lock() { # lock OUTPUT SOURCE [FLAG...]
  echo "  resolving $1"
  "$uv" pip compile --quiet "$2" --output-file "$1" \
    --generate-hashes --custom-compile-command 'make lock' "${@:3}"
}

lock requirements/py310-tfx116.lock setup.py --extra dev --python-version 3.10 \
  --python-platform x86_64-manylinux_2_28 "$@"
# One resolution for Python 3.12 and 3.13; see tool.uv in pyproject.toml.
lock requirements/py312-tfx121.lock setup.py --extra dev --python-version 3.12 \
  --universal "$@"
lock requirements/uv.lock requirements/uv.in --python-version 3.10 "$@"
# For the image, and for the quickest Python of a machine without images.
lock deploy/gateway/requirements.lock deploy/gateway/requirements.in \
  --python-version 3.11 "$@"
