"""What a run's records say: tables, the Pareto front and its hypervolume, intervals, exports, pictures and pages.

Nothing here imports torch, Ray, Optuna or MLflow. What is slow to import is imported where it is used.
"""

from __future__ import annotations

from analysis.run import Results, load_run

__all__ = ["Results", "load_run"]
