"""What attacks are built from: the base classes, the ball, the model as an attack sees it, losses, starts, boundaries.

`trainables.attacks` re-exports the base classes. The modules here that import torch at the top are imported by attacks
inside their functions only, so that a configuration can name an attack without loading torch.
"""
