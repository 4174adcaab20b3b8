"""Topologies: one component in each file, registered under the name of the file."""

if __name__ != "byzbench.topologies":
    raise ImportError(f"import this package as byzbench.topologies, not {__name__}")
