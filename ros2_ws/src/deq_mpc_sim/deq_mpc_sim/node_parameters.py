"""Parameter tables of the world's nodes, see ``deq_mpc_controller.node_parameters``."""

from __future__ import annotations

from typing import get_args

from deq_mpc_controller.node_parameters import ROBOT, VEHICLE, Parameter
from deq_mpc_controller.robot_name import check_robot_name
from deq_mpc_sim.faults import read_faults
from deq_mpc_sim.parameters import plant_config, world_config
from deq_mpc_sim.scenes import Kind, Motion
from deq_mpc_sim.toc import TocSize

_MOCAP = world_config().mocap

_ROBOT = Parameter("robot", "cf", "name of the robot: prefix of its topics", read=check_robot_name)
_VIRTUAL_SCENE = Parameter(
    "virtual_scene", True, "whether there is a scene; if not, obstacles and goal are what somebody else publishes"
)
_SCENE_ARGUMENTS = (
    Parameter("seed", 0, "seed of the scene and of the disturbances", low=0),
    Parameter("scene", "clutter", "how the obstacles are placed", choices=get_args(Kind)),
    Parameter("obstacles", "static", "how they move", choices=get_args(Motion)),
    Parameter("radius", 0.15, "radius of the obstacles of a clutter [m]", low=0.01, high=0.5),
)

_SCENE = (
    _ROBOT,
    Parameter("world_frame", "world", "frame of everything that is published"),
    *_SCENE_ARGUMENTS,
    Parameter("index", 0, "number of the scene of that seed", low=0),
    Parameter("speed", world_config().obstacles.speed, "of the fastest moving obstacle [m/s]", low=0.0, high=5.0),
)

WORLD_NODE = (
    Parameter("uri", "udp://127.0.0.1:19850", "where the simulated Crazyflie listens"),
    *VEHICLE,
    *_SCENE,
    _VIRTUAL_SCENE,
    Parameter("battery", plant_config().battery.capacity, "capacity of the battery [A s]", low=1.0),
    Parameter("toc", "small", "log variables and parameters of the Crazyflie", choices=get_args(TocSize)),
    Parameter(
        "faults",
        "",
        "faults of the Crazyflie, as --fault of deq-mpc virtual-crazyflie, separated by blanks",
        read=read_faults,
    ),
    Parameter("disturb", True, "whether the vehicle differs from the nominal one and meets gusts"),
    Parameter("mocap_rate", _MOCAP.rate, "frames a second [Hz]", low=10.0, high=500.0),
    Parameter("position_noise", _MOCAP.position_noise, "standard deviation [m]", low=0.0, high=1.0),
    Parameter("rotation_noise", _MOCAP.rotation_noise, "standard deviation [rad]", low=0.0, high=1.0),
    Parameter("delay", _MOCAP.delay, "from exposure to topic [s]", low=0.0, high=1.0),
    Parameter("dropout_rate", _MOCAP.dropout_rate, "random dropouts begin this often [1/s]", low=0.0, high=100.0),
    Parameter("dropout_max", _MOCAP.dropout_max, "the longest of them [s]", low=0.0, high=100.0),
    Parameter("outage_after", 1.0, "a planned outage begins so long after the flight state FLY [s]", low=0.0),
    Parameter("outage_duration", 0.0, "and lasts so long [s]; 0: none", low=0.0),
)
"""Parameters of the world node."""

OBSTACLE_NODE = _SCENE
"""Parameters of the obstacle node."""

RECORDER_NODE = (
    _ROBOT,
    Parameter("out", "flights", "folder that receives the flight's folder"),
    Parameter("name", "", "name of the flight's folder; empty: from date, scene and seed"),
    Parameter("policy", "default", "who flies, for the picture's caption"),
    *_SCENE_ARGUMENTS,
    _VIRTUAL_SCENE,
    Parameter("auto", False, "whether the flight begins by itself; if not, the recorder waits for it for ever"),
    Parameter("start_timeout", 300.0, "an automatic flight that has not begun by then is given up [s]", low=1.0),
    Parameter("timeout", 600.0, "a flight that is not over so long after its take-off is given up [s]", low=1.0),
)
"""Parameters of the recorder node."""

TOUR_NODE = (
    ROBOT,
    Parameter("world_frame", "world", "frame of the goals"),
    Parameter("minutes", 10.0, "how long the policy flies [min]", low=0.1, high=1000.0),
    Parameter("start_timeout", 180.0, "a flight that has not begun by then is given up [s]", low=1.0),
    Parameter("out", "tour.json", "file that receives the summary"),
)
"""Parameters of the tour node."""
