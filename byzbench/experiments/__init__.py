"""Experiments: validation, training, evaluation, records on disk, sweeps and tuning."""
