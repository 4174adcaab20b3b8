"""The studies by name."""

from __future__ import annotations

from collections.abc import Mapping

from byzbench.errors import UnknownName, suggest
from byzbench.reproduce.assumptions import ASSUMPTIONS
from byzbench.reproduce.asynchrony import ASYNCHRONY
from byzbench.reproduce.batch_sizes import BATCH_SIZES
from byzbench.reproduce.communication import COMMUNICATION
from byzbench.reproduce.complexity import COMPLEXITY
from byzbench.reproduce.decbyzpg import CARTPOLE, LUNARLANDER
from byzbench.reproduce.fedpg_br import FEDPG_BR
from byzbench.reproduce.joining import JOINING
from byzbench.reproduce.rules import RULES
from byzbench.reproduce.speedup import SPEEDUP
from byzbench.reproduce.step_sizes import STEP_SIZES
from byzbench.reproduce.study import Study
from byzbench.reproduce.wrong_f import WRONG_F

_STUDIES: tuple[Study, ...] = (
    CARTPOLE,
    LUNARLANDER,
    SPEEDUP,
    COMMUNICATION,
    COMPLEXITY,
    ASSUMPTIONS,
    FEDPG_BR,
    ASYNCHRONY,
    STEP_SIZES,
    BATCH_SIZES,
    RULES,
    WRONG_F,
    JOINING,
)


def studies() -> Mapping[str, Study]:
    """Return all studies by name.

    Example:
        >>> "speedup" in studies()
        True
    """
    return {study.name: study for study in _STUDIES}


def find_study(name: str) -> Study:
    """Return the study of a name.

    Args:
        name: The name.

    Raises:
        UnknownName: There is no such study; the message has similar names.

    Example:
        >>> find_study("speedup").first_seed
        100
    """
    known = studies()
    if name not in known:
        raise UnknownName(f"there is no study {name!r}. {suggest(name, known)}Studies: {', '.join(known)}")
    return known[name]
