"""DEQ-MPC: a deep equilibrium network and a differentiable MPC solver in one joint fixed point."""
