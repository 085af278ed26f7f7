"""Routers. Each takes logits [T, E] and returns a `Routing`; slots are ordered by falling selection score.

`alternatives` holds the ids a wrong reading of the rule would give; a case is accepted only if each of them differs
from the right ids for at least one token.
"""

from dataclasses import dataclass, field

import numpy as np

from .numerics import sigmoid, softmax, softplus

# Written as the margin of tokens whose experts are read from a table: nothing is compared there.
NO_DECISION = 1.0


@dataclass
class Routing:
    ids: list
    weights: list
    margins: list
    order_gaps: list
    alternatives: dict = field(default_factory=dict)


def top(row, k):
    """Indices of the k largest, falling, ties to the lower index."""
    return [int(i) for i in np.argsort(-row, kind="stable")[:k]]


def decision(row, k):
    """(gap between the k-th and the next finite score, smallest gap among the selected)."""
    ranked = -np.sort(-row, kind="stable")
    finite = ranked[np.isfinite(ranked)]
    margin = finite[k - 1] - finite[k] if len(finite) > k else np.inf
    order = np.min(finite[: k - 1] - finite[1:k]) if k > 1 else np.inf
    return margin, order


def softmax_topk(z, k, renormalize, scale=1.0, norm=None):
    """Scheme A; `norm` replaces the plain renormalisation (dbrx's p-norm)."""
    p = softmax(z)
    routing = Routing([], [], [], [])
    for row in p:
        ids = top(row, k)
        w = row[ids]
        if norm is not None:
            w = norm(w)
        elif renormalize:
            w = w / np.sum(w)
        _append(routing, row, k, ids, w * scale)
    return routing


def topk_softmax(z, k):
    """Scheme B."""
    routing = Routing([], [], [], [])
    for row in z:
        ids = top(row, k)
        _append(routing, row, k, ids, softmax(row[ids]))
    return routing


def _append(routing, row, k, ids, weights, margin=np.inf):
    own, order = decision(row, k)
    routing.ids.append(ids)
    routing.weights.append(np.asarray(weights))
    routing.margins.append(float(min(own, margin)))
    routing.order_gaps.append(float(order))


def group_scores(row, n_group, mode):
    groups = -np.sort(-row.reshape(n_group, -1), axis=1)
    return groups[:, 0] if mode == "max" else groups[:, 0] + groups[:, 1]


def keep_groups(row, n_group, topk_group, mode, fill=-np.inf):
    """Scores with the experts outside the best groups set to `fill`, and the margin of that decision."""
    scores = group_scores(row, n_group, mode)
    kept = top(scores, topk_group)
    mask = np.repeat(np.isin(np.arange(n_group), kept), len(row) // n_group)
    return np.where(mask, row, fill), decision(scores, topk_group)[0]


SCORES = {"sigmoid": sigmoid, "softmax": softmax, "sqrtsoftplus": lambda z: np.sqrt(softplus(z))}


def biased_topk(z, k, bias=None, *, score="sigmoid", n_group=1, topk_group=1, mode="top2", renormalize=True, eps=1e-20,
                floor=None, scale=1.0, masked=-np.inf):
    """Schemes C and D: the bias moves the selection only; gather, renormalise, scale. `masked`: what experts of other groups rank with."""
    s = SCORES[score](z)
    c = s if bias is None else s + bias

    def select(scores, groups=n_group, how=mode, fill=masked):
        if groups == 1:
            return [top(row, k) for row in scores]
        return [top(keep_groups(row, groups, topk_group, how, fill)[0], k) for row in scores]

    routing = Routing([], [], [], [])
    for t in range(len(z)):
        row, margin = (c[t], np.inf) if n_group == 1 else keep_groups(c[t], n_group, topk_group, mode, masked)
        ids = top(row, k)
        w = s[t][ids]
        if renormalize:
            total = np.sum(w)
            w = w / (max(total, floor) if floor is not None else total + eps)
        _append(routing, row, k, ids, w * scale, margin)
        if masked == 0.0:
            # Those that rank with 0 tie among themselves, and go to the lower index.
            gaps = -np.diff(row[ids])
            routing.order_gaps[-1] = float(min([gap for gap in gaps if gap > 0], default=np.inf))
    if bias is not None:
        routing.alternatives["bias ignored"] = select(s)
    if n_group > 1:
        routing.alternatives["groups ignored"] = select(c, groups=1)
        routing.alternatives["other group score"] = select(c, how="max" if mode == "top2" else "top2")
        if bias is not None:
            routing.alternatives["other mask value"] = select(c, fill=0.0 if masked else -np.inf)
    return routing


def hash_table(z, table_rows, *, score, scale):
    """DeepSeek-V4 hash layers: ids from the frozen table, in the table's order."""
    s = SCORES[score](z)
    routing = Routing([], [], [], [])
    for t, ids in enumerate(table_rows):
        w = s[t][ids]
        routing.ids.append([int(e) for e in ids])
        routing.weights.append(w / (np.sum(w) + 1e-20) * scale)
        routing.margins.append(NO_DECISION)
        routing.order_gaps.append(NO_DECISION)
    routing.alternatives["learned top-k"] = [top(row, len(table_rows[0])) for row in s]
    return routing


def sparsemixer(z, eps):
    """Phi-3.5-MoE, inference form. The margin includes the distance of every logit from the keep threshold."""
    routing = Routing([], [], [], [])
    kept_counts = []
    for row in z:
        margin = np.inf
        current, ids, weights = row.copy(), [], []
        for _ in range(2):
            best = top(current, 1)[0]
            m = current[best]
            margin = min(margin, decision(current, 1)[0])
            alive = np.isfinite(current)
            ratio = (m - row) / np.maximum(np.abs(row), m)
            margin = min(margin, np.min(np.abs(ratio[alive] - 2 * eps)))
            kept = np.where(alive & ~(ratio > 2 * eps), current, -np.inf)
            kept_counts.append(int(np.sum(np.isfinite(kept))))
            ids.append(best)
            weights.append(softmax(kept)[best])
            current[best] = -np.inf
        routing.ids.append(ids)
        routing.weights.append(np.array(weights))
        routing.margins.append(float(margin))
        routing.order_gaps.append(float(margin))
    return routing, kept_counts


def switch_top1(z, sequence_lengths, capacity):
    """Top-1 with a capacity per sequence, in position order; a dropped token has id -1 and weight 0."""
    p = softmax(z)
    routing = Routing([], [], [], [])
    start = 0
    for length in sequence_lengths:
        used = {}
        for t in range(start, start + length):
            e = top(p[t], 1)[0]
            used[e] = used.get(e, 0) + 1
            keep = used[e] <= capacity
            routing.ids.append([e if keep else -1])
            routing.weights.append(np.array([p[t][e] if keep else 0.0]))
            routing.margins.append(float(decision(p[t], 1)[0]))
            routing.order_gaps.append(NO_DECISION)
        start += length
    return routing


def nllb_top2(z, *, capacity, normalize_before, batch_prioritized, output_factor):
    """Top-2 with capacity over the whole batch; second choices queue behind every first choice of their expert."""
    p = softmax(z)
    num_tokens, num_experts = z.shape
    first = [top(row, 1)[0] for row in p]
    second = [top(np.where(np.arange(num_experts) == first[t], -np.inf, z[t]), 1)[0] for t in range(num_tokens)]
    peak = np.max(p, axis=1)
    queue = top(peak, num_tokens) if batch_prioritized else list(range(num_tokens))
    keep = np.zeros((num_tokens, 2), dtype=bool)
    first_count = np.bincount(first, minlength=num_experts)
    rank = np.zeros(num_experts, dtype=int)
    rank2 = first_count.copy()
    for t in queue:
        keep[t, 0] = rank[first[t]] < capacity
        rank[first[t]] += 1
        keep[t, 1] = rank2[second[t]] < capacity
        rank2[second[t]] += 1
    queue_gap = np.min(-np.diff(peak[queue])) if batch_prioritized else np.inf
    epsilon = np.finfo(np.float32).eps
    routing = Routing([], [], [], [])
    for t in range(num_tokens):
        w = np.array([p[t][first[t]], p[t][second[t]]])
        if normalize_before:
            w = np.where(keep[t], w / max(np.sum(w), epsilon), 0.0)
        else:
            w = np.where(keep[t], w, 0.0)
            w = w / max(np.sum(w), epsilon)
        routing.ids.append([e if kept else -1 for e, kept in zip((first[t], second[t]), keep[t])])
        routing.weights.append(w * output_factor)
        margin, order = decision(z[t], 2)
        routing.margins.append(float(min(margin, order, queue_gap)))
        routing.order_gaps.append(NO_DECISION)
    return routing, keep
