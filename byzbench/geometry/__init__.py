"""Exact geometry of point sets and graphs, independent of learning and of federations."""
