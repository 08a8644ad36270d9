"""Item embeddings fitted to co-occurrence counts; `__init__.pyi` lists the public names.

Each is imported when it is first used, because reading embeddings needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
