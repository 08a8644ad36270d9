import numpy as np
import pytest
import torch

from recsys.sessions.shortcut import Shortcut

HALF_LIVES = (0.5, 1.0, 8.0)
INPUT_BLD = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def shortcut():
    made = Shortcut(4, HALF_LIVES, dropout=0.5).eval()
    torch.nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(1))
    return made


def step_by_step(input_LD, weight):
    """The recurrence of the docstring, one sequence and one step at a time."""
    means = np.zeros((len(HALF_LIVES), 4))
    for x in input_LD.numpy():
        for k, half_life in enumerate(HALF_LIVES):
            decay = 2 ** (-1 / half_life)
            means[k] = decay * means[k] + (1 - decay) * x
        yield weight @ np.concatenate([x, *means]), means.copy()


def test_it_is_what_its_recurrence_says(shortcut):
    added, after = shortcut(INPUT_BLD, None), shortcut.after(INPUT_BLD, None)
    for row, input_LD in enumerate(INPUT_BLD):
        slow = list(step_by_step(input_LD, shortcut.weight.detach().numpy()))
        np.testing.assert_allclose(added[row].detach(), [a for a, _ in slow], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after[row], slow[-1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_two_parts_are_the_whole(shortcut, cut):
    first, rest = INPUT_BLD[:, :cut], INPUT_BLD[:, cut:]
    between = shortcut.after(first, None)
    parts = torch.cat([shortcut(first, None), shortcut(rest, between)], dim=1)
    torch.testing.assert_close(parts, shortcut(INPUT_BLD, None))
    torch.testing.assert_close(shortcut.after(rest, between), shortcut.after(INPUT_BLD, None))


def test_after_a_half_life_a_watch_counts_half():
    watch = torch.zeros(1, 9, 1)
    watch[0, 0] = 1.0
    means = [Shortcut(1, (8.0,), 0.0).after(watch[:, :n], None).item() for n in (1, 9)]
    assert means[1] == pytest.approx(means[0] / 2)


def test_a_new_one_adds_nothing():
    assert not Shortcut(4, HALF_LIVES, dropout=0.5)(INPUT_BLD, None).any()


def test_while_it_learns_the_same_features_are_hidden_at_every_step(shortcut):
    """With one feature alone let through by the weights, a sequence has all of it or none."""
    shortcut.train()
    torch.nn.init.zeros_(shortcut.weight)
    shortcut.weight.data[0, 0] = 1.0
    torch.manual_seed(0)
    many = INPUT_BLD[:1].expand(200, -1, -1)
    added_BL = shortcut(many, None)[:, :, 0]
    shown_BL = torch.isclose(added_BL, 2.0 * many[:, :, 0])
    assert (shown_BL.all(dim=1) | ~shown_BL.any(dim=1)).all()
    assert 60 < shown_BL[:, 0].sum() < 140


def test_no_half_lives_leave_the_latest_watch():
    plain = Shortcut(4, (), dropout=0.0)
    torch.nn.init.normal_(plain.weight)
    torch.testing.assert_close(plain(INPUT_BLD, None), INPUT_BLD @ plain.weight.T)
    assert plain.after(INPUT_BLD, None).shape == (2, 0, 4)
