"""Data of the leaderboards: frozen suites and submissions."""

if __name__ != "byzbench.leaderboards":
    raise ImportError(f"import this package as byzbench.leaderboards, not {__name__}")
