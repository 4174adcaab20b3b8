"""Attacks: one component per file, named after the file."""

if __name__ != "byzbench.attacks":
    raise ImportError(f"import this package as byzbench.attacks, not {__name__}")
