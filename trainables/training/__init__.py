"""Training of replicates, epoch by epoch, with checkpoints from which it resumes bit for bit.

Its modules import torch, so their users import them where they train: ``replicate`` (a model in training), ``loop``
(epochs and steps) and ``checkpoint`` (files).
"""
