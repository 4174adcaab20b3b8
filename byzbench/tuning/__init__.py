"""Tuning: the search problem, the studies that search it, and their conclusions."""
