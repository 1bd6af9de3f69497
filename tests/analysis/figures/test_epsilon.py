from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.figures.epsilon import draw_epsilon_curves


def frame(**curves: list[float]) -> pd.DataFrame:
    rows = [
        {"measure": name.replace("__", "/"), "epsilon": e, "accuracy": a, "low": a - 0.05, "high": a + 0.05}
        for name, accuracies in curves.items()
        for e, a in zip((0.0, 0.5, 2.0), accuracies, strict=True)
    ]
    return pd.DataFrame(rows)


def test_every_curve_that_can_be_seen_is_named_once(tmp_path: Path) -> None:
    curves = frame(
        pgd__normalized=[0.9, 0.8, 0.5],
        pgd__worst=[0.9, 0.6, 0.2],
        dlr__normalized=[0.9, 0.7, 0.4],
        dlr__worst=[0.9, 0.7, 0.4],
        robust_accuracy=[0.9, 0.6, 0.2],
    )
    picture, page = draw_epsilon_curves(curves, tmp_path, title="LeNet-5 on digits", axis="L2 radius")
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text(encoding="utf-8")
    words = text[text.rindex('class="plotly-graph-div"') :]
    for name in ("pgd, normalized logits", "dlr, normalized logits", "Robust accuracy, worst case"):
        assert words.count(f'"name":"{name}"') == 1
    for hidden in ("pgd, worst view", "dlr, worst view"):  # they lie under another
        assert hidden not in words
    assert "LeNet-5 on digits" in words
    assert "L2 radius" in words
