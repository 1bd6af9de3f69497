"""MLflow as a mirror of the ledger: the only package that imports MLflow, and only inside functions.

A background thread (``Tracker``) writes a sweep's runs without ever delaying the sweep. Everything in MLflow can be
written again from the ledger; ``reconcile`` compares the two. ``serve_ui`` shows the runs in MLflow's own UI.
"""

from search.tracking.client import obstacle, preload_mlflow
from search.tracking.mirror import DatasetInfo, ParentInfo, SweepStatus, metric_name
from search.tracking.queue import Tracker, TrackingReport
from search.tracking.reading import Agreement, TrackedTrial, read_tracked, reconcile
from search.tracking.ui import running_server, serve_ui
from search.tracking.uris import is_server, shown

__all__ = [
    "Agreement",
    "DatasetInfo",
    "ParentInfo",
    "SweepStatus",
    "TrackedTrial",
    "Tracker",
    "TrackingReport",
    "is_server",
    "metric_name",
    "obstacle",
    "preload_mlflow",
    "read_tracked",
    "reconcile",
    "running_server",
    "serve_ui",
    "shown",
]
