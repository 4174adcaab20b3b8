"""Differences between the released code of DecByzPG (Jordan et al., arXiv 2401.03489) and its pseudo-code.

For every difference a parameter of the PAGE family chooses between the two. The preset `official` chooses the code for
all of them: `byzbench.core.page.OFFICIAL` for the algorithm, and this module for its rules. Two differences need no
parameter:

- The server of the code is the last agent. All others copy its parameters, and discard their own aggregates (Q10). All
  agents then start from the same point, so this equals a trusted server that receives what the last agent receives.
- Byzantine agents of the code run the honest protocol and change only the messages that they send (Q11), as here.
"""

from __future__ import annotations

OFFICIAL_RFA = "rfa(nu=0.1, relative=False, steps=8, start=zero)"
OFFICIAL_MDA = "mda(stop=observer, cap=100000)"
