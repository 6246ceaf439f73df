#!/usr/bin/env bash
# How the shipped checkpoint was made: the expert's flights, imitation, three rounds in which the expert labels the learner's own
# flights (DAgger), in the last also training through the solver. docs/training.md says how long each step takes.
#
#   scripts/train_crazyflie.sh [FOLDER]     everything goes to FOLDER (default runs/crazyflie)
set -euo pipefail

case ${1:-} in -h | --help)
    sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0"
    exit ;;
esac

deq_mpc=$(dirname "$0")/../.venv/bin/deq-mpc
out=${1:-runs/crazyflie}
bags=$out/bags
mkdir -p "$bags"

step() { echo "== $*" >&2; }

# Scenes of seed 1000 are for training; evaluations use others.
expert() { "$deq_mpc" evaluate --policy expert --seed 1000 "$@"; }

step "expert's flights"
expert --scene gate --episodes 260 --record "$bags/expert-gate"
expert --scene pocket --episodes 130 --record "$bags/expert-pocket"
expert --scene clutter --radius 0.2 --obstacles moving --episodes 80 --record "$bags/expert-moving"
expert --scene clutter --radius 0.2 --episodes 70 --record "$bags/expert-clutter20"
expert --scene clutter --radius 0.12 --episodes 50 --record "$bags/expert-clutter12"

step "imitation"
"$deq_mpc" train --bags "$bags" --out "$out/round0" --steps 0

learner_mix=gate=0.45,pocket=0.25,clutter=0.15,clutter-moving=0.15
for round in 1 2 3; do
    previous=$out/round$((round - 1))/checkpoint.safetensors
    step "round $round: the learner flies, the expert labels"
    "$deq_mpc" expert --policy "$previous" --flights 240 --seed "$round" --noise 0 --mix "$learner_mix" --out "$bags/round$round"
    step "round $round: training goes on"
    case $round in
        1) schedule=(--steps 0) ;;
        2) schedule=(--warmup-steps 800 --steps 0) ;;
        3) schedule=() ;;  # and through the solver
    esac
    "$deq_mpc" train --bags "$bags" --out "$out/round$round" --init "$previous" "${schedule[@]}"
done
echo "$out/round3/checkpoint.safetensors"
