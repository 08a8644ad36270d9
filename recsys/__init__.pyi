from .config import Runtime
from .cooccurrence import Cooccurrence, CooccurrenceConfig, count_cooccurrence
from .data import (
    Checks,
    Interactions,
    ReadReport,
    Split,
    global_time_cut,
    k_core,
    last_days,
    last_session,
    leave_last_n,
    leave_last_out,
    min_rating,
    per_user_ratio,
    read_ratings,
    time_window,
)
from .embeddings import (
    EmbeddingConfig,
    ItemEmbeddings,
    fit_embeddings,
    ppmi_embeddings,
    spectral_optimum,
)
from .errors import RecsysError
from .evaluation import Report, comparison_table, evaluate
from .loading import AutoReloader, load_recommender
from .recommender import Recommendations, Recommender, Session
from .sessions import SessionConfig, SessionModel, fit_session_model

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
    "last_days",
    "last_session",
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
