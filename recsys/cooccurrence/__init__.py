"""Item-item co-occurrence counts X_ij, and similarities computed from them.

interactions → positive events → row blocks of X → counts in memory or on disk → weighting
→ neighbours. numba is imported on the first count.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
