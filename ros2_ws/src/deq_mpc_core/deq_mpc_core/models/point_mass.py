"""Point mass with drag-free motion and bounded acceleration: what the expert's long-horizon planner thinks in.

pos_d = vel,  vel_d = acc
"""

from __future__ import annotations

from functools import cache

from deq_mpc_core.models.model import Model

NX, NU = 6, 3


@cache
def point_mass_model() -> Model:
    """The symbolic model, nx = 6 (pos, vel), nu = 3 (acc)."""
    import sympy as sp

    x = sp.symbols("px py pz vx vy vz", real=True)
    u = sp.symbols("ax ay az", real=True)
    return Model("point_mass", x, u, (), (*x[3:], *u), (1.0,) * 6, (1.0,) * 3, (0, 1, 2))
