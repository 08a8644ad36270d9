"""Web pages from the templates of this package, with plotly's script inside."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup


def render_page(template: str, **values: Any) -> str:
    """Fill in a template of the folder `templates`; `plotly` is the script."""
    from plotly.offline import get_plotlyjs  # slow to import

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = resources.files(__package__).joinpath("templates", template).read_text("utf-8")
    script = Markup(get_plotlyjs())  # noqa: S704 – part of plotly
    return environment.from_string(text).render(plotly=script, **values)
