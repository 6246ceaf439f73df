"""The one place where signs and units change: between the stack (SI, ROS signs) and what a Crazyflie and cflib speak.

| quantity | here | `Commander.send_setpoint` | setpoint packet | log variables |
|---|---|---|---|---|
| roll | rad, + accelerates -y | deg, same sign | deg, same sign | deg, same sign |
| pitch | rad, + nose down, accelerates +x | deg, same sign | deg, **negated** by cflib | deg, **negated** (nose up +) |
| yaw rate | rad/s, + counter-clockwise | deg/s, **negated** | deg/s, as given to cflib | deg/s, same sign (gyro) |
| thrust | N, collective | integer of a `ThrustMap` | the same integer | |

`thrust` has the integer, `attitude` the rest of this table, `setpoints` the other kinds of setpoints, `crazyswarm2`
what its servers make of a Twist, `poses` those of an external system, `quaternions` a rotation in 32 bits. Rotations
themselves, R = Rz(yaw) Ry(pitch) Rx(roll), are in
``deq_mpc_core.rotations``.
"""

from deq_mpc_controller.conversions.attitude import (
    SETPOINT_PACKET,
    Rpyt,
    body_rates_from_log,
    body_rates_from_rpy_rate,
    command_from_packet,
    command_from_rpyt,
    log_from_body_rates,
    log_from_rpy,
    packet_from_rpyt,
    rpy_from_log,
    rpy_rate_from_body_rates,
    rpyt_from_command,
    rpyt_from_packet,
)
from deq_mpc_controller.conversions.crazyswarm2 import (
    CRAZYSWARM2_SERVERS,
    LegacyTwist,
    command_from_twist,
    twist_from_command,
)
from deq_mpc_controller.conversions.poses import EXTPOSE, decode_extpos, decode_extpose, encode_extpos, encode_extpose
from deq_mpc_controller.conversions.quaternions import compress_quat, decompress_quat
from deq_mpc_controller.conversions.setpoints import (
    FullState,
    GenericSetpoint,
    Hover,
    Manual,
    Position,
    Stop,
    VelocityWorld,
    ZDistance,
    decode_setpoint,
    encode_setpoint,
)
from deq_mpc_controller.conversions.thrust import (
    THRUST_CLIP,
    THRUST_DEAD_ZONE,
    THRUST_FULL,
    ThrustMap,
    load_thrust_map,
)

__all__ = [
    "CRAZYSWARM2_SERVERS",
    "EXTPOSE",
    "SETPOINT_PACKET",
    "THRUST_CLIP",
    "THRUST_DEAD_ZONE",
    "THRUST_FULL",
    "FullState",
    "GenericSetpoint",
    "Hover",
    "LegacyTwist",
    "Manual",
    "Position",
    "Rpyt",
    "Stop",
    "ThrustMap",
    "VelocityWorld",
    "ZDistance",
    "body_rates_from_log",
    "body_rates_from_rpy_rate",
    "command_from_packet",
    "command_from_rpyt",
    "command_from_twist",
    "compress_quat",
    "decode_extpos",
    "decode_extpose",
    "decode_setpoint",
    "decompress_quat",
    "encode_extpos",
    "encode_extpose",
    "encode_setpoint",
    "load_thrust_map",
    "log_from_body_rates",
    "log_from_rpy",
    "packet_from_rpyt",
    "rpy_from_log",
    "rpy_rate_from_body_rates",
    "rpyt_from_command",
    "rpyt_from_packet",
    "twist_from_command",
]
