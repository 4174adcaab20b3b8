"""Federated and decentralised policy-gradient algorithms, one file each, loaded by name."""

if __name__ != "byzbench.algorithms":
    raise ImportError(f"import this package as byzbench.algorithms, not {__name__}")
