"""What runs in Ray's workers: ``trial`` trains, ``tasks`` audit trials and examine nodes.

It reaches no module that reads test images, and none of rich, typer, optuna and mlflow, which only a driver needs.
Nothing is re-exported, because ``trial`` imports Ray's Tune and ``tasks`` does not.
"""
