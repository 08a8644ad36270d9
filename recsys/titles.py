"""Titles: their parts, their display, and the items that a written title stands for.

A title has a name, other titles in parentheses, and a year, such as
`Seven Samurai, The (Shichinin no samurai) (1954)`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

_ARTICLES = frozenset(
    (
        *("the", "a", "an", "la", "le", "les", "l'", "un", "une", "una", "el", "los", "las", "il"),
        *("lo", "i", "gli", "der", "die", "das", "ein", "eine", "de", "det", "den", "het"),
    )
)
"""Articles that catalogues move to the end: `Matrix, The`."""

_FIRST_ARTICLE = re.compile(r"\s*(?:the|an?)\s+(?=\S)", re.IGNORECASE)  # not "Die Hard"
_ALSO_KNOWN_AS = re.compile(r"(?:a\.k\.a\.|aka)\s+", re.IGNORECASE)
_YEAR = re.compile(r"(\d{4})(?:\s?[-–]\s?(?:\d{4})?)?")
_NOT_KEPT = re.compile(r"[^a-z0-9]+")

_MAX_LENGTH = 1000
"""Characters of a text; a longer one is no title as people write it."""

_MAX_COMPARED = 200
"""A name of more items than this is ambiguous, whatever its year and article."""


def display_title(title: str) -> str:
    """Remove the year and alternative titles in parentheses, and move the article to the front.

    Example:
        >>> display_title("Seven Samurai, The (Shichinin no samurai) (1954)")
        'The Seven Samurai'
        >>> display_title("(500) Days of Summer (2009)")
        '(500) Days of Summer'
    """
    return _article_first(title.split(" (", 1)[0])


def _article_first(name: str) -> str:
    words, article = _split_article(name)
    space = "" if not article or article.endswith("'") else " "
    return f"{article}{space}{words}"


def _split_article(name: str) -> tuple[str, str]:
    """Split `Matrix, The`; the article is empty if none is at the end."""
    words, comma, last = name.rpartition(", ")
    return (words, last) if comma and last.casefold() in _ARTICLES else (name, "")


class _Kept(dict[int, str | None]):
    """For `str.translate`: keeps letters, digits and the vowel signs of Indic scripts."""

    def __missing__(self, code: int) -> str | None:
        self[code] = chr(code) if unicodedata.category(chr(code))[0] in "LNM" else None
        return self[code]


_KEPT = _Kept()

_LETTERS = {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"}
"""Letters that Unicode does not decompose into one with an accent."""

_PLAIN = {ord(letter): plain for letter, plain in _LETTERS.items()}
_PLAIN |= dict.fromkeys(range(0x300, 0x370), "")  # accents of Latin, Greek and Cyrillic letters


def fold_letters(text: str) -> str:
    """The text without case and accents.

    Example:
        >>> fold_letters("Żółty Kamień"), fold_letters("Ærø")
        ('zolty kamien', 'aero')
    """
    text = text.casefold()
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).translate(_PLAIN))


def _fold(text: str) -> str:
    """The text without case, accents, spaces and punctuation; `&` becomes `and`.

    Example:
        >>> _fold("WALL·E & Amélie") == _fold("wall-e and Amelie")
        True
    """
    text = fold_letters(text.replace("&", "and"))
    return _NOT_KEPT.sub("", text) if text.isascii() else text.translate(_KEPT)


class _Name(NamedTuple):
    """One name of an item, folded."""

    full: str
    without_article: str


def _name(text: str) -> _Name:
    words, article = _split_article(text)
    if article:
        return _Name(_fold(article + words), _fold(words))
    first = _FIRST_ARTICLE.match(text)
    full = _fold(text)
    return _Name(full, _fold(text[first.end() :]) if first else full)


class _Title(NamedTuple):
    """The parts of a title."""

    names: list[_Name]
    """The main name, then those in parentheses."""
    year: str


def _parse(title: str) -> _Title:
    """Split a title into its names and its year."""
    others: list[str] = []
    rest, year = title.strip(), ""
    while rest.endswith(")") and (start := rest.rfind("(")) > 0 and rest[start - 1].isspace():
        part, rest = rest[start + 1 : -1], rest[:start].rstrip()
        if not others and not year and (years := _YEAR.fullmatch(part)):
            year = years[1]
        else:
            others.append(_ALSO_KNOWN_AS.sub("", part, count=1))
    return _Title([_name(text) for text in (rest, *reversed(others))], year)


class TitleIndex:
    """Finds the items that a title stands for, as people write it.

    Case, accents, spaces and punctuation do not matter, and `&` is `and`. The year, the article and
    the titles in parentheses may be missing, or one of the latter may be given alone. A main title
    precedes those in parentheses, and among them the same article precedes another or none.

    Example:
        >>> index = TitleIndex(["Matrix, The (1999)", "Hamlet (1948)", "Hamlet (1990)"])
        >>> index.find("the matrix"), index.find("MATRIX 1999"), index.find("matrix 2")
        ([0], [0], [])
        >>> index.find("Hamlet"), index.find("hamlet 1990")
        ([1, 2], [2])
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._titles = titles
        by_name = defaultdict[str, list[int]](list)
        for index, title in enumerate(titles):
            for form in {form for name in _parse(title).names for form in name}:
                by_name[form].append(index)
        by_name.pop("", None)  # of titles without letters and digits
        self._by_name = dict(by_name)

    def find(self, text: str) -> list[int]:
        """The indices of the items with a title; several if it is ambiguous, none if unknown.

        The time does not depend on the number of titles; it is below 5 ms for any text.
        """
        if len(text) > _MAX_LENGTH:
            return []
        found = self._find(_parse(text))
        name, _, year = text.strip().rpartition(" ")
        if not found and _YEAR.fullmatch(year):
            query = _parse(name)
            found = [] if query.year else self._find(query._replace(year=year))
        return found

    def _find(self, query: _Title) -> list[int]:
        forms = set(query.names[0])
        named = {index for form in forms for index in self._by_name.get(form, ())}
        if len(named) > _MAX_COMPARED:
            return sorted(named)
        ranks = {
            index: rank
            for index in sorted(named)
            if (rank := _rank(query, _parse(self._titles[index]))) is not None
        }
        best = min(ranks.values(), default=None)
        return [index for index, rank in ranks.items() if rank == best]


def _rank(query: _Title, title: _Title) -> tuple[bool, bool] | None:
    """Orders the titles that match a query, best first; None if the title does not match."""
    name, *others = query.names
    if query.year not in ("", title.year):
        return None
    if not all(any(set(other) & set(known) for known in title.names) for other in others):
        return None
    return min(
        (position > 0, known.full != name.full)
        for position, known in enumerate(title.names)
        if set(known) & set(name)
    )
