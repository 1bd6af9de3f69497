"""Modules that losses are built from. They import torch, so losses import them inside their methods."""
