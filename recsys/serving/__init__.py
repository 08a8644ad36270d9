"""Recommendations over HTTP, and the page that shows them (extra `[serve]`).

    recsys serve models:/recsys@champion

`create_app` gives the same as an ASGI application, to be run by another server.
"""

from typing import TYPE_CHECKING

from recsys.deferred import deferred

if TYPE_CHECKING:
    from recsys.serving.app import create_app
    from recsys.serving.config import ServingConfig
    from recsys.serving.server import serve

__all__ = ["ServingConfig", "create_app", "serve"]

__getattr__ = deferred(
    __name__,
    {
        "recsys.serving.app": ["create_app"],
        "recsys.serving.config": ["ServingConfig"],
        "recsys.serving.server": ["serve"],
    },
)
