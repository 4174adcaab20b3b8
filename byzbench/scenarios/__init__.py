"""Scenarios: agents that differ, environments that change, noisy rewards, agents that come and go, normalisation."""
