"""Tasks: environments with their discount, horizon and reference scores, one file each, loaded by name."""
