"""A user's own package: a data set, a model, a loss and an attack that robustfront does not know.

It lives outside the three packages. Configurations name its parts by import path (``glyphs.losses:PrototypeLoss``).
"""
