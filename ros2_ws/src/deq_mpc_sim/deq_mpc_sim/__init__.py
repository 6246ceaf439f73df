"""The world side: plant, virtual Crazyflie, mocap, obstacles, scenes and flight campaigns."""
