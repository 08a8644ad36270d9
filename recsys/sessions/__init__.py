"""The session model: a recurrent network over watch sequences.

The public names, each imported when it is first used: what answers single requests
(`recsys.sessions.numpy_model`) needs no torch.
"""

from typing import TYPE_CHECKING

from recsys.deferred import deferred

if TYPE_CHECKING:
    from recsys.sessions.calibration import expected_calibration_error, fit_temperature
    from recsys.sessions.config import SessionConfig
    from recsys.sessions.export import export_scorer
    from recsys.sessions.fit import fit_session_model, training_digest
    from recsys.sessions.generate import WatchList, beam_search, greedy, sample
    from recsys.sessions.network import SessionNetwork
    from recsys.sessions.numpy_model import NumpySessionModel
    from recsys.sessions.session_model import SessionModel, SessionState
    from recsys.sessions.weights import Weights, from_torch, to_torch

__all__ = [
    "NumpySessionModel",
    "SessionConfig",
    "SessionModel",
    "SessionNetwork",
    "SessionState",
    "WatchList",
    "Weights",
    "beam_search",
    "expected_calibration_error",
    "export_scorer",
    "fit_session_model",
    "fit_temperature",
    "from_torch",
    "greedy",
    "sample",
    "to_torch",
    "training_digest",
]

__getattr__ = deferred(
    __name__,
    {
        "recsys.sessions.calibration": ["expected_calibration_error", "fit_temperature"],
        "recsys.sessions.config": ["SessionConfig"],
        "recsys.sessions.export": ["export_scorer"],
        "recsys.sessions.fit": ["fit_session_model", "training_digest"],
        "recsys.sessions.generate": ["WatchList", "beam_search", "greedy", "sample"],
        "recsys.sessions.network": ["SessionNetwork"],
        "recsys.sessions.session_model": ["SessionModel", "SessionState"],
        "recsys.sessions.numpy_model": ["NumpySessionModel"],
        "recsys.sessions.weights": ["Weights", "to_torch", "from_torch"],
    },
)
