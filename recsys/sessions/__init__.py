"""The session model: a recurrent network over watch sequences."""

from recsys.sessions.calibration import expected_calibration_error, fit_temperature
from recsys.sessions.config import SessionConfig
from recsys.sessions.export import export_scorer
from recsys.sessions.fit import fit_session_model, training_digest
from recsys.sessions.generate import WatchList, beam_search, greedy, sample
from recsys.sessions.network import SessionNetwork
from recsys.sessions.session_model import SessionModel, SessionState

__all__ = [
    "SessionConfig",
    "SessionModel",
    "SessionNetwork",
    "SessionState",
    "WatchList",
    "beam_search",
    "expected_calibration_error",
    "export_scorer",
    "fit_session_model",
    "fit_temperature",
    "greedy",
    "sample",
    "training_digest",
]
