"""What a run's records say: tables, the Pareto front and its hypervolume, intervals, exports, pictures and pages.

Import names from the modules. Nothing here imports torch, Ray, Optuna or MLflow, and what is slow to import (pandas,
scipy, moocore, matplotlib, plotly) is imported where it is used.
"""
