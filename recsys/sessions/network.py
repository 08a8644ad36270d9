"""The network: item embeddings, recurrent layers, and the same item embeddings as output.

Shapes: B batch, L steps, P past states, S queried steps, D embedding, H hidden, K half-lives,
N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recsys.sessions.config import KEY_DIM, SessionConfig

Hidden = tuple[Tensor, ...]
"""State of a recurrent layer: (h,), or (h, c) for an LSTM, each [1, B, H]."""

INIT_STD = 0.1
"""Standard deviation of the initial item embeddings."""


@dataclass(frozen=True, eq=False)
class NetworkState:
    """What the network carries from step to step."""

    hidden: tuple[Hidden, ...]  # of each recurrent layer
    emas: Tensor  # moving averages of the inputs, [B, K, D]
    past: Tensor | None = None  # the latest states, oldest first, if there is attention, [B, P, H]

    def select(self, index_B: Tensor) -> NetworkState:
        """The state of the sequences at `index_B`, which may repeat."""
        return NetworkState(
            tuple(tuple(part[:, index_B] for part in hidden) for hidden in self.hidden),
            self.emas[index_B],
            None if self.past is None else self.past[index_B],
        )


@dataclass(frozen=True, eq=False)
class Steps:
    """The output of the recurrent layers, and the other inputs of the head."""

    inputs: Tensor  # input of the first layer, [B, L, D]
    states: Tensor  # output of the last layer, [B, L, H]
    emas: Tensor | None  # `NetworkState.emas` before these steps; None at the start of a sequence
    known: Tensor  # `NetworkState.past` before these steps and `states`, [B, P + L, H]


class DropoutMasks(NamedTuple):
    """Factors of one training step: zero with a probability, the rate, else 1 / (1 − rate).

    They are drawn before the step, so that the step depends on its arguments only and can be
    compiled. All but those of the items hold for a whole sequence. None is no dropout.
    """

    items: Tensor | None = None  # [B, L, 1]
    inputs: Tensor | None = None  # [B, 1, D]
    states: Tensor | None = None  # of each recurrent layer, [n_layers, B, 1, H]
    features: Tensor | None = None  # of `EMAFeatures`, [B, 1, (1 + K) D]


NO_DROPOUT = DropoutMasks()


class SessionNetwork(nn.Module):
    """Predicts the next item at every step of a sequence.

    Item embeddings → LayerNorm → recurrent layers → linear, plus a linear map of moving averages
    of the inputs and attention over past states → feed-forward block → dot product with the item
    embeddings, plus bias. Input and output embeddings are tied (Press & Wolf 2017; Inan et al.
    2017), layers above the first are residual (He et al. 2016), and dropout masks are constant
    over the steps of a sequence (Gal & Ghahramani 2016). Index `n_items` is the padding.
    """

    log_popularity: Tensor
    """Logarithm of each item's share of the training interactions, [N]."""

    repeats: bool
    """Whether an item of the history may come next; otherwise it has probability zero."""

    def __init__(self, n_items: int, config: SessionConfig, *, repeats: bool = False) -> None:
        super().__init__()
        if config.embedding_dim is None or config.input_dropout is None:
            raise ValueError("embedding_dim or input_dropout is None: call SessionConfig.resolve")
        self.n_items = n_items
        self.config = config
        self.repeats = repeats
        d, h = config.embedding_dim, config.hidden_dim
        self.item_embeddings = nn.Embedding(n_items + 1, d, padding_idx=n_items)  # [N + 1, D]
        self.item_embeddings.weight.requires_grad_(not config.freeze_item_embeddings)
        self.input_norm = nn.LayerNorm(d)
        layer_class = getattr(nn, config.cell.upper())
        self.layers = nn.ModuleList(
            layer_class(h if layer else d, h, batch_first=True) for layer in range(config.n_layers)
        )
        self.output = nn.Linear(h, d)
        self.ema_features = EMAFeatures(d, config.ema_half_lives)
        window = config.train_chunk_length
        self.attention = PastAttention(h, d, window) if config.attention else None
        self.feed_forward = FeedForward(d, config.feed_forward * d) if config.feed_forward else None
        self.item_bias = nn.Parameter(torch.zeros(n_items))  # [N]
        self.register_buffer("log_popularity", torch.zeros(n_items))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator, item_counts: Tensor) -> None:
        """Initialize all parameters, the biases by the items' numbers of interactions, [N]."""
        bound = self.config.hidden_dim**-0.5
        for name, parameter in self.named_parameters():
            if name.startswith(("layers.", "output.", "attention.")):
                uniform = 2.0 * torch.rand(parameter.shape, generator=generator) - 1.0
                parameter.copy_(uniform * bound)
        zeros: list[nn.Parameter] = [self.ema_features.weight]
        if self.attention is not None:
            zeros += self.attention.value.parameters()
        if self.feed_forward is not None:
            bound = self.feed_forward.expand.in_features**-0.5
            for parameter in self.feed_forward.expand.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
            zeros += self.feed_forward.contract.parameters()
        for parameter in zeros:
            parameter.zero_()
        normal = torch.randn(self.item_embeddings.weight.shape, generator=generator)
        self.item_embeddings.weight.copy_(INIT_STD * normal)
        self.item_embeddings.weight[self.n_items] = 0.0
        smoothed_N = item_counts + 0.5
        self.log_popularity.copy_(torch.log(smoothed_N / smoothed_N.sum()))
        self.item_bias.copy_(self.log_popularity)

    @torch.no_grad()
    def load_item_embeddings(self, item_embeddings: Tensor) -> None:
        """Copy pretrained embeddings, scaled to the standard deviation `INIT_STD`.

        Excess columns are dropped; missing ones keep their random initial values.
        """
        width = min(item_embeddings.shape[1], self.item_embeddings.embedding_dim)
        pretrained_ND = item_embeddings[:, :width].float()
        std = pretrained_ND.std()
        if std > 0:
            self.item_embeddings.weight[: self.n_items, :width] = pretrained_ND * (INIT_STD / std)

    def draw_masks(
        self, n_sequences: int, n_steps: int, generator: torch.Generator | None = None
    ) -> DropoutMasks:
        """Draw the dropout masks of a training step, on the device of the network."""
        config, device = self.config, self.item_bias.device

        def draw(rate: float | None, *shape: int) -> Tensor | None:
            if not rate:
                return None
            uniform = torch.rand(shape, device=device, generator=generator)
            return (uniform >= rate).float() / (1.0 - rate)

        width, n_features = self.item_embeddings.embedding_dim, self.ema_features.weight.shape[1]
        state_shape = config.n_layers, n_sequences, 1, config.hidden_dim
        return DropoutMasks(
            draw(config.item_dropout, n_sequences, n_steps, 1),
            draw(config.input_dropout, n_sequences, 1, width),
            draw(config.output_dropout, *state_shape),
            draw(config.ema_dropout, n_sequences, 1, n_features),
        )

    def forward(self, items_BL: Tensor, masks: DropoutMasks = NO_DROPOUT) -> Tensor:
        """The query vector of the next item after each step, [B, L, D]."""
        return self.step(items_BL, None, masks)[0]

    def step(
        self,
        items_BL: Tensor,
        state: NetworkState | None = None,
        masks: DropoutMasks = NO_DROPOUT,
    ) -> tuple[Tensor, NetworkState]:
        """Continue sequences from a state; returns query vectors, [B, L, D], and the new state."""
        steps, state = self.run_rnn(items_BL, state, masks)
        return self.head(steps, mask=masks.features), state

    def run_rnn(
        self,
        items_BL: Tensor,
        state: NetworkState | None = None,
        masks: DropoutMasks = NO_DROPOUT,
    ) -> tuple[Steps, NetworkState]:
        """`step` without the head, for callers that need the output of some steps only."""
        embedded_BLD = masked(self.item_embeddings(items_BL), masks.items)
        input_BLD = masked(self.input_norm(embedded_BLD), masks.inputs)
        x_BLH = input_BLD
        hidden: list[Hidden] = []
        for index, layer in enumerate(self.layers):
            y_BLH, after = run_layer(layer, x_BLH, state.hidden[index] if state else None)
            hidden.append(after)
            y_BLH = masked(y_BLH, None if masks.states is None else masks.states[index])
            x_BLH = x_BLH + y_BLH if index else y_BLH
        emas, past = (state.emas, state.past) if state else (None, None)
        known_BTH = x_BLH if past is None else torch.cat([past, x_BLH], dim=1)
        next_emas = self.ema_features.after(input_BLD, emas)
        next_past = None if self.attention is None else self.attention.latest(known_BTH)
        next_state = NetworkState(tuple(hidden), next_emas, next_past)
        return Steps(input_BLD, x_BLH, emas, known_BTH), next_state

    def head(
        self, steps: Steps, step_B: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """The query vectors of all steps, [B, L, D], or of one, without dropout, [B, D]."""
        states = steps.states if step_B is None else select_step(steps.states, step_B)
        emas: Tensor = self.ema_features(steps.inputs, steps.emas, step_B, mask)
        query: Tensor = emas + self.output(states)
        if self.attention is not None:
            query = query + self.attention(steps.states, steps.known, step_B)
        if self.feed_forward is not None:
            query = self.feed_forward(query)
        return query

    def logits(self, query_BD: Tensor) -> Tensor:
        """Scores of all items for query vectors, [B, N]."""
        return nn.functional.linear(query_BD, self.output_embeddings, self.item_bias)

    @property
    def output_embeddings(self) -> Tensor:
        """The output embeddings, [N, D]: the input embeddings without the padding row."""
        return self.item_embeddings.weight[: self.n_items]


class EMAFeatures(nn.Module):
    """A linear map of the latest input and of moving averages of the inputs so far.

    m_t = d m_{t−1} + (1 − d) x_t with d = 2^(−1 / half-life) and m_0 = 0: exponential moving
    averages with fixed decays; see "Mega" (Ma et al. 2023). The map has D² parameters per average
    and overfits item pairs early, so its features have a dropout mask of their own. Its weights
    start at zero. `emas_BKD` are the averages before the inputs; None at the start of a sequence.
    """

    decay: Tensor

    def __init__(self, dim: int, half_lives: Sequence[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, (1 + len(half_lives)) * dim))
        decay = 0.5 ** (1.0 / torch.tensor(half_lives, dtype=torch.float64))
        self.register_buffer("decay", decay.float(), persistent=False)  # [K]

    def forward(
        self,
        input_BLD: Tensor,
        emas_BKD: Tensor | None,
        step_B: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The output at each step, [B, L, D], or at one step, without dropout, [B, D]."""
        if step_B is not None:
            input_BD = select_step(input_BLD, step_B)
            emas_BKD = self._emas_at(step_B, input_BLD, emas_BKD)
            features_BF = torch.cat([input_BD, emas_BKD.to(input_BD.dtype).flatten(1)], dim=1)
            return nn.functional.linear(features_BF, self.weight)
        n_steps = input_BLD.shape[1]
        steps_L = torch.arange(n_steps, device=input_BLD.device)
        emas_BKLD = self._input_weights(steps_L, n_steps) @ input_BLD[:, None].float()
        if emas_BKD is not None:
            past_weights_KL = self.decay[:, None] ** (steps_L + 1)
            emas_BKLD = emas_BKLD + past_weights_KL[:, :, None] * emas_BKD[:, :, None]
        features_BLF = torch.cat([input_BLD, *emas_BKLD.to(input_BLD.dtype).unbind(1)], dim=2)
        return nn.functional.linear(masked(features_BLF, mask), self.weight)

    def after(self, input_BLD: Tensor, emas_BKD: Tensor | None) -> Tensor:
        """The averages after the last step, [B, K, D]."""
        last_B = torch.full(input_BLD.shape[:1], input_BLD.shape[1] - 1, device=input_BLD.device)
        return self._emas_at(last_B, input_BLD, emas_BKD)

    def _emas_at(self, step_B: Tensor, input_BLD: Tensor, emas_BKD: Tensor | None) -> Tensor:
        weights_BKL = self._input_weights(step_B, input_BLD.shape[1]).transpose(0, 1)
        result_BKD = weights_BKL @ input_BLD.float()
        if emas_BKD is not None:
            past_weights_KB = self.decay[:, None] ** (step_B + 1)
            result_BKD = result_BKD + past_weights_KB.T[:, :, None] * emas_BKD
        return result_BKD

    def _input_weights(self, steps_S: Tensor, n_inputs: int) -> Tensor:
        """Weight of each of L inputs in the averages at some steps, [K, S, L]."""
        age_SL = steps_S[:, None] - torch.arange(n_inputs, device=steps_S.device)
        decay_K11 = self.decay[:, None, None]
        return torch.where(age_SL >= 0, (1.0 - decay_K11) * decay_K11 ** age_SL.clamp(min=0), 0.0)


class PastAttention(nn.Module):
    """Attention of each state over the latest `window` states, itself included.

    See Bahdanau et al. 2015 and Daniluk et al. 2017, "Frustratingly short attention spans". The
    values start at zero, so that training begins as without attention. `known_BTH` are states
    from earlier steps and those of the current steps.
    """

    def __init__(self, hidden_dim: int, output_dim: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.query = nn.Linear(hidden_dim, KEY_DIM)
        self.key = nn.Linear(hidden_dim, KEY_DIM)
        self.value = nn.Linear(hidden_dim, output_dim)

    def forward(
        self, states_BLH: Tensor, known_BTH: Tensor, step_B: Tensor | None = None
    ) -> Tensor:
        """The output at each step, [B, L, D], or at one step of each sequence, [B, D]."""
        query_BSH, steps_S = states_BLH, torch.arange(states_BLH.shape[1], device=states_BLH.device)
        if step_B is not None:  # S is 1, and the steps differ between sequences
            query_BSH, steps_S = select_step(states_BLH, step_B)[:, None], step_B[:, None]
        n_known = known_BTH.shape[1]
        position_S1 = (n_known - states_BLH.shape[1] + steps_S)[..., None]
        distance_ST = position_S1 - torch.arange(n_known, device=steps_S.device)
        output_BSD = nn.functional.scaled_dot_product_attention(
            self.query(query_BSH),
            self.key(known_BTH),
            self.value(known_BTH),
            attn_mask=(distance_ST >= 0) & (distance_ST < self.window),
        )
        return output_BSD if step_B is None else output_BSD[:, 0]

    def latest(self, known_BTH: Tensor) -> Tensor:
        """The states that the next steps attend to."""
        return known_BTH[:, max(known_BTH.shape[1] - (self.window - 1), 0) :]


class FeedForward(nn.Module):
    """The pre-norm feed-forward block of a Transformer (Vaswani et al. 2017; Xiong et al. 2020).

    x + contract(gelu(expand(norm(x)))), with `contract` starting at zero.
    """

    def __init__(self, dim: int, inner_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, inner_dim)
        self.contract = nn.Linear(inner_dim, dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """The output, [B, L, D]."""
        added_BLD: Tensor = self.contract(nn.functional.gelu(self.expand(self.norm(x_BLD))))
        return x_BLD + added_BLD


def run_layer(layer: nn.Module, x_BLH: Tensor, hidden: Hidden | None) -> tuple[Tensor, Hidden]:
    """Run a recurrent layer; torch takes a pair of states for the LSTM only."""
    is_lstm = isinstance(layer, nn.LSTM)
    # On a GPU, autocast would choose float16 instead of bf16, where small gradients become zero.
    with torch.autocast("cuda", enabled=False) if x_BLH.is_cuda else nullcontext():
        y_BLH, after = layer(x_BLH, hidden[0] if hidden and not is_lstm else hidden)
    return y_BLH, after if is_lstm else (after,)


def select_step(x_BLF: Tensor, step_B: Tensor) -> Tensor:
    """One step of each sequence, [B, F]."""
    return x_BLF[torch.arange(x_BLF.shape[0], device=x_BLF.device), step_B]


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a dropout mask, if there is one."""
    return x if mask is None else x * mask.to(x.dtype)
