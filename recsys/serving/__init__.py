"""Recommendations over HTTP, and the page that shows them (extra `[serve]`).

    recsys serve models:/recsys@champion

`create_app` gives the same as an ASGI application, to be run by another server.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
