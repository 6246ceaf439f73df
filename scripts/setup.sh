#!/usr/bin/env bash
# One step of the set-up; the Makefile calls the steps in their order. Progress goes to stderr, everything else to a log.
#
#   scripts/setup.sh venv PYTHON    check the machine, make .venv
#   scripts/setup.sh requirements   install the pinned packages
#   scripts/setup.sh packages       install the project's packages for editing, which makes .venv/bin/deq-mpc
#   scripts/setup.sh workspace      colcon build into ros2_ws/install
#   scripts/setup.sh warm           compile the numerical kernels once
#
# With a ROS 2 installation sourced, its rclpy is used and no ROS wheel is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ROOT=$PWD
readonly VENV=$ROOT/.venv
readonly STAMPS=$VENV/.stamps
readonly LOG=$VENV/setup.log
readonly PACKAGES=(deq_mpc_core deq_mpc_controller deq_mpc_sim)

say() { printf '[set-up] %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }
has_ros() { [[ -n ${ROS_DISTRO:-} && -n ${AMENT_PREFIX_PATH:-} ]]; }

# Runs a command with its output in the log; a failure shows the log's last lines and where it is.
logged() {
  printf '\n$ %s\n' "$*" >>"$LOG"
  "$@" >>"$LOG" 2>&1 || give_up "$1"
}

give_up() {
  tail -n 12 "$LOG" >&2
  fail "$(basename "$1") failed; the whole log is $LOG; once mended, run the same command again: it goes on from here"
}

# Passes pip's output to the log and says how far it is.
watch_pip() {
  local count=0 line
  while read -r line; do
    printf '%s\n' "$line" >>"$LOG"
    case $line in
      Collecting\ * | Requirement\ already\ satisfied:*)
        count=$((count + 1))
        if ((count % 25 == 0)); then say "    $count packages found"; fi ;;
      Downloading*\([0-9][0-9][0-9].[0-9]\ MB\)) say "    $line" ;;
      Installing\ collected*) say '    unpacking them' ;;
    esac
  done
}

check_machine() {
  local python=$1
  command -v "$python" >/dev/null || fail "$python not found; install Python 3.10 to 3.13, or name one: make PYTHON=python3.12"
  "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' ||
    fail "$("$python" --version) cannot run this; use Python 3.10 to 3.13: make PYTHON=python3.12"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$("$python" --version) has no venv or no pip; install them (on Debian and Ubuntu: apt install python3-venv)"
}

make_venv() {
  local python=$1 options=()
  check_machine "$python"
  if has_ros; then options+=(--system-site-packages); fi
  if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    say "1/5 virtual environment of $("$python" --version) in .venv"
    rm -rf "$VENV"
    "$python" -m venv "${options[@]}" "$VENV" >&2 || fail "no virtual environment could be made in $VENV; see above"
  fi
  mkdir -p "$STAMPS"
}

install_requirements() {
  local files=(requirements/{runtime,build,dev}.txt) options=() file
  if has_ros; then say "using ROS 2 $ROS_DISTRO as sourced"; else files+=(requirements/ros.txt); fi
  for file in "${files[@]}"; do options+=(-r "$file"); done
  say "2/5 pinned packages; the first time this fetches more than a gigabyte"
  "$VENV/bin/python" -m pip install --progress-bar off --disable-pip-version-check "${options[@]}" 2>&1 | watch_pip ||
    give_up pip
}

install_packages() {
  local options=()
  say '3/5 the deq-mpc command'
  for package in "${PACKAGES[@]}"; do options+=(-e "ros2_ws/src/$package"); done
  # An older pip would run setup.py itself, whose settings are colcon's and hide the command from .venv/bin.
  logged "$VENV/bin/python" -m pip install --disable-pip-version-check --no-deps --no-build-isolation --use-pep517 \
    "${options[@]}"
}

build_workspace() {
  say '4/5 ROS workspace in ros2_ws/install'
  cd ros2_ws
  logged env PATH="$VENV/bin:$PATH" "$VENV/bin/python" -m colcon --log-base log build --symlink-install
}

warm_caches() {
  say '5/5 compiling the numerical kernels: some minutes, the first time only'
  logged "$VENV/bin/python" scripts/warm_cache.py
  say 'done'
}

case ${1:-} in
  venv) make_venv "${2:-python3}" ;;
  requirements) install_requirements ;;
  packages) install_packages ;;
  workspace) build_workspace ;;
  warm) warm_caches ;;
  *) fail "unknown step '${1:-}'; run make setup" ;;
esac
