"""Measurements: random problems, other solvers beside this one, and the ``deq-mpc bench`` command."""
