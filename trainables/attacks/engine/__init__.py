"""What attacks are built from. All but `attack` and `iterative` import torch; attacks import them in functions only."""
