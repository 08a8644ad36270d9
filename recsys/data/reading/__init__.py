"""Reading ratings: as they are written → as numbers → checked → in the order of watching."""

from recsys.data.reading.checks import Checks, DataWarning, Finding, OnReport, ReadReport, warn_of
from recsys.data.reading.read import read_ratings

__all__ = [
    "Checks",
    "DataWarning",
    "Finding",
    "OnReport",
    "ReadReport",
    "read_ratings",
    "warn_of",
]
