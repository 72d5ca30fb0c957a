"""The sizes and family traits of a decoder, and the input of one training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Activation = Literal["silu", "gelu_tanh", "relu2", "xielu"]
Positions = Literal["rotary", "learned", "alibi"]
Mixer = Literal["attention", "conv", "delta"]

# Module paths inside a layer, in the order in which Hugging Face's Llama-like models name them.
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
HEAD_NORMS = ("q_norm", "k_norm")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
# A layer's small tensors that stay float32 in files, as vectors do: kernels of convolutions.
KERNELS = ("conv.conv.weight", "conv1d.weight")
# Trained numbers of an activation (xIELU, arXiv 2411.13010), by their shape.
ACTIVATION_NUMBERS = {"alpha_p": (1,), "alpha_n": (1,), "beta": (), "eps": ()}


@dataclass(frozen=True)
class RopeScaling:
    """The way that rotary frequencies are stretched for longer contexts (HF `rope_scaling`).

    `linear` divides every frequency by `factor`; `llama3` does so for long wavelengths only and
    blends between (Llama 3.1, `_compute_llama3_parameters` in transformers); `yarn` blends
    along the channels, and multiplies q and k by `attention_factor` or, if that is 0, by
    `0.1 ln(factor) + 1` (arXiv 2309.00071, `_compute_yarn_parameters`).
    `longrope` divides each frequency by its own `short_factor`, or in texts of more than
    `original_max_position_embeddings` tokens by its `long_factor`, and multiplies q and k by
    `attention_factor` (Phi-3, arXiv 2402.13753). m2m computes texts up to this length only.
    """

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    attention_factor: float = 0.0


class LayerKind(NamedTuple):
    """The positions that a layer's queries see and how it turns them; few kinds, many layers."""

    local: bool
    rotated: bool


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and traits of one decoder-only model; the defaults are plain Llama.

    Attributes:
        architecture: name of the family, `m2m.families`.
        head_dim: D; num_heads * D need not be hidden_size (Qwen3, Gemma 3).
        attention_bias: q, k and v have biases (Qwen2).
        output_bias: attention's output map has biases (some Llamas).
        mlp_bias: the maps of the MLP have biases (some Llamas).
        qk_norm: norm over D on every head of q and k, before the rotation (Qwen3, Gemma 3).
        turns_before_norm: this norm follows the rotation (Hunyuan).
        norms_whole_qk: this norm is over all heads of q, and of k, at once (OLMo 2).
        norms_by_head: each head has a gain of its own (StableLM 2 12B).
        pre_norms: norms before attention and MLP; only OLMo 2 has none.
        post_norms: norms after attention and MLP too, before the residual sum (Gemma 3).
        norm: "layer" for norms that subtract the mean (GPT-2, Cohere).
        norm_weight: norms have weights; those of OLMo (2024) have none.
        norm_bias: norms have biases (GPT-2, Pythia, BLOOM, StableLM).
        head_bias: the output head has a bias (Phi-2).
        shared_norm: the MLP reads attention's norm (Cohere).
        embedding_norm: a norm follows the embeddings (BLOOM).
        norm_offset: number added to every stored norm weight (Gemma: 1).
        embedding_scale: factor on the looked-up embeddings (Gemma: sqrt(hidden_size)).
        query_scale: factor on q k'; None for head_dim ** -0.5.
        temperature: b of `1 + b ln(1 + floor(position / original length))`, a factor on q beyond
            the original length of `rope_scaling` (Ministral 3).
        residual_scale: factor on what attention and MLP add to the stream (Granite, MiniCPM).
        logit_divisor: number that divides the logits (Granite, MiniCPM).
        logit_scale: factor on the logits (Cohere).
        parallel: attention and MLP read the same stream, and both are added (Pythia, Cohere).
        gated: the MLP has a gate; GPT-2's has none.
        attention_cap: scores s become cap * tanh(s / cap) (Gemma 2); 0: they do not.
        logit_cap: the same for the logits.
        positions: "learned" for embeddings of positions (GPT-2), "alibi" for biases of scores that
            grow with the distance (BLOOM, arXiv 2108.12409).
        alibi_bias: the slopes of ALiBi are powers of 2 ** -alibi_bias (MPT).
        rotary_dim: channels of a head, from the first, that rotate (Pythia); 0: all of them.
        rotates_neighbours: channels 2j and 2j + 1 of a head rotate together (ERNIE 4.5); else
            channels j and j + D / 2.
        layer_is_rotated: one flag a layer, false for no rotary positions (SmolLM3); empty: all are.
        sliding_window: a position sees this many positions, itself included, on layers that
            `layer_is_local` marks; 0 for no window.
        layer_is_local: one flag a layer; empty: all layers are local if there is a window.
        local_rope_theta: rotary base of local layers; None for `rope_theta`.
        rope_scaling: applies to layers that are not local.
        attention_gate: q_proj has a gate for each channel of attention's output (Qwen3.5).
        layer_mixers: one name a layer: "attention", "conv" for a gated short convolution (LFM2), or
            "delta" for a gated DeltaNet (Qwen3.5); empty: all are attention.
        conv_taps: tokens that a convolution sees, the token itself included.
        delta_heads: heads of a DeltaNet's values, and of its states.
        delta_keys: heads of its queries and keys.
        delta_dim: channels of each of these heads.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    max_position_embeddings: int
    activation: Activation = "silu"
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    turns_before_norm: bool = False
    norms_whole_qk: bool = False
    norms_by_head: bool = False
    pre_norms: bool = True
    post_norms: bool = False
    norm: Literal["rms", "layer"] = "rms"
    norm_weight: bool = True
    norm_bias: bool = False
    head_bias: bool = False
    shared_norm: bool = False
    embedding_norm: bool = False
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    query_scale: float | None = None
    temperature: float = 0.0
    residual_scale: float = 1.0
    logit_divisor: float = 1.0
    logit_scale: float = 1.0
    parallel: bool = False
    gated: bool = True
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    positions: Positions = "rotary"
    alibi_bias: float = 8.0
    rotary_dim: int = 0
    rotates_neighbours: bool = False
    layer_is_rotated: tuple[bool, ...] = ()
    sliding_window: int = 0
    layer_is_local: tuple[bool, ...] = ()
    local_rope_theta: float | None = None
    rope_scaling: RopeScaling | None = None
    attention_gate: bool = False
    layer_mixers: tuple[Mixer, ...] = ()
    conv_taps: int = 0
    delta_heads: int = 0
    delta_keys: int = 0
    delta_dim: int = 0

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_heads} heads do not share {self.num_kv_heads} K/V heads")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd and cannot be rotated in pairs")
        if self.rotary_dim % 2 or self.rotary_dim > self.head_dim:
            raise ValueError(f"{self.rotary_dim} of {self.head_dim} channels cannot be rotated")
        if self.delta_keys and self.delta_heads % self.delta_keys:
            raise ValueError(f"{self.delta_heads} heads do not share {self.delta_keys} keys")
        for flags in (self.layer_is_local, self.layer_is_rotated, self.layer_mixers):
            if flags and len(flags) != self.num_layers:
                raise ValueError(f"{len(flags)} layer flags, {self.num_layers} layers")

    @property
    def query_size(self) -> int:
        """Return H * D, the width of q and of attention's output."""
        return self.num_heads * self.head_dim

    @property
    def score_scale(self) -> float:
        """Return the factor on q k'."""
        return self.query_scale if self.query_scale is not None else self.head_dim**-0.5

    @property
    def kv_size(self) -> int:
        """Return the number of K/V heads * D, the width of k and of v."""
        return self.num_kv_heads * self.head_dim

    @property
    def rotary_size(self) -> int:
        """Return the number of channels of a head that rotate."""
        return self.rotary_dim or self.head_dim

    @property
    def exact_length(self) -> int:
        """Return the longest row that llama.cpp computes as the decoder does, in tokens.

        llama.cpp does not apply Mistral's window; up to its length there is no difference. Beyond
        LongRoPE's original length, its factors depend on the context's size.
        """
        limits = [self.max_position_embeddings]
        if self.sliding_window and not self.layer_is_local:
            limits.append(self.sliding_window)
        if self.rope_scaling is not None and self.rope_scaling.kind == "longrope":
            limits.append(self.rope_scaling.original_max_position_embeddings)
        return min(limits)

    def kind(self, layer: int) -> LayerKind:
        """Return whether `layer` looks through the sliding window, and has rotary positions."""
        local = self.layer_is_local[layer] if self.layer_is_local else True
        rotated = self.layer_is_rotated[layer] if self.layer_is_rotated else True
        return LayerKind(
            bool(self.sliding_window) and local, rotated and self.positions == "rotary"
        )

    def mixer(self, layer: int) -> Mixer:
        """Return the mixer of `layer`: attention, or a block in its place."""
        return self.layer_mixers[layer] if self.layer_mixers else "attention"

    def biases(self, layer: int) -> tuple[str, ...]:
        """Return the maps of a layer that have biases."""
        attends = self.mixer(layer) == "attention"
        qkv, output = (ATTENTION[:3], ATTENTION[3:]) if attends else ((), ())
        return (
            *(qkv if self.attention_bias else ()),
            *(output if self.output_bias else ()),
            *(self.mlp_names() if self.mlp_bias else ()),
        )

    def mlp_names(self) -> tuple[str, ...]:
        """Return the maps of the MLP."""
        return MLP if self.gated else MLP[1:]

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Return (out, in) of the linear maps of every layer, by module path."""
        c, f = self.hidden_size, self.intermediate_size
        mlp = dict(zip(MLP, [(f, c), (f, c), (c, f)], strict=True))
        rest = {name: mlp[name] for name in self.mlp_names()}
        return {
            f"model.layers.{layer}.{name}": shape
            for layer in range(self.num_layers)
            for name, shape in (self.mixer_shapes(self.mixer(layer)) | rest).items()
        }

    def mixer_shapes(self, mixer: Mixer) -> dict[str, tuple[int, int]]:
        """Return (out, in) of the linear maps of a mixer, by their path in a layer."""
        c, q, kv = self.hidden_size, self.query_size, self.kv_size
        if mixer == "conv":
            return {"conv.in_proj": (3 * c, c), "conv.out_proj": (c, c)}
        if mixer == "delta":
            keys, values = self.delta_keys * self.delta_dim, self.delta_heads * self.delta_dim
            rows = {"qkv": 2 * keys + values, "z": values, "b": self.delta_heads}
            rows["a"] = self.delta_heads
            shapes = {f"linear_attn.in_proj_{name}": (size, c) for name, size in rows.items()}
            return shapes | {"linear_attn.out_proj": (c, values)}
        gated = 2 * q if self.attention_gate else q
        return dict(zip(ATTENTION, [(gated, c), (kv, c), (kv, c), (c, q)], strict=True))

    def head_norm_names(self) -> tuple[list[str], list[str]]:
        """Return the norms of the heads of q and of k: one, or one for each head."""
        if self.norms_by_head:
            counts = (self.num_heads, self.num_kv_heads)
            q, k = (
                [f"{x}_layernorm.norms.{h}" for h in range(n)]
                for x, n in zip("qk", counts, strict=True)
            )
            return q, k
        names = ("query_layernorm", "key_layernorm") if self.turns_before_norm else HEAD_NORMS
        return [names[0]], [names[1]]

    def norm_places(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Return the norms before attention, after it, before the MLP and after it, if any."""
        if not self.pre_norms:
            return (None, "post_attention_layernorm", None, "post_feedforward_layernorm")
        if self.post_norms:
            return (
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            )
        second = "input_layernorm" if self.shared_norm else "post_attention_layernorm"
        return ("input_layernorm", None, second, None)

    def norm_names(self) -> tuple[str, ...]:
        """Return the norms of a layer."""
        return tuple(dict.fromkeys(name for name in self.norm_places() if name))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of the model, by its Hugging Face name."""
        width = (self.hidden_size,)
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, self.hidden_size),
            **self._norm_shapes("model.norm", width),
        }
        if self.positions == "learned":
            shapes["model.embed_positions.weight"] = (self.max_position_embeddings, *width)
        if self.embedding_norm:
            shapes |= self._norm_shapes("model.embed_norm", width)
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, self.hidden_size)
        if self.head_bias:
            shapes["lm_head.bias"] = (self.vocab_size,)
        linear = self.linear_shapes()
        shapes |= {f"{module}.weight": shape for module, shape in linear.items()}
        for layer in range(self.num_layers):
            prefix = f"model.layers.{layer}"
            for name in self.norm_names():
                shapes |= self._norm_shapes(f"{prefix}.{name}", width)
            modules = [f"{prefix}.{name}" for name in self.biases(layer)]
            shapes |= {f"{module}.bias": linear[module][:1] for module in modules}
            shapes |= {
                f"{prefix}.{name}": shape for name, shape in self._small_shapes(layer).items()
            }
        return shapes

    def _small_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of a layer's tensors that are no maps, biases or norms of all of it."""
        shapes: dict[str, tuple[int, ...]] = {}
        if self.activation == "xielu":
            shapes |= {f"mlp.act_fn.{name}": shape for name, shape in ACTIVATION_NUMBERS.items()}
        if self.mixer(layer) == "conv":
            return shapes | {"conv.conv.weight": (self.hidden_size, self.conv_taps)}
        if self.mixer(layer) == "delta":
            channels = (2 * self.delta_keys + self.delta_heads) * self.delta_dim
            return shapes | {
                "linear_attn.conv1d.weight": (channels, self.conv_taps),
                "linear_attn.decay.weight": (self.delta_heads,),
                "linear_attn.dt.bias": (self.delta_heads,),
                "linear_attn.norm.weight": (self.delta_dim,),
            }
        if self.qk_norm:
            whole = (self.query_size, self.kv_size)
            sizes = whole if self.norms_whole_qk else (self.head_dim,) * 2
            for names, size in zip(self.head_norm_names(), sizes, strict=True):
                shapes |= {f"self_attn.{name}.weight": (size,) for name in names}
        return shapes

    def _norm_shapes(self, module: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        kinds = ("weight",) * self.norm_weight + ("bias",) * self.norm_bias
        return {f"{module}.{kind}": shape for kind in kinds}


def stays_wide(name: str, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor is float32 in the files that m2m writes."""
    return len(shape) < 2 or name.endswith(KERNELS)


@dataclass(frozen=True)
class Batch:
    """Rows of tokens packed end to end, after an optional prefix that all of them share.

    Attributes:
        tokens: (T,) int32, the prefix, then row after row; no padding.
        lengths: (S,) number of own tokens of each row; they sum to T - prefix_length.
        prefix_length: P; the first P tokens precede every row, and a row's positions start at P.
            0 if rows share nothing. Sharing is exact: the prefix is causal, so it looks the
            same from every row.
        loss_index: (M,) places in `tokens` whose next token is predicted, none in the prefix.
        loss_target: (M,) the tokens predicted there.
    """

    tokens: NDArray[np.integer]
    lengths: NDArray[np.integer]
    prefix_length: int
    loss_index: NDArray[np.integer]
    loss_target: NDArray[np.integer]

    def __post_init__(self) -> None:
        count = len(self.tokens)
        if int(np.sum(self.lengths)) + self.prefix_length != count:
            raise ValueError(
                f"{count} tokens do not hold a prefix of {self.prefix_length} and rows of "
                f"{int(np.sum(self.lengths))}"
            )
        if len(self.lengths) and int(np.min(self.lengths)) < 1:
            raise ValueError("a row without a token of its own")
        if len(self.loss_index) != len(self.loss_target):
            raise ValueError(f"{len(self.loss_index)} places, {len(self.loss_target)} targets")
        if len(self.loss_index) and (
            int(np.min(self.loss_index)) < self.prefix_length
            or int(np.max(self.loss_index)) >= count
        ):
            raise ValueError("a loss position is outside the rows")
        if len(np.unique(self.loss_index)) != len(self.loss_index):
            raise ValueError("a loss position is given twice")
