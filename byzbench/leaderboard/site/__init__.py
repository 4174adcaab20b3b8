"""The static site of the leaderboards: pages that open from a file, need no script, and load nothing from elsewhere."""
