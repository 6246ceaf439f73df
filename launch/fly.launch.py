"""The flight under ``ros2 launch``: the nodes of fly.launch.yaml, each of them required, and no argument misspelt."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_description_sources import AnyLaunchDescriptionSource

from deq_mpc_controller.ros_launch import landing_patience

OWN_SETTINGS = {"launch-prefix", "launch-prefix-filter", "emulate_tty", "sigkill_timeout"}
"""What ``ros2 launch`` itself may set beside the file's arguments."""
PATIENCE = DeclareLaunchArgument(
    "sigterm_timeout",
    default_value=f"{landing_patience():g}",
    description="an interrupted node has so many s: to land first, to draw a picture",
)
"""A setting of ``ros2 launch`` itself, whose 5 s are too short for a vehicle in the air."""


def _end(event: ProcessExited, context: LaunchContext) -> Shutdown:
    """The first node to end takes the launch down; one that failed makes the launch fail."""
    reason = f"{event.process_name} ended with status {event.returncode}"
    if event.returncode != 0 and not context.is_shutdown:
        raise RuntimeError(reason)
    return Shutdown(reason=reason)


def generate_launch_description() -> LaunchDescription:
    """The launch description that ``ros2 launch deq_mpc_controller fly.launch.py`` runs."""
    path = Path(get_package_share_directory("deq_mpc_controller")) / "launch" / "fly.launch.yaml"
    flight = IncludeLaunchDescription(AnyLaunchDescriptionSource(str(path)))

    def refuse_unknown(context: LaunchContext) -> None:
        known = [argument.name for argument in description.get_launch_arguments()]
        for name in context.launch_configurations:
            if name not in known and name not in OWN_SETTINGS:
                raise RuntimeError(f"launch argument {name!r} does not exist; known: {', '.join(known)}")

    handler = RegisterEventHandler(OnProcessExit(on_exit=_end))
    description = LaunchDescription([PATIENCE, OpaqueFunction(function=refuse_unknown), handler, flight])
    return description
