"""Records of runs: run folders, results, the store, migrations of their schemas and remote stores."""
