"""Published files from a training state: the names and shapes of DeepSeek-V3's tensors, bf16 rounding, and the safetensors format.

A safetensors file is the length of its header as u64, the header as JSON (dtype, shape and byte range of each tensor), and the bytes.
"""

import json
import struct
from pathlib import Path

import torch

from evaluate import LENGTH
from model import Config, TinyDeepseek

NUMPY_NAMES = {torch.float32: 'F32', torch.int32: 'I32', torch.uint8: 'U8'}


def load_state(file: Path) -> tuple[TinyDeepseek, int]:
    """The model of a state.pt in evaluation mode, and the step at which it was written."""
    state = torch.load(file, map_location='cpu')
    model = TinyDeepseek(Config(**state['config']))
    model.load_state_dict(state['model'])
    return model.eval(), state['step']


def round_to_bf16(model: TinyDeepseek) -> None:
    """Every weight becomes what the published file holds; the selection bias stays f32, as it is published."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())


def published_tensors(model: TinyDeepseek) -> dict[str, torch.Tensor]:
    """Tensors by their published names, the stacked experts one by one."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        prefix, _, leaf = name.rpartition('.')
        published = name if name.startswith('lm_head.') else f'model.{name}'
        if leaf == 'gate_weight':
            tensors[f'model.{prefix}.gate.weight'] = value
        elif leaf == 'selection_bias':
            tensors[f'model.{prefix}.gate.e_score_correction_bias'] = value
        elif leaf == 'gate_up':
            for expert, matrix in enumerate(value):
                gate, up = matrix.chunk(2)
                tensors[f'model.{prefix}.experts.{expert}.gate_proj.weight'] = gate
                tensors[f'model.{prefix}.experts.{expert}.up_proj.weight'] = up
        elif leaf == 'down':
            for expert, matrix in enumerate(value):
                tensors[f'model.{prefix}.experts.{expert}.down_proj.weight'] = matrix
        else:
            tensors[published] = value
    return tensors


def published_config(c: Config) -> dict:
    """config.json: every field that DeepseekV3Config and the loaders of this package read."""
    layers = c.num_hidden_layers
    return {
        'architectures': ['DeepseekV3ForCausalLM'],
        'model_type': 'deepseek_v3',
        'torch_dtype': 'bfloat16',
        'vocab_size': c.vocab_size,
        'hidden_size': c.hidden_size,
        'intermediate_size': c.intermediate_size,
        'moe_intermediate_size': c.moe_intermediate_size,
        'num_hidden_layers': layers,
        # A dense twin is a model whose layers all come before the first sparse one.
        'first_k_dense_replace': c.first_k_dense_replace if c.ffn == 'moe' else layers,
        'moe_layer_freq': 1,
        'n_routed_experts': c.n_routed_experts,
        'n_shared_experts': c.n_shared_experts,
        'num_experts_per_tok': c.num_experts_per_tok,
        'n_group': c.n_group,
        'topk_group': c.topk_group,
        'topk_method': 'noaux_tc',
        'scoring_func': 'sigmoid',
        'norm_topk_prob': True,
        'routed_scaling_factor': c.routed_scaling_factor,
        'num_attention_heads': c.num_attention_heads,
        'num_key_value_heads': c.num_attention_heads,
        'q_lora_rank': None,
        'kv_lora_rank': c.kv_lora_rank,
        'qk_nope_head_dim': c.qk_nope_head_dim,
        'qk_rope_head_dim': c.qk_rope_head_dim,
        'v_head_dim': c.v_head_dim,
        'attention_bias': False,
        'attention_dropout': 0.0,
        'hidden_act': 'silu',
        'rms_norm_eps': c.rms_norm_eps,
        'rope_theta': c.rope_theta,
        'rope_scaling': None,
        'rope_interleave': True,
        # What it was trained on; rotary angles beyond it were never seen, whatever the table could hold.
        'max_position_embeddings': LENGTH,
        'initializer_range': 0.03,
        'tie_word_embeddings': False,
        'use_cache': True,
        'pretraining_tp': 1,
        'ep_size': 1,
        'num_nextn_predict_layers': 0,
        # Bytes are the tokens: none of the 256 is set apart.
        'bos_token_id': None,
        'eos_token_id': None,
        'pad_token_id': None,
    }


def tensor_bytes(value: torch.Tensor) -> tuple[str, bytes]:
    value = value.detach().contiguous()
    if value.dtype == torch.bfloat16:
        # numpy knows no bfloat16: its bits are the upper half of an f32.
        bits = value.float().numpy().view('<u4') >> 16
        return 'BF16', bits.astype('<u2').tobytes()
    return NUMPY_NAMES[value.dtype], value.numpy().tobytes()


def write_safetensors(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> int:
    """Writes one file, wider elements first so that all are aligned; returns its size in bytes."""
    header: dict[str, dict] = {'__metadata__': metadata}
    chunks: list[bytes] = []
    position = 0
    for name, value in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
        dtype, data = tensor_bytes(value)
        header[name] = {'dtype': dtype, 'shape': list(value.shape), 'data_offsets': [position, position + len(data)]}
        chunks.append(data)
        position += len(data)
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    file.write_bytes(struct.pack('<Q', len(text)) + text + b''.join(chunks))
    return file.stat().st_size
