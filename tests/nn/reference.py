"""A decoder in the plainest NumPy, one text at a time, written from the papers and HF's code.

It shares nothing with m2m.nn but the config: weights are whole, adapters merged, attention a full
matrix, positions rotated by halves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2m.formats.half import bf16_to_f32, f32_to_bf16
from m2m.nn.config import Batch, DecoderConfig, RopeScaling
from m2m.nn.lora import LoraPair

Array = NDArray[Any]


def make_config(**traits: Any) -> DecoderConfig:
    """A model small enough for gradient checks: 2 layers, 24 wide."""
    sizes: dict[str, Any] = {
        "architecture": "llama",
        "vocab_size": 61,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 6,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
    }
    return DecoderConfig(**(sizes | traits))


def make_weights(config: DecoderConfig, seed: int = 0) -> dict[str, Array]:
    """Random float64 weights whose norms and biases are not trivial."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.weight_shapes().items():
        size = 0.3 if len(shape) == 2 else 0.2
        centre = 1.0 - config.norm_offset if "norm" in name else 0.0
        weights[name] = centre + size * rng.standard_normal(shape)
        if name.endswith("act_fn.eps"):
            weights[name] = np.array(-1e-12)
        if name.endswith("decay.weight"):
            weights[name] = -0.1 - np.abs(weights[name])
    return weights


def make_lora(
    config: DecoderConfig, seed: int = 1, modules: str = "", rank: int = 3
) -> dict[str, LoraPair]:
    """Adapters for the modules whose path holds `modules`; both factors are random."""
    rng = np.random.default_rng(seed)
    return {
        module: LoraPair(
            0.2 * rng.standard_normal((rank, columns)), 0.2 * rng.standard_normal((rows, rank)), 1.5
        )
        for module, (rows, columns) in config.linear_shapes().items()
        if modules in module
    }


def make_batch(
    config: DecoderConfig,
    lengths: Sequence[int],
    prefix: int = 0,
    seed: int = 2,
    share: float = 0.4,
) -> Batch:
    """Random rows after a shared prefix; about `share` of the rows' tokens have a loss."""
    rng = np.random.default_rng(seed)
    total = prefix + sum(lengths)
    index = prefix + np.flatnonzero(rng.random(total - prefix) < share)
    return Batch(
        tokens=rng.integers(0, config.vocab_size, total).astype(np.int32),
        lengths=np.array(lengths),
        prefix_length=prefix,
        loss_index=index,
        loss_target=rng.integers(0, config.vocab_size, len(index)),
    )


def unshared(batch: Batch) -> list[tuple[Array, Array, Array]]:
    """The batch's rows as whole texts: (tokens, loss positions in it, targets) each."""
    head, start, texts = batch.tokens[: batch.prefix_length], batch.prefix_length, []
    for length in batch.lengths:
        inside = (batch.loss_index >= start) & (batch.loss_index < start + length)
        tokens = np.concatenate([head, batch.tokens[start : start + length]])
        places = batch.loss_index[inside] - start + batch.prefix_length
        texts.append((tokens, places, batch.loss_target[inside]))
        start += length
    return texts


def loss(
    config: DecoderConfig, weights: Mapping[str, Array], batch: Batch, lora: Mapping[str, LoraPair]
) -> float:
    """Summed nats of a batch, one whole text at a time."""
    total = 0.0
    for tokens, places, targets in unshared(batch):
        rows = logits(config, weights, tokens, lora)[places]
        top = rows.max(axis=1, keepdims=True) if len(rows) else rows
        logs = np.log(np.exp(rows - top).sum(axis=1)) + (top[:, 0] if len(rows) else 0.0)
        total += float((logs - rows[np.arange(len(rows)), targets]).sum())
    return total


def logits(
    config: DecoderConfig, weights: Mapping[str, Array], tokens: Array, lora: Mapping[str, LoraPair]
) -> Array:
    """Logits after every token, (T, V)."""
    model = _Model(config, weights, lora)
    embedding = weights["model.embed_tokens.weight"]
    x = embedding[tokens] * config.embedding_scale
    if config.positions == "learned":
        x = x + weights["model.embed_positions.weight"][: len(tokens)]
    if config.embedding_norm:
        x = model.norm("model.embed_norm", x)
    for layer in range(config.num_layers):
        x = model.layer(layer, x)
    head = embedding if config.tie_word_embeddings else weights["lm_head.weight"]
    raw = model.norm("model.norm", x) @ head.T * config.logit_scale / config.logit_divisor
    return model.cap(raw + weights.get("lm_head.bias", 0.0), config.logit_cap)


def bf16_product(x: Array, weights: Array) -> tuple[Array, Array]:
    """`x @ weights.T` of x rounded to bfloat16 and weights (N, K) stored in it, in float64.

    Also returns the most by which sums in float32 may differ from it, in any order: K u sum |x w|
    with u = 2**-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1; float32
    holds the products of two bfloat16 numbers exactly). Processors differ in the order. What they
    round next is then sometimes rounded to the next bfloat16 number, 2**-8 away, so only products
    of the same inputs can be compared this closely, not what a whole model makes of them.
    """
    one = bf16_to_f32(f32_to_bf16(np.ascontiguousarray(x))).reshape(x.shape).astype(np.float64)
    other = bf16_to_f32(np.ascontiguousarray(weights)).reshape(weights.shape).astype(np.float64)
    most = x.shape[1] * 2.0**-24 * (np.abs(one) @ np.abs(other).T)
    return one @ other.T, most + np.finfo(np.float32).tiny


class _Model:
    def __init__(
        self, config: DecoderConfig, weights: Mapping[str, Array], lora: Mapping[str, LoraPair]
    ) -> None:
        self.config, self.weights, self.lora = config, weights, lora

    def linear(self, module: str, x: Array) -> Array:
        weight = self.weights[f"{module}.weight"]
        if module in self.lora:
            pair = self.lora[module]
            weight = weight + pair.scale * (pair.b @ pair.a)
        return np.asarray(x @ weight.T + self.weights.get(f"{module}.bias", 0.0))

    def norm(self, name: str, x: Array) -> Array:
        gain = self.weights.get(f"{name}.weight", 1.0) + self.config.norm_offset
        if self.config.norm == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
        mean = (x * x).mean(axis=-1, keepdims=True)
        bias = self.weights.get(f"{name}.bias", 0.0)
        return np.asarray(x / np.sqrt(mean + self.config.rms_norm_eps) * gain + bias)

    @staticmethod
    def cap(x: Array, cap: float) -> Array:
        return np.asarray(cap * np.tanh(x / cap) if cap else x)

    def layer(self, layer: int, x: Array) -> Array:
        config, prefix = self.config, f"model.layers.{layer}"
        names = [name and f"{prefix}.{name}" for name in config.norm_places()]
        stream = x
        for number, part in enumerate(
            (lambda h: self.mix(layer, h), lambda h: self.mlp(f"{prefix}.mlp", h))
        ):
            before, after = names[2 * number : 2 * number + 2]
            read = stream if config.parallel else x
            change = part(self.norm(before, read) if before else read)
            change = self.norm(after, change) if after else change
            x = x + config.residual_scale * change
        return x

    def mlp(self, prefix: str, h: Array) -> Array:
        up = self.linear(f"{prefix}.up_proj", h)
        gate = self.linear(f"{prefix}.gate_proj", h) if self.config.gated else up
        if self.config.activation == "relu2":
            act = np.maximum(gate, 0.0) ** 2
        elif self.config.activation == "silu":
            act = gate / (1.0 + np.exp(-gate))
        elif self.config.activation == "xielu":
            names = ("alpha_p", "alpha_n", "beta", "eps")
            p, n, beta, eps = (self.weights[f"{prefix}.act_fn.{name}"] for name in names)
            above = np.log1p(np.exp(p)) * gate**2 + beta * gate
            below = (np.exp(np.minimum(gate, eps)) - 1.0 - gate) * (beta + np.log1p(np.exp(n)))
            act = np.where(gate > 0.0, above, below + beta * gate)
        else:
            inner = np.sqrt(2.0 / np.pi) * (gate + 0.044715 * gate**3)
            act = 0.5 * gate * (1.0 + np.tanh(inner))
        return self.linear(f"{prefix}.down_proj", act * up if self.config.gated else act)

    def mix(self, layer: int, h: Array) -> Array:
        mixers = {
            "attention": self.attention,
            "conv": self.short_conv,
            "delta": self.delta_net,
        }
        return mixers[self.config.mixer(layer)](layer, h)

    def short_conv(self, layer: int, h: Array) -> Array:
        prefix = f"model.layers.{layer}.conv"
        b, c, x = np.split(self.linear(f"{prefix}.in_proj", h), 3, axis=1)
        y = self.convolve(f"{prefix}.conv.weight", b * x)
        return self.linear(f"{prefix}.out_proj", c * y)

    def delta_net(self, layer: int, h: Array) -> Array:
        """Token by token, as torch_recurrent_gated_delta_rule in transformers."""
        config, prefix = self.config, f"model.layers.{layer}.linear_attn"
        x = self.convolve(f"{prefix}.conv1d.weight", self.linear(f"{prefix}.in_proj_qkv", h))
        x = x / (1.0 + np.exp(-x))
        z, b, a = (self.linear(f"{prefix}.in_proj_{name}", h) for name in "zba")
        keys, heads, dim = config.delta_keys, config.delta_heads, config.delta_dim
        q, k, v = np.split(x, [keys * dim, 2 * keys * dim], axis=1)
        q, k = (each.reshape(len(h), keys, dim) for each in (q, k))
        eps = config.rms_norm_eps
        q, k = (each / np.sqrt((each**2).sum(-1, keepdims=True) + eps) for each in (q, k))
        q, k = (each.repeat(heads // keys, axis=1) for each in (q / np.sqrt(dim), k))
        decay = self.weights[f"{prefix}.decay.weight"]
        forget = np.exp(decay * np.log1p(np.exp(a + self.weights[f"{prefix}.dt.bias"])))
        state, out = np.zeros((heads, dim, dim)), []
        for t, value in enumerate(v.reshape(len(h), heads, dim)):
            state = state * forget[t][:, None, None]
            memory = np.einsum("hij,hi->hj", state, k[t])
            change = (value - memory) / (1.0 + np.exp(-b[t]))[:, None]
            state = state + k[t][:, :, None] * change[:, None, :]
            out.append(np.einsum("hij,hi->hj", state, q[t]))
        core = np.array(out)
        core = core / np.sqrt((core**2).mean(-1, keepdims=True) + eps)
        core = (core * self.weights[f"{prefix}.norm.weight"]).reshape(len(h), -1)
        return self.linear(f"{prefix}.out_proj", core * z / (1.0 + np.exp(-z)))

    def convolve(self, name: str, x: Array) -> Array:
        """Conv1d with a group for each channel, padded on the left: a sum for each token."""
        kernel = self.weights[name]
        taps = kernel.shape[1]
        padded = np.concatenate([np.zeros((taps - 1, x.shape[1])), x])
        rows = [(padded[t : t + taps] * kernel.T).sum(axis=0) for t in range(len(x))]
        return np.array(rows)

    def attention(self, layer: int, h: Array) -> Array:
        config, prefix, count = self.config, f"model.layers.{layer}.self_attn", len(h)
        q = self.linear(f"{prefix}.q_proj", h).reshape(count, config.num_heads, -1)
        gate = np.zeros(0)
        if config.attention_gate:
            q, gate = np.split(q, 2, axis=-1)
        k = self.linear(f"{prefix}.k_proj", h).reshape(count, config.num_kv_heads, -1)
        v = self.linear(f"{prefix}.v_proj", h).reshape(count, config.num_kv_heads, -1)
        if config.qk_norm and not config.turns_before_norm:
            shapes = [x.shape for x in (q, k)]
            if config.norms_whole_qk:
                q, k = q.reshape(count, -1), k.reshape(count, -1)
            q, k = self.head_norm(prefix, "q", q), self.head_norm(prefix, "k", k)
            q, k = q.reshape(shapes[0]), k.reshape(shapes[1])
        local = config.kind(layer).local
        if config.kind(layer).rotated:
            q, k = self.rotate(q, local), self.rotate(k, local)
        if config.turns_before_norm:
            q = self.norm(f"{prefix}.query_layernorm", q)
            k = self.norm(f"{prefix}.key_layernorm", k)
        share = config.num_heads // config.num_kv_heads
        k, v = k.repeat(share, axis=1), v.repeat(share, axis=1)
        scale = config.query_scale if config.query_scale is not None else config.head_dim**-0.5
        if config.temperature:
            periods = np.arange(count) // config.rope_scaling.original_max_position_embeddings
            q = q * (1.0 + config.temperature * np.log(1.0 + periods))[:, None, None]
        scores = np.einsum("thd,uhd->htu", q, k) * scale
        scores = self.cap(scores, config.attention_cap)
        distance = np.arange(count)[:, None] - np.arange(count)
        if config.positions == "alibi":
            scores -= np.array(_slopes(config.num_heads))[:, None, None] * distance
        hidden = distance < 0
        if local:
            hidden |= distance >= config.sliding_window
        scores[:, hidden] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("htu,uhd->thd", weights, v).reshape(count, -1)
        if config.attention_gate:
            mixed = mixed / (1.0 + np.exp(-gate.reshape(count, -1)))
        return self.linear(f"{prefix}.o_proj", mixed)

    def head_norm(self, prefix: str, name: str, x: Array) -> Array:
        if not self.config.norms_by_head:
            return self.norm(f"{prefix}.{name}_norm", x)
        heads = range(x.shape[1])
        each = [self.norm(f"{prefix}.{name}_layernorm.norms.{h}", x[:, h]) for h in heads]
        return np.stack(each, axis=1)

    def rotate(self, x: Array, local: bool) -> Array:
        turned = self.config.rotary_dim or self.config.head_dim
        whole = self.rotate_all(x[..., :turned], local)
        return np.concatenate([whole, x[..., turned:]], axis=-1)

    def rotate_all(self, x: Array, local: bool) -> Array:
        config, half = self.config, x.shape[-1] // 2
        theta = config.local_rope_theta if local and config.local_rope_theta else config.rope_theta
        inverse = 1.0 / theta ** (np.arange(half) / half)
        scaling = None if local and config.local_rope_theta else config.rope_scaling
        if scaling is not None and scaling.kind == "linear":
            inverse = inverse / scaling.factor
        elif scaling is not None and scaling.kind == "yarn":
            inverse = _yarn(inverse, theta, scaling)
            x = x * (scaling.attention_factor or 0.1 * np.log(scaling.factor) + 1.0)
        elif scaling is not None and scaling.kind == "longrope":
            inverse = inverse / np.array(scaling.short_factor)
            x = x * scaling.attention_factor
        elif scaling is not None:
            inverse = np.array([_llama3(value, scaling) for value in inverse])
        angle = np.outer(np.arange(len(x)), inverse)
        if config.rotates_neighbours:
            even, odd = x[..., 0::2], x[..., 1::2]
            cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
            turned = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
            return np.asarray(turned.reshape(x.shape))
        cos, sin = (np.tile(f(angle), 2)[:, None] for f in (np.cos, np.sin))
        turned = np.concatenate([-x[..., half:], x[..., :half]], axis=-1)
        return np.asarray(x * cos + turned * sin)


def _slopes(heads: int) -> list[float]:
    """ALiBi's slopes, as its authors compute them (attention_with_linear_biases, get_slopes)."""
    power = 2 ** int(np.floor(np.log2(heads)))
    start = 2.0 ** -(2.0 ** -(np.log2(power) - 3.0))
    slopes = [start * start**i for i in range(power)]
    return slopes + (_slopes(2 * power)[0::2][: heads - power] if heads > power else [])


def _yarn(inverse: Array, theta: float, scaling: RopeScaling) -> Array:
    """The branches of the authors' own code (jquesnelle/yarn, find_correction_range)."""
    dim, blended = 2 * len(inverse), []
    borders = [
        dim * np.log(scaling.original_max_position_embeddings / (turns * 2.0 * np.pi))
        / (2.0 * np.log(theta))
        for turns in (32.0, 1.0)
    ]  # fmt: skip
    low, high = max(np.floor(borders[0]), 0.0), min(np.ceil(borders[1]), dim - 1.0)
    for channel, value in enumerate(inverse):
        share = min(max((channel - low) / (high - low if high > low else 0.001), 0.0), 1.0)
        blended.append(value / scaling.factor * share + value * (1.0 - share))
    return np.array(blended)


def _llama3(inverse: float, scaling: RopeScaling) -> float:
    """One frequency, with the branches of Meta's own code (llama-models, apply_scaling)."""
    wavelength = 2.0 * np.pi / inverse
    original = scaling.original_max_position_embeddings
    if wavelength < original / scaling.high_freq_factor:
        return inverse
    if wavelength > original / scaling.low_freq_factor:
        return inverse / scaling.factor
    smooth = (original / wavelength - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    return (1.0 - smooth) * inverse / scaling.factor + smooth * inverse
