"""Aggregators: robust means, and pre-aggregators that transform the inputs of another rule."""
