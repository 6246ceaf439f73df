"""Sizes that the features (``features/flight.py``) and the networks meet on."""

EGO_SIZE = 19
TOKEN_SIZE = 16
KNOT_SIZE = 19
THETA_SIZE = 6
NEAREST = 2
"""Obstacles described at each knot of the iterate."""
