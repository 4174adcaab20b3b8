"""Golden traces and vectors: the stored outputs that decide when `ENGINE` or a component's `version` rises.

    python -m tests.golden           compare; if nothing moved, list today's code as equal and add what is new
    python -m tests.golden --check   compare only

`expected.json` holds tiny runs and fixed inputs with their outputs. All are computed in one process whose libraries use
only instructions that all x86-64-v2 processors have (see `pinned`), so that machines agree to the bit.

Exit status: 0 if nothing moved, 1 if something moved or must be renewed, 2 if nothing can be compared. `--report FILE`
writes the findings as JSON. A copy of the checkout compares itself: run the command in its folder.
"""
