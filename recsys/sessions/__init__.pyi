from .calibration import expected_calibration_error, fit_temperature
from .config import SessionConfig
from .export import export_scorer
from .fit import fit_session_model, training_digest
from .generate import WatchList, beam_search, greedy, sample
from .network import SessionNetwork
from .numpy_model import NumpySessionModel
from .session_model import SessionModel, SessionState
from .weights import Weights, from_torch, to_torch

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
