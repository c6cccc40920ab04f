"""What scripts/compare, scripts/profile and scripts/million share: the machine, the programs they
start, the load generator, and where results go. Python's standard library alone."""
