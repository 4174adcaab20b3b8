"""Policies, rollouts, gradient estimators and optimisers, independent of federation and adversaries."""
