"""What a run's records say: tables, the Pareto front and its hypervolume, intervals, exports, pictures and pages.

Nothing here imports torch, Ray, Optuna or MLflow. What is slow to import is imported where it is used.
"""
