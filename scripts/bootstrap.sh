#!/usr/bin/env bash
# Makes .venv ready: at once when nothing changed, else by bootstrap.py.
#
# All this script needs is a Python 3.8 or newer that runs, or uv; which
# Python the project itself uses is bootstrap.py's decision.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${ADAPTOWER_VENV:-.venv}
stamp=$venv/adaptower.stamp

# The stamp names the folder (environments can't be moved), then holds the
# checksums of what the environment was made from.
if [[ -f $stamp ]] \
  && grep -qxF "# $PWD" "$stamp" \
  && sha256sum --check --status "$stamp" 2>/dev/null \
  && "$venv/bin/python" -c '' >/dev/null 2>&1; then
  exit 0
fi

runs() { # Is $1 a Python that can run bootstrap.py? pyenv's shims may not be.
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 8))' \
    >/dev/null 2>&1
}

for python in "${ADAPTOWER_PYTHON:-}" python3 python3.{14,13,12,11,10,9,8} \
  python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do
  if [[ -n $python ]] && runs "$python"; then
    exec "$python" scripts/bootstrap.py
  fi
done
if uv --version >/dev/null 2>&1; then
  exec uv run --no-project --python '>=3.8' scripts/bootstrap.py
fi
echo "error: found neither a Python 3.8 or newer nor uv on this machine." >&2
echo "Install one of them, for example: apt-get install python3-venv" >&2
exit 1
