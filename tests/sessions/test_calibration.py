import numpy as np
import pytest

from recsys.errors import DataError
from recsys.sessions.calibration import expected_calibration_error, fit_temperature


def drawn_from(model, n, temperature, seed=0):
    """Histories, and next items drawn from the model at another temperature."""
    rng = np.random.default_rng(seed)
    histories = [rng.permutation(9)[:3].astype(np.int32) for _ in range(n)]
    p = np.exp(model.score(histories).astype(np.float64) / temperature)
    p /= p.sum(axis=1, keepdims=True)
    return histories, np.array([rng.choice(9, p=row) for row in p], np.int32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_temperature_of_what_came_is_found(tiny, untrained, temperature):
    model = untrained(tiny)
    histories, targets = drawn_from(model, 4000, temperature)
    model.network.temperature.fill_(3.0)  # fitted anew, whatever it was
    assert fit_temperature(model, histories, targets) == pytest.approx(temperature, rel=0.1)
    assert float(model.network.temperature) == pytest.approx(temperature, rel=0.1)


def test_it_makes_probabilities_honest_and_changes_no_ranking(tiny, untrained):
    model = untrained(tiny)
    histories, targets = drawn_from(model, 3000, 0.4)
    fresh_histories, fresh_targets = drawn_from(model, 3000, 0.4, seed=1)
    before = model.score(histories[:50])
    error = expected_calibration_error(model, fresh_histories, fresh_targets)
    fit_temperature(model, histories, targets)
    after = model.score(histories[:50])
    assert np.array_equal(before.argsort(axis=1), after.argsort(axis=1))
    assert expected_calibration_error(model, fresh_histories, fresh_targets) < 0.3 * error


class Fixed:
    """Scores as given."""

    def __init__(self, probabilities):
        self.scores = np.log(np.array(probabilities, np.float32))

    def score(self, histories):
        return self.scores


def test_the_error_worked_out_by_hand():
    model = Fixed([[0.8, 0.2], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6]])
    histories, targets = [np.array([], np.int32)] * 4, np.array([0, 1, 1, 1], np.int32)
    # Two bins of 0.5: all four in the upper one, three right, mean probability 0.75.
    assert expected_calibration_error(model, histories, targets, 2) == pytest.approx(0, abs=1e-6)
    # Five bins of 0.2: 0.6 and 0.7 in one, both right; 0.8 and 0.9 in another, one of them right.
    expected = (abs(2 - 1.3) + abs(1 - 1.7)) / 4
    assert expected_calibration_error(model, histories, targets, 5) == pytest.approx(expected)


def test_targets_already_seen_say_nothing(tiny, untrained):
    model = untrained(tiny)
    histories, targets = drawn_from(model, 500, 1.5)
    alone = fit_temperature(model, histories, targets)
    seen = np.array([4, 5], np.int32)
    with_seen = fit_temperature(model, [*histories, seen], np.append(targets, np.int32(4)))
    assert with_seen == pytest.approx(alone)
    with pytest.raises(DataError, match="nothing to calibrate on"):
        fit_temperature(model, [seen], np.array([4], np.int32))
    with pytest.raises(DataError, match="nothing to calibrate on"):
        expected_calibration_error(model, [seen], np.array([4], np.int32))
