#!/usr/bin/env bash
# Runs a command with ROS and the workspace sourced.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash"
source /deq-mpc/ros2_ws/install/local_setup.bash
exec "$@"
