"""Expert and shared MLPs, and the sum over the selected experts."""

import numpy as np

from .numerics import silu


def linear(x, w, b=None):
    """x @ w^T (+ b) for w [out, in]."""
    y = x @ w.T
    return y if b is None else y + b


def glu(x, w, act=silu):
    """Gated MLP; `w` maps gate, up, down to [out, in] matrices, and optionally *_bias to vectors."""
    hidden = act(linear(x, w["gate"], w.get("gate_bias"))) * linear(x, w["up"], w.get("up_bias"))
    return linear(hidden, w["down"], w.get("down_bias"))


def routed_sum(x, routing, expert, out_features=None):
    """sum_j w_j * expert(id_j, x); id -1 contributes nothing."""
    y = np.zeros((len(x), out_features or x.shape[1]))
    for t in range(len(x)):
        for e, w in zip(routing.ids[t], routing.weights[t]):
            if e >= 0:
                y[t] += w * expert(e, x[t])
    return y
