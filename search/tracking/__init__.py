"""MLflow as a mirror of the ledger: the only package that imports MLflow, and only inside functions.

A background thread (``queue``) writes a sweep's runs (``mirror``) without ever delaying the sweep. Everything in MLflow
can be written again from the ledger; ``reading`` compares the two. ``ui`` shows the runs in MLflow's own UI.
"""
