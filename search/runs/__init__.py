"""A run on disk: its folder, the object store that may hold it, its checkpoints, and what its numbers depend on.

Nothing is re-exported: workers import this package, and must not reach ``dataset``, which reads test images.
"""
