#!/usr/bin/env bash
# Installs the solvers that `deq-mpc bench` measures beside this one, into the environment that `make setup` made. A peer that
# cannot be had on this machine is left out: the bench reports it as missing.
#
#   scripts/install_peers.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps)

try() {
  local name=$1
  shift
  "${pip[@]}" "$@" || printf '[peers] no %s here: the bench reports it as missing\n' "$name" >&2
}

try mpc.pytorch --no-build-isolation -r requirements/bench.txt
try acados --upgrade --target .venv/acados -r requirements/acados.txt
