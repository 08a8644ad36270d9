from .config import SessionConfig
from .decode import ItemSequence, beam_search
from .fit import fit_session_model, training_digest
from .model import SessionModel, SessionState, expected_calibration_error, export_scorer
from .network import SessionNetwork
from .numpy_model import NumpySessionModel, Weights, from_torch, parameter_bytes, to_torch
from .trainer import checkpoint_bytes

__all__ = [
    "ItemSequence",
    "NumpySessionModel",
    "SessionConfig",
    "SessionModel",
    "SessionNetwork",
    "SessionState",
    "Weights",
    "beam_search",
    "checkpoint_bytes",
    "expected_calibration_error",
    "export_scorer",
    "fit_session_model",
    "from_torch",
    "parameter_bytes",
    "to_torch",
    "training_digest",
]
