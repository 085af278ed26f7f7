"""The held-out loss, one way for training, export and the comparison: mean cross-entropy in nats per byte.

Windows of LENGTH + 1 bytes at even distances over the held-out text; each of the LENGTH predictions counts once.
"""

import numpy as np
import torch
import torch.nn.functional as F

from model import TinyDeepseek

LENGTH = 256
BATCH = 16
WINDOWS = 64


def held_out_loss(model: TinyDeepseek, data: np.ndarray, windows: int = WINDOWS) -> float:
    training = model.training
    model.eval()
    total = 0.0
    starts = np.linspace(0, len(data) - LENGTH - 1, windows).astype(int)
    with torch.no_grad():
        for part in np.array_split(starts, max(1, windows // BATCH)):
            text = torch.from_numpy(np.stack([data[s : s + LENGTH + 1] for s in part]).astype(np.int64))
            logits = model(text[:, :-1])
            total += F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten(), reduction='sum').item()
    model.train(training)
    return total / (windows * LENGTH)
