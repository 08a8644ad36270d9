from .app import create_app
from .config import ServingConfig
from .server import serve

__all__ = [
    "ServingConfig",
    "create_app",
    "serve",
]
