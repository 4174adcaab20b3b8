"""Coins: sources of common randomness."""
