"""The session model: an LSTM over watch sequences."""

from recsys.sessions.config import SessionConfig
from recsys.sessions.fit import fit_session_model
from recsys.sessions.network import LSTMNetwork
from recsys.sessions.session_model import SessionModel

__all__ = ["LSTMNetwork", "SessionConfig", "SessionModel", "fit_session_model"]
