"""Optimizers, one file per algorithm: those of ``torch.optim`` with the settings that training needs.

The learning rate and its schedule belong to the training, whose every step sets them.
"""

from trainables.optimizers._base import Optimizer

__all__ = ["Optimizer"]
