"""Layers that models are built from. They import torch, so models import them inside their methods."""
