import pytest
import torch
from torch import nn

from recsys.sessions import SessionConfig, SessionNetwork

ITEMS = torch.tensor([[1, 4, 2, 7], [0, 8, 3, 3]])


def test_parameters_saved_and_loaded_give_the_same(any_kind, untrained):
    saved = untrained(any_kind, seed=1).network
    loaded = SessionNetwork(9, any_kind).eval()
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded(ITEMS), saved(ITEMS))


def test_parameters_of_the_earlier_form_load_and_mean_the_same(tiny):
    """Vectors, norm, one LSTM and an output, as the first bundles hold them."""
    torch.manual_seed(0)
    vectors, norm = nn.Embedding(10, 8), nn.LayerNorm(8)
    lstm, output = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 8)
    parts = {"item_embeddings": vectors, "input_norm": norm, "lstm": lstm, "output": output}
    state = {f"{n}.{k}": t for n, part in parts.items() for k, t in part.state_dict().items()}
    state["item_bias"] = torch.randn(9)
    config = tiny.model_copy(update={"attention": True})
    network = SessionNetwork(9, config).eval()
    network.load_state_dict(dict(state))
    torch.testing.assert_close(network(ITEMS), output(lstm(norm(vectors(ITEMS)))[0]))
    assert network.temperature == 1
    torch.testing.assert_close(network.log_popularity, state["item_bias"].log_softmax(0))


def test_a_parameter_that_is_missing_is_an_error(tiny):
    network = SessionNetwork(9, tiny)
    state = network.state_dict()
    del state["shortcut.weight"]
    with pytest.raises(RuntimeError, match="shortcut"):
        network.load_state_dict(state)


def test_what_is_added_to_the_recurrent_layers_starts_silent(any_kind):
    plain = any_kind.model_copy(update={"attention": False, "feed_forward": 0})
    rich = any_kind.model_copy(update={"attention": True, "feed_forward": 4})
    expected = []
    for config in (plain, rich):
        network = SessionNetwork(9, config).eval()
        network.initialise(torch.Generator().manual_seed(0), torch.ones(9))
        expected.append((network, network(ITEMS)))
    (one, before), (other, _) = expected
    other.load_state_dict(other.state_dict() | one.state_dict())
    torch.testing.assert_close(other(ITEMS), before)


def test_nothing_is_learned_from_what_is_to_come(any_kind, untrained):
    network = untrained(any_kind).network
    later = ITEMS.clone()
    later[:, 2:] = 5
    torch.testing.assert_close(network(later)[:, :2], network(ITEMS)[:, :2])


def test_attention_looks_no_further_back_than_its_window(tiny, untrained):
    """Nothing else remembers: no means, and a plain cell with no recurrent weights."""
    short = {"cell": "rnn", "ema_half_lives": (), "attention": True, "train_chunk_length": 3}
    network = untrained(tiny.model_copy(update=short)).network
    nn.init.zeros_(network.layers[0].weight_hh_l0)
    one = torch.tensor([[1, 4, 2, 7, 6]])
    far, near = one.clone(), one.clone()
    far[0, 1], near[0, 2] = 8, 8
    torch.testing.assert_close(network(far)[0, 4], network(one)[0, 4])
    assert not torch.allclose(network(near)[0, 4], network(one)[0, 4])


def test_sizes_have_to_be_settled():
    with pytest.raises(ValueError, match="resolve"):
        SessionNetwork(9, SessionConfig())
    assert SessionNetwork(9, SessionConfig().resolve(10)).item_embeddings.embedding_dim == 64


def test_what_is_given_is_not_settled_anew():
    given = SessionConfig(embedding_dim=7, input_dropout=0.0)
    assert given.resolve(10).embedding_dim == given.resolve(10**6).embedding_dim == 7
    assert given.resolve(10**6).input_dropout == 0.0
    small, large = SessionConfig().resolve(10), SessionConfig().resolve(10**6)
    assert small.input_dropout > large.input_dropout


@pytest.mark.parametrize("n_before", [0, 3])
def test_one_answer_of_each_sequence_is_the_same_as_of_all(any_kind, untrained, n_before):
    network = untrained(any_kind).network
    before = torch.tensor([[6, 0, 5], [2, 2, 4]])[:, :n_before]
    memory = network.recur(before)[1] if n_before else None
    steps, _ = network.recur(ITEMS, memory)
    whole = network.read_out(steps)
    for place in ([0, 3], [2, 1], [3, 0]):
        chosen = network.read_out_at(torch.tensor(place), steps)
        torch.testing.assert_close(chosen, whole[[0, 1], place])
