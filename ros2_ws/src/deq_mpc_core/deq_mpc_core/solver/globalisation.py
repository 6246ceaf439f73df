"""Numbers that steer the minimisation and name its outcome; both engines use them."""

ARMIJO = 1e-4
"""Share of the decrease that the slope promises which a step has to reach (Nocedal and Wright 2006, section 3.1)."""
LENGTHS_TRIED = 12
"""A step is tried at 1, 1/2, ... of its length."""
SHORT = 0.25
"""A step accepted at less than this length says that the quadratic model reaches too far."""
LEAST_DAMPING, MORE_DAMPING, LESS_DAMPING = 1.0, 10.0, 0.1
"""Damping in cost per squared natural unit of a variable: first value, factor after a short step, after a full one."""
ROUNDING = 1e-9
"""A step that promises less than this share of L and is refused has met the rounding errors of L."""
INFEASIBLE_AT = 10.0
"""Where a minimum of L at the largest penalty has a residual above INFEASIBLE_AT tolerances, the violations are
minimised alone: what then remains of them decides."""
STAY = 1e-3
"""Each round of that stays near the plan it starts from, by this weight per squared natural unit beside the violations'
of 1: with less, it takes hundreds of steps, since what nothing holds runs far."""
RESTORING_ROUNDS, RESTORING_STEPS = 10, 50
NO_PROGRESS = 0.9
"""Rounds, and Newton steps of each; they end where a round leaves more than NO_PROGRESS of the violation before it."""
