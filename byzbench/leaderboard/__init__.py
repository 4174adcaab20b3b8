"""Leaderboards that can be verified: suites, submissions, checks, replay and scores."""
