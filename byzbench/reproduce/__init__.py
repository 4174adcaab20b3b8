"""Published experiments as data: grid, parameters, published numbers, tables and figure of each study.

Example:
    >>> from byzbench.reproduce import find_study
    >>> find_study("decbyzpg").source
    'Jordan et al. 2024, arXiv 2401.03489, CartPole figures'
"""

from byzbench.reproduce.catalog import find_study as find_study
from byzbench.reproduce.catalog import studies as studies
from byzbench.reproduce.running import reproduce_study as reproduce_study
from byzbench.reproduce.study import Study as Study
from byzbench.reproduce.study import StudyResult as StudyResult
