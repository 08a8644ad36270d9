"""Every result of a search that gives them out by the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def every(search: Callable[..., Any]) -> Iterator[Any]:
    """Go through all pages of a search.

    Args:
        search: takes a `page_token`, gives back a list that has a `token` if there is more.
    """
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return
