"""Item embeddings, session models and recommendations from a log of interactions.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, so that a
program that only recommends does not wait for the libraries that training needs.
"""

import lazy_loader

from recsys.errors import requires

_import_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    with requires("train"):
        return _import_name(name)
