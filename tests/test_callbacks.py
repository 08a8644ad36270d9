import json

from recsys.callbacks import History, compose, no_op


def test_history_records_each_epoch():
    history = History()
    history(1, {"loss": 3.0, "accuracy": 0.1})
    history(2, {"loss": 2.0, "accuracy": 0.2})
    assert history.epochs[2] == {"loss": 2.0, "accuracy": 0.2}
    assert history.series("loss") == [3.0, 2.0]


def test_history_copies_metrics():
    history, metrics = History(), {"loss": 3.0}
    history(1, metrics)
    metrics["loss"] = 0.0
    assert history.series("loss") == [3.0]


def test_composed_callbacks_are_called_in_order():
    calls = []
    on_epoch = compose(
        lambda epoch, metrics: calls.append(("first", epoch, metrics)),
        no_op,
        lambda epoch, metrics: calls.append(("second", epoch, metrics)),
    )
    on_epoch(1, {"loss": 3.0})
    assert calls == [("first", 1, {"loss": 3.0}), ("second", 1, {"loss": 3.0})]


def test_history_replays_after_a_json_round_trip():
    history, replayed = History(), {}
    history(1, {"loss": 0.1, "accuracy": 1e-17})
    history(3, {"loss": 1 / 3})
    stored = json.loads(json.dumps(history.to_json()))
    History.from_json(stored).replay(replayed.__setitem__)
    assert replayed == history.epochs
