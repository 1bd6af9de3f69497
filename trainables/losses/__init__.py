"""Training losses, one file per loss. Each file holds the loss's settings, search space, baselines and source.

A loss builds an ``nn.Module`` per replicate, which may hold parameters and buffers of its own. The module is called
with features, logits and labels, and may replace the model's classifier.
"""

from trainables.losses._base import Baseline, ExternalLoss, Loss

__all__ = ["Baseline", "ExternalLoss", "Loss"]
