#!/usr/bin/env bash
# The campaigns behind the README's table, one JSON object a line.
#
#   scripts/measure.sh [POLICY [EPISODES [SEED]]]     default: the shipped checkpoint, 500 scenes each, seed 0
set -euo pipefail

case ${1:-} in -h | --help)
    sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0"
    exit ;;
esac

policy=${1:-default}
episodes=${2:-500}
seed=${3:-0}

measure() {
    "$(dirname "$0")/../.venv/bin/deq-mpc" evaluate --policy "$policy" --episodes "$episodes" --seed "$seed" --json "$@"
}

measure --scene gate
measure --scene pocket
measure --scene clutter --radius 0.20
measure --scene clutter --radius 0.10
measure --scene clutter --radius 0.15 --obstacles moving --speed 0.5
