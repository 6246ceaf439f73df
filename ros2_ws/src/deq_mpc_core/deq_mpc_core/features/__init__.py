"""What the flight network sees of an observation, twice: numba for one sample, torch for batches."""
