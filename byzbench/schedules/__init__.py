"""Schedules: how the time of agents and messages passes."""
