"""The static site of the leaderboards. Pages open from a file, need no script, and load nothing from other sites."""
