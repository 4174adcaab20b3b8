"""Placements: rules that select the Byzantine agents of a graph."""
