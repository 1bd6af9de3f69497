from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("analysis.export", ["pandas", "scipy", "statsmodels", "moocore"]),
        ("analysis.frames", ["pandas", "scipy", "statsmodels", "moocore"]),
        ("analysis.hypervolume", ["pandas", "scipy", "statsmodels", "moocore"]),
        ("analysis.surfaces", ["pandas", "scipy"]),
        ("analysis.verdict", ["pandas", "scipy", "statsmodels", "moocore"]),
        ("analysis.figures.surfaces", ["scipy", "jinja2"]),
        ("analysis.figures.audit", ["scipy", "jinja2"]),
    ],
)
def test_importing_analysis_draws_and_fits_nothing(module: str, heavy: list[str]) -> None:
    never = ["matplotlib", "plotly", "torch", "ray", "optuna", "mlflow", "search"]
    code = f"import sys, {module}; print([name for name in {[*heavy, *never]} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
