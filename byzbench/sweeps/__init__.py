"""Sweeps: grids of experiments, and the executors that run their cells."""
