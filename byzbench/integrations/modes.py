"""Modes of the tracking of runs. Imports nothing heavy, for the command line."""

from typing import Literal, TypeAlias

WandbMode: TypeAlias = Literal["online", "offline", "off"]
"""The mode of tracking with Weights & Biases: with its server, in files for a later upload, or not at all."""
