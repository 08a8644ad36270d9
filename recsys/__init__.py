"""Movie embeddings, session models and recommendations from a log of who watched what.

The public names, each imported when it is first used: a program that only asks for
recommendations does not wait for what only training needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.config import Runtime
    from recsys.cooccurrence import Cooccurrence, CooccurrenceConfig, count_cooccurrence
    from recsys.data import (
        Checks,
        Interactions,
        ReadReport,
        Split,
        global_time_cut,
        k_core,
        leave_last_n,
        leave_last_out,
        min_rating,
        per_user_ratio,
        read_ratings,
        time_window,
    )
    from recsys.embeddings import (
        EmbeddingConfig,
        ItemEmbeddings,
        fit_embeddings,
        ppmi_embeddings,
        spectral_optimum,
    )
    from recsys.errors import RecsysError
    from recsys.evaluation import Report, comparison_table, evaluate
    from recsys.loading import AutoReloader, load_recommender
    from recsys.recommender import Recommendations, Recommender, Session
    from recsys.sessions import SessionConfig, SessionModel, fit_session_model

_HOMES = {
    "recsys.config": ["Runtime"],
    "recsys.cooccurrence": ["Cooccurrence", "CooccurrenceConfig", "count_cooccurrence"],
    "recsys.data": [
        "Checks",
        "Interactions",
        "ReadReport",
        "Split",
        "global_time_cut",
        "k_core",
        "leave_last_n",
        "leave_last_out",
        "per_user_ratio",
        "min_rating",
        "read_ratings",
        "time_window",
    ],
    "recsys.embeddings": [
        "EmbeddingConfig",
        "ItemEmbeddings",
        "fit_embeddings",
        "spectral_optimum",
        "ppmi_embeddings",
    ],
    "recsys.errors": ["RecsysError"],
    "recsys.evaluation": ["Report", "comparison_table", "evaluate"],
    "recsys.loading": ["AutoReloader", "load_recommender"],
    "recsys.recommender": ["Recommendations", "Recommender", "Session"],
    "recsys.sessions": ["SessionConfig", "SessionModel", "fit_session_model"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AutoReloader",
    "Checks",
    "Cooccurrence",
    "CooccurrenceConfig",
    "EmbeddingConfig",
    "Interactions",
    "ItemEmbeddings",
    "ReadReport",
    "Recommendations",
    "Recommender",
    "RecsysError",
    "Report",
    "Runtime",
    "Session",
    "SessionConfig",
    "SessionModel",
    "Split",
    "comparison_table",
    "count_cooccurrence",
    "evaluate",
    "fit_embeddings",
    "fit_session_model",
    "global_time_cut",
    "k_core",
    "leave_last_n",
    "leave_last_out",
    "load_recommender",
    "min_rating",
    "per_user_ratio",
    "ppmi_embeddings",
    "read_ratings",
    "spectral_optimum",
    "time_window",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
