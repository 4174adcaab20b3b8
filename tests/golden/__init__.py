"""Golden traces and vectors: the stored outputs that decide when `ENGINE` or a component's `version` rises.

    python -m tests.golden           compare; if nothing moved, list today's code as equal and add what is new
    python -m tests.golden --check   compare only

`expected.json` holds tiny runs and fixed inputs with their outputs. All of them are computed in one process whose
libraries are kept from using what only some processors have (see `pinned`), so that machines agree to the bit.
"""
