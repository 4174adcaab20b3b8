"""Start the process that compares, with its environment pinned."""

from __future__ import annotations

import os
import sys

from tests.golden.pinned import CHECKOUT, command, environment

if __name__ == "__main__":
    os.chdir(CHECKOUT)
    os.execve(sys.executable, command(*sys.argv[1:]), environment())
