import pytest
import torch
from torch import nn

from recsys.sessions import SessionConfig, SessionNetwork
from recsys.sessions.network import NO_DROPOUT, DropoutMasks

ITEMS = torch.tensor([[1, 4, 2, 7], [0, 8, 3, 3]])


def test_saved_and_loaded_parameters_give_the_same_output(any_kind, untrained):
    saved = untrained(any_kind, seed=1).network
    loaded = SessionNetwork(9, any_kind).eval()
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded(ITEMS), saved(ITEMS))


def test_a_missing_parameter_is_an_error(tiny):
    network = SessionNetwork(9, tiny)
    state = network.state_dict()
    del state["ema_features.weight"]
    with pytest.raises(RuntimeError, match="ema_features"):
        network.load_state_dict(state)


def test_attention_and_feed_forward_start_at_zero(any_kind):
    plain = any_kind.model_copy(update={"attention": False, "feed_forward": 0})
    rich = any_kind.model_copy(update={"attention": True, "feed_forward": 4})
    expected = []
    for config in (plain, rich):
        network = SessionNetwork(9, config).eval()
        network.reset_parameters(torch.Generator().manual_seed(0), torch.ones(9))
        expected.append((network, network(ITEMS)))
    (plain_network, before), (rich_network, _) = expected
    rich_network.load_state_dict(rich_network.state_dict() | plain_network.state_dict())
    torch.testing.assert_close(rich_network(ITEMS), before)


def test_outputs_do_not_depend_on_later_items(any_kind, untrained):
    network = untrained(any_kind).network
    later = ITEMS.clone()
    later[:, 2:] = 5
    torch.testing.assert_close(network(later)[:, :2], network(ITEMS)[:, :2])


def test_attention_is_limited_to_its_window(tiny, untrained):
    """Without averages and recurrent weights, only attention looks back."""
    short = {"cell": "rnn", "ema_half_lives": (), "attention": True, "train_chunk_length": 3}
    network = untrained(tiny.model_copy(update=short)).network
    nn.init.zeros_(network.layers[0].weight_hh_l0)
    items = torch.tensor([[1, 4, 2, 7, 6]])
    far, near = items.clone(), items.clone()
    far[0, 1], near[0, 2] = 8, 8
    torch.testing.assert_close(network(far)[0, 4], network(items)[0, 4])
    assert not torch.allclose(network(near)[0, 4], network(items)[0, 4])


def test_the_configuration_must_be_resolved():
    with pytest.raises(ValueError, match="resolve"):
        SessionNetwork(9, SessionConfig())
    assert SessionNetwork(9, SessionConfig().resolve(10)).item_embeddings.embedding_dim == 64


def test_resolve_keeps_given_settings():
    given = SessionConfig(embedding_dim=7, input_dropout=0.0)
    assert given.resolve(10).embedding_dim == given.resolve(10**6).embedding_dim == 7
    assert given.resolve(10**6).input_dropout == 0.0
    small, large = SessionConfig().resolve(10), SessionConfig().resolve(10**6)
    assert small.input_dropout > large.input_dropout
    sizes = [0, 10**5, 10**6, 2 * 10**6, 5 * 10**6, 10**7, 3 * 10**7, 10**9]
    assert [SessionConfig().resolve(n).epochs for n in sizes] == [12, 12, 16, 16, 6, 3, 2, 2]
    assert SessionConfig(epochs=9).resolve(10**9).epochs == 9


@pytest.mark.parametrize("n_before", [0, 3])
def test_the_head_at_one_step_equals_that_of_all_steps(any_kind, untrained, n_before):
    network = untrained(any_kind).network
    before = torch.tensor([[6, 0, 5], [2, 2, 4]])[:, :n_before]
    state = network.run_rnn(before)[1] if n_before else None
    steps, _ = network.run_rnn(ITEMS, state)
    whole = network.head(steps)
    for position in ([0, 3], [2, 1], [3, 0]):
        selected = network.head(steps, torch.tensor(position))
        torch.testing.assert_close(selected, whole[[0, 1], position])


def test_dropout_masks_scale_what_they_keep(tiny):
    rates = {"item": 0.5, "input": 0.2, "output": 0.75, "ema": 0.1}
    changes = {f"{what}_dropout": rate for what, rate in rates.items()}
    config = tiny.model_copy(update={**changes, "n_layers": 2})
    network = SessionNetwork(9, config)
    masks = network.draw_masks(400, 3, torch.Generator().manual_seed(0))
    n_features = (1 + len(config.ema_half_lives)) * config.embedding_dim
    assert [tuple(mask.shape) for mask in masks] == [
        (400, 3, 1),
        (400, 1, config.embedding_dim),
        (2, 400, 1, config.hidden_dim),
        (400, 1, n_features),
    ]
    for rate, mask in zip(rates.values(), masks, strict=True):
        assert mask.unique().tolist() == pytest.approx([0.0, 1.0 / (1.0 - rate)])
        assert float((mask == 0).float().mean()) == pytest.approx(rate, abs=0.05)


@pytest.mark.parametrize("name", DropoutMasks._fields)
def test_each_mask_has_an_effect(tiny, untrained, name):
    config = tiny.model_copy(update={"n_layers": 2})
    network = untrained(config).network
    nn.init.normal_(network.ema_features.weight, generator=torch.Generator().manual_seed(1))
    drawn = network.draw_masks(2, 4, torch.Generator().manual_seed(0))
    mask = getattr(drawn, name)
    plain = network(ITEMS)
    assert torch.equal(network(ITEMS, DropoutMasks(**{name: torch.ones_like(mask)})), plain)
    assert not torch.allclose(network(ITEMS, DropoutMasks(**{name: mask})), plain)


def test_without_rates_there_are_no_masks(tiny):
    rates = {f"{what}_dropout": 0.0 for what in ("item", "input", "output", "ema")}
    assert SessionNetwork(9, tiny.model_copy(update=rates)).draw_masks(2, 4) == NO_DROPOUT
