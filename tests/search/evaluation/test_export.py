"""An exported network gives the same outputs as the trained one, without robustfront."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.utils import validate_repo_id
from ruamel.yaml import YAML
from safetensors.torch import load_file
from torch import Tensor

from search.cli.main import DONE, WRONG_INPUT, run
from search.config import load
from search.evaluation.export import card, chosen
from search.results.audits import load_model
from search.runs.folder import Run
from search.study import read_records
from search.sweep.driver import _parent
from search.tracking.queue import Tracker
from tests.search.evaluation.test_test_split import searched
from tests.search.examples import small_config

IMAGES, STEPS, RADIUS = 200, 5, 1.5

# Runs where only torch is installed: loads the program, attacks it, and saves the results.
ELSEWHERE = """
import sys, torch
sys.path[:0] = sys.argv[1:3]
from load import load
from pgd import survive
images, labels = torch.load(sys.argv[3])
model = load()
torch.save((model(images).detach(), survive(model, images, labels)), sys.argv[4])
for name in ("numpy", "search", "trainables", "safetensors"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} is installed")
"""

PGD = f"""
import torch

def survive(model, images, labels):
    moved = images.clone()
    for _ in range({STEPS}):
        moved.requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(moved), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        step = 0.5 * gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
        change = moved.detach() + step - images
        scale = ({RADIUS} / change.flatten(1).norm(dim=1).clamp(min=1e-12)).clamp(max=1)
        moved = (images + change * scale[:, None, None, None]).clamp(0, 1)
    return model(moved).argmax(1) == labels
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small_config(
        data={"validation_size": IMAGES},
        train={"learning_rate": 0.003, "replicates": 3, "epochs": 2},
        search={"trials": 3, "sampler": "random", "baselines": False},
    )
    return searched(config, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    shown = io.StringIO()
    with redirect_stdout(shown):
        assert run(["export", str(finished), "0", "--to", str(folder)]) == DONE
    lack = shown.getvalue().splitlines()[1]
    assert lack.startswith("MLflow lacks the exported network (")  # no driver has written to it
    assert lack.endswith("; export it again to write it")
    return folder


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def trained(finished: Path, exported: Path) -> tuple[torch.nn.Module, Tensor, Tensor]:
    """The trained network behind the export, and validation images with labels."""
    opened = Run.open(str(finished), finished.parent)
    seed = json.loads((exported / "robustbench.json").read_text())["seed"]
    unit = next(record for record in read_records(opened) if seed in record.seeds and record.checkpoint)
    splits, replicates = load_model(finished / str(unit.checkpoint), opened.config, cuda=False)
    validation = splits["validation"]
    return replicates[0].predictor.eval(), validation.images[:IMAGES], validation.labels[:IMAGES]


def test_the_program_gives_the_outputs_of_the_network_for_any_batch_size(finished: Path, exported: Path) -> None:
    model, images, _ = trained(finished, exported)
    program = module(exported / "load.py").load()
    for count in (1, 7, IMAGES):
        torch.testing.assert_close(program(images[:count]), model(images[:count]))


def test_the_weights_are_those_of_the_network(finished: Path, exported: Path) -> None:
    model, _, _ = trained(finished, exported)
    weights = load_file(exported / "model.safetensors")
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_the_network_is_the_median_of_its_setting(finished: Path, exported: Path) -> None:
    record = json.loads((exported / "robustbench.json").read_text())
    units = read_records(Run.open(str(finished), finished.parent))
    values = sorted(unit.objectives["robust_accuracy"] for unit in units if (unit.extends or unit.number) == "0")
    assert len(values) == 3
    assert record["claimed"] == values[1]
    assert record["verified"] is None
    assert record["reported"] == f"{100 * values[1]:.2f}"
    assert len(record["seeds"]) == 3
    low, high = record["interval"]
    assert low <= sum(values) / 3 <= high


def test_the_card_has_the_front_matter_that_hugging_face_reads(exported: Path) -> None:
    _, front, body = (exported / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    matter = YAML(typ="safe").load(front)
    [model] = matter["model-index"]
    [result] = model["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"].keys() >= {"type", "name"}
    record = json.loads((exported / "robustbench.json").read_text())
    assert [metric["value"] for metric in result["metrics"]] == [float(record["clean_acc"]), float(record["reported"])]
    assert "has not been audited" in body
    assert load(exported / "config.yaml").model.title in body


def test_the_card_is_one_that_hugging_face_can_read(exported: Path) -> None:
    data = ModelCard((exported / "README.md").read_text(encoding="utf-8")).data
    clean, robust = data.eval_results
    assert (data.model_name, data.pipeline_tag) == ("small-0", "image-classification")
    for name in data.datasets:
        validate_repo_id(name)
    record = json.loads((exported / "robustbench.json").read_text())
    assert (clean.metric_name, clean.metric_value) == ("Clean accuracy", float(record["clean_acc"]))
    assert (robust.metric_name, robust.metric_value) == ("Robust accuracy within 1.5 (l2)", float(record["reported"]))
    assert {(each.metric_type, each.dataset_split) for each in (clean, robust)} == {("accuracy", "validation")}


def test_a_function_is_no_data_set_of_hugging_face(finished: Path) -> None:
    opened = Run.open(str(finished), finished.parent)
    mine = small_config(data={"name": "tests.search.runs.test_provenance:factory"})
    data = ModelCard(card(Run(finished, mine), chosen(opened, "0", None))).data
    assert data.datasets is None
    assert {each.dataset_type for each in data.eval_results} == {"tests.search.runs.test_provenance:factory"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_network_is_a_model_in_mlflow(
    finished: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    folder = shutil.copytree(finished, tmp_path / "small")
    opened = Run.open(str(folder), tmp_path)
    tracker = Tracker(opened.tracking_uri, "robustfront", opened.name, artifact_root=tmp_path / "artifacts")
    tracker.start(_parent(opened))
    for record in read_records(opened):
        tracker.update(record, [])
    assert tracker.close("FINISHED", 60) is None
    assert run(["export", str(folder), "0", "--to", str(tmp_path / "model")]) == DONE
    assert len(capsys.readouterr().out.splitlines()) == 1

    benchmark = json.loads((exported / "robustbench.json").read_text())
    client = mlflow.MlflowClient(opened.tracking_uri, opened.tracking_uri)
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    (logged,) = client.search_logged_models([experiment.experiment_id])
    assert logged.params["seed"] == str(benchmark["seed"])
    metrics = {metric.key: metric.value for metric in logged.metrics}
    assert metrics["robust_accuracy"] == benchmark["claimed"]
    assert {metric.dataset_name for metric in logged.metrics} == {opened.config.data.name}
    mlflow.set_tracking_uri(opened.tracking_uri)
    model, images, _ = trained(finished, exported)
    loaded = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    torch.testing.assert_close(torch.as_tensor(loaded.predict(images[:7].numpy())), model(images[:7]).detach())


def test_a_missing_setting_or_seed_is_named(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["9"], "NUMBER must be a complete setting of small (0), got 9"),
        (["0", "--seed", "1"], "--seed must be one of trial 0 ("),
    ):
        assert run(["export", str(finished), *words, "--to", str(tmp_path)]) == WRONG_INPUT
        [line] = capsys.readouterr().err.splitlines()
        assert message in line


@pytest.mark.slow
def test_it_works_where_only_torch_is_installed(finished: Path, exported: Path, tmp_path: Path) -> None:
    model, images, labels = trained(finished, exported)
    uv = shutil.which("uv")
    assert uv is not None
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(python), f"torch=={torch.__version__.split('+')[0]}"],
        check=True,
    )
    (tmp_path / "pgd.py").write_text(PGD)
    torch.save((images, labels), tmp_path / "images.pt")
    arguments = [str(exported), str(tmp_path), str(tmp_path / "images.pt"), str(tmp_path / "results.pt")]
    subprocess.run([str(python), "-c", ELSEWHERE, *arguments], check=True, cwd=tmp_path)
    logits, survived = torch.load(tmp_path / "results.pt")
    torch.testing.assert_close(logits, model(images).detach())
    assert len(survived) == IMAGES
    here = module(tmp_path / "pgd.py").survive(model, images, labels)
    assert survived.float().mean() == here.float().mean() < 1.0
