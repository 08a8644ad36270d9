"""The HTTP API of a recommender, with a demo page (extra `[serve]`).

`recsys serve` runs it; `create_app` creates the ASGI application for another server.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
