"""Sub-commands of deq-mpc that this package owns."""
