"""The waypoint network, twice: torch for training, numba for flight."""
