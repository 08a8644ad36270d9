import json

from recsys.callbacks import History, compose, no_op


def test_a_history_remembers_each_epoch():
    history = History()
    history(1, {"loss": 3.0, "accuracy": 0.1})
    history(2, {"loss": 2.0, "accuracy": 0.2})
    assert history.epochs[2] == {"loss": 2.0, "accuracy": 0.2}
    assert history.series("loss") == [3.0, 2.0]


def test_a_history_keeps_what_it_was_told_when_the_teller_changes_it():
    history, metrics = History(), {"loss": 3.0}
    history(1, metrics)
    metrics["loss"] = 0.0
    assert history.series("loss") == [3.0]


def test_combined_listeners_are_told_in_order():
    told = []
    tell = compose(
        lambda epoch, metrics: told.append(("first", epoch, metrics)),
        no_op,
        lambda epoch, metrics: told.append(("second", epoch, metrics)),
    )
    tell(1, {"loss": 3.0})
    assert told == [("first", 1, {"loss": 3.0}), ("second", 1, {"loss": 3.0})]


def test_a_history_is_told_again_after_it_was_stored_as_json():
    history, told = History(), {}
    history(1, {"loss": 0.1, "accuracy": 1e-17})
    history(3, {"loss": 1 / 3})
    stored = json.loads(json.dumps(history.to_json()))
    History.from_json(stored).replay(told.__setitem__)
    assert told == history.epochs
