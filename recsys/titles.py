"""Titles for display."""

from __future__ import annotations

_ARTICLES = frozenset({"A", "An", "The"})


def display_title(title: str) -> str:
    """Remove the year and alternative titles in parentheses, and move the article to the front.

    Example:
        >>> display_title("Seven Samurai, The (Shichinin no samurai) (1954)")
        'The Seven Samurai'
        >>> display_title("(500) Days of Summer (2009)")
        '(500) Days of Summer'
    """
    name = title.split(" (", 1)[0]
    words, comma, article = name.rpartition(", ")
    return f"{article} {words}" if comma and article in _ARTICLES else name
