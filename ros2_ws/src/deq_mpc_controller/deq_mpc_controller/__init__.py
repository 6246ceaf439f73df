"""The flight side: from mocap poses and a policy to attitude setpoints on a Crazyflie."""
