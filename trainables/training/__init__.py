"""Training of replicates (``replicate``) epoch by epoch (``loop``), resumed bit for bit from files (``checkpoint``).

These modules import torch, so their users import them where they train.
"""
