"""Ray: started on this machine or joined elsewhere, its nodes, its launcher and its Jobs API.

Nothing is re-exported, because Ray reads its environment when it is imported: ``session`` sets it first. ``session``
connects, ``nodes`` watches and ships, ``launcher`` and ``jobs`` start clusters and submit sweeps, ``token``
authenticates, and ``ray_patches`` has every use of a private name of Ray's.
"""
