"""A small DeepSeek-V3 for training: latent attention, a first dense layer, then sigmoid-routed experts with groups and a shared one.

The arithmetic and the tensor names are those of the published model (transformers' DeepseekV3ForCausalLM with rope_interleave), so that
export.py only has to name the stacked expert matrices one by one. Twins share everything but the feed-forward: `ffn` is 'moe',
'dense_total' (as many weights in all) or 'dense_active' (as many weights as one token uses).
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab_size: int = 256
    hidden_size: int = 192
    num_hidden_layers: int = 5
    first_k_dense_replace: int = 1
    intermediate_size: int = 512
    moe_intermediate_size: int = 56
    n_routed_experts: int = 32
    n_shared_experts: int = 1
    num_experts_per_tok: int = 4
    n_group: int = 4
    topk_group: int = 2
    routed_scaling_factor: float = 1.8
    num_attention_heads: int = 4
    qk_nope_head_dim: int = 32
    qk_rope_head_dim: int = 16
    v_head_dim: int = 32
    kv_lora_rank: int = 64
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 1024
    ffn: str = 'moe'

    def dense_size(self) -> int:
        experts = self.n_routed_experts if self.ffn == 'dense_total' else self.num_experts_per_tok
        return (experts + self.n_shared_experts) * self.moe_intermediate_size

    def as_dict(self) -> dict:
        return asdict(self)


class RmsNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Interleaved pairs (2i, 2i+1) turned by the angle of their position. x [..., T, D], cos and sin [T, D/2]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        heads, nope, rope = c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim
        self.q_proj = nn.Linear(c.hidden_size, heads * (nope + rope), bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(c.hidden_size, c.kv_lora_rank + rope, bias=False)
        self.kv_a_layernorm = RmsNorm(c.kv_lora_rank, c.rms_norm_eps)
        self.kv_b_proj = nn.Linear(c.kv_lora_rank, heads * (nope + c.v_head_dim), bias=False)
        self.o_proj = nn.Linear(heads * c.v_head_dim, c.hidden_size, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        c = self.c
        batch, length, _ = x.shape
        heads, nope, rope = c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim
        q = self.q_proj(x).view(batch, length, heads, nope + rope).transpose(1, 2)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((c.kv_lora_rank, rope), -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(latent)).view(batch, length, heads, nope + c.v_head_dim).transpose(1, 2)
        k_rope = rotate(k_rope.unsqueeze(1), cos, sin)
        scores = q[..., :nope] @ kv[..., :nope].transpose(-1, -2) + rotate(q[..., nope:], cos, sin) @ k_rope.transpose(-1, -2)
        weights = (scores / math.sqrt(nope + rope) + mask).softmax(-1)
        return self.o_proj((weights @ kv[..., nope:]).transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Moe(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        experts, hidden, inner = c.n_routed_experts, c.hidden_size, c.moe_intermediate_size
        self.gate_weight = nn.Parameter(torch.randn(experts, hidden) * 0.02)
        # Moves selection only; trained by counting, not by gradients (DeepSeek-V3 report, section 2.1.2).
        self.register_buffer('selection_bias', torch.zeros(experts))
        self.register_buffer('load', torch.zeros(experts), persistent=False)
        self.gate_up = nn.Parameter(torch.randn(experts, 2 * inner, hidden) * 0.02)
        self.down = nn.Parameter(torch.randn(experts, hidden, inner) * 0.02)
        self.shared_experts = Mlp(hidden, inner * c.n_shared_experts)

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        c = self.c
        scores = F.linear(x, self.gate_weight).sigmoid()
        choice = scores.detach() + self.selection_bias
        groups = choice.view(-1, c.n_group, c.n_routed_experts // c.n_group)
        kept = groups.topk(2, dim=-1).values.sum(-1).topk(c.topk_group, dim=-1).indices
        mask = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter_(1, kept, True)
        ids = groups.masked_fill(~mask.unsqueeze(-1), -math.inf).flatten(1).topk(c.num_experts_per_tok, dim=-1).indices
        weights = scores.gather(1, ids)
        return ids, weights / (weights.sum(-1, keepdim=True) + 1e-20) * c.routed_scaling_factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape, x = x.shape, x.flatten(0, -2)
        ids, weights = self.route(x)
        top_k = self.c.num_experts_per_tok
        slots = ids.flatten().argsort(stable=True)
        counts = torch.bincount(ids.flatten(), minlength=self.c.n_routed_experts)
        if self.training:
            self.load += counts
        rows = x.index_select(0, slots // top_k).split(counts.tolist())
        outputs = []
        # unbind, not indexing: the gradient of an index is a zeroed copy of the whole stack.
        for part, gate_up, down in zip(rows, self.gate_up.unbind(), self.down.unbind()):
            gate, up = (part @ gate_up.t()).chunk(2, -1)
            outputs.append((F.silu(gate) * up) @ down.t())
        weighted = torch.cat(outputs) * weights.flatten()[slots].unsqueeze(-1)
        routed = torch.zeros_like(x).index_add(0, slots // top_k, weighted)
        return (routed + self.shared_experts(x)).view(shape)

    def balance(self, step: float) -> None:
        self.selection_bias += step * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


class Layer(nn.Module):
    def __init__(self, c: Config, index: int) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        if index < c.first_k_dense_replace:
            self.mlp = Mlp(c.hidden_size, c.intermediate_size)
        else:
            self.mlp = Moe(c) if c.ffn == 'moe' else Mlp(c.hidden_size, c.dense_size())

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class TinyDeepseek(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c, index) for index in range(c.num_hidden_layers))
        self.norm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                # Residual branches start small, by the depth of the network.
                last = name.endswith(('o_proj.weight', 'down_proj.weight', 'mlp.down'))
                nn.init.normal_(parameter, std=0.03 / math.sqrt(2 * c.num_hidden_layers) if last else 0.03)
        half = torch.arange(0, c.qk_rope_head_dim, 2) / c.qk_rope_head_dim
        angles = torch.arange(c.max_position_embeddings)[:, None] * c.rope_theta ** -half
        self.register_buffer('cos', angles.cos(), persistent=False)
        self.register_buffer('sin', angles.sin(), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        mask = torch.full((length, length), -math.inf).triu(1)
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length], mask)
        return self.lm_head(self.norm(x))
