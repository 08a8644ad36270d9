"""The tasks of the flows: each calls the library, caches its result and records it in MLflow."""
