import numpy as np
import pytest
import torch

from recsys.sessions.network import EMAFeatures

HALF_LIVES = (0.5, 1.0, 8.0)
INPUT_BLD = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def ema_features():
    features = EMAFeatures(4, HALF_LIVES)
    torch.nn.init.normal_(features.weight, generator=torch.Generator().manual_seed(1))
    return features


def step_by_step(input_LD, weight):
    """The recurrence, one step at a time."""
    emas = np.zeros((len(HALF_LIVES), 4))
    for x in input_LD.numpy():
        for k, half_life in enumerate(HALF_LIVES):
            decay = 2 ** (-1 / half_life)
            emas[k] = decay * emas[k] + (1 - decay) * x
        yield weight @ np.concatenate([x, *emas]), emas.copy()


def test_averages_follow_their_recurrence(ema_features):
    output, after = ema_features(INPUT_BLD, None), ema_features.after(INPUT_BLD, None)
    for row, input_LD in enumerate(INPUT_BLD):
        slow = list(step_by_step(input_LD, ema_features.weight.detach().numpy()))
        np.testing.assert_allclose(
            output[row].detach(), [output for output, _ in slow], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(after[row], slow[-1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_parts_equal_the_whole(ema_features, cut):
    first, rest = INPUT_BLD[:, :cut], INPUT_BLD[:, cut:]
    between = ema_features.after(first, None)
    parts = torch.cat([ema_features(first, None), ema_features(rest, between)], dim=1)
    torch.testing.assert_close(parts, ema_features(INPUT_BLD, None))
    torch.testing.assert_close(
        ema_features.after(rest, between), ema_features.after(INPUT_BLD, None)
    )


def test_after_a_half_life_an_input_counts_half():
    inputs = torch.zeros(1, 9, 1)
    inputs[0, 0] = 1.0
    emas = [EMAFeatures(1, (8.0,)).after(inputs[:, :n], None).item() for n in (1, 9)]
    assert emas[1] == pytest.approx(emas[0] / 2)


def test_initial_output_is_zero():
    assert not EMAFeatures(4, HALF_LIVES)(INPUT_BLD, None).any()


def test_a_mask_applies_to_every_step(ema_features):
    mask = torch.zeros(2, 1, 16)
    mask[1, 0, 5] = 2.0  # the second feature of the first average
    output = ema_features(INPUT_BLD, None, mask=mask)
    assert not output[0].any()
    column = ema_features.weight[:, 5].detach().clone()
    with torch.no_grad():
        ema_features.weight.copy_(torch.eye(16)[:4].roll(5, 1))  # the output is that feature first
    average_L = ema_features(INPUT_BLD, None)[1, :, 0]
    torch.testing.assert_close(output[1].detach(), 2.0 * average_L[:, None] * column)


def test_without_half_lives_only_the_latest_input_counts():
    plain = EMAFeatures(4, ())
    torch.nn.init.normal_(plain.weight)
    torch.testing.assert_close(plain(INPUT_BLD, None), INPUT_BLD @ plain.weight.T)
    assert plain.after(INPUT_BLD, None).shape == (2, 0, 4)
