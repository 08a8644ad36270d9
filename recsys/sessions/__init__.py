"""The session model: a recurrent network over sequences of items.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, because
`recsys.sessions.numpy_model`, which answers single requests, needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
