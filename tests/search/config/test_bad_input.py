"""Bad input: one line, exit code 2, nothing written."""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.cli.main import run
from search.config import available_cpus
from search.errors import WRONG_INPUT

QUICKSTART = Path(__file__).parents[2] / "quickstart.yaml"

# (what is set, what the message must say): a sweep of the quickstart with one thing wrong.
SETTINGS = [
    ("search.trils=3", "search.trils must be a known setting, got 3; did you mean trials?"),
    ("serch.trials=3", "serch must be a known setting, .*did you mean search?"),
    ("data.nam=x", "did you mean name?"),
    ("space.m.lo=0.1", "space.m.lo must be a known setting, got 0.1; did you mean low?"),
    ("robustness.attacks=[{nam: pgd}]", "robustness.attacks[0].name must be given, got {'nam': 'pgd'}"),
    ("robustness.attacks=[{name: pgd, lss: ce}]", "did you mean loss?"),
    ("resources.gpu_per_trial=1", "did you mean gpus_per_trial?"),
    ("search.trials=many", "search.trials must be a whole number, got many"),
    ("search.trials=2.5", "search.trials must be a whole number, got 2.5"),
    ("search.trials=true", "search.trials must be a whole number, got True"),
    ("search.trials=0", "search.trials must be at least 1, got 0"),
    ("search.trials=null", "search.trials must be given"),
    ("search.seed=-1", "search.seed must be at least 0, got -1"),
    ("search.concurrency=0", "search.concurrency must be at least 1, got 0"),
    ("train.epochs=0", "train.epochs must be at least 1, got 0"),
    ("train.epochs='3'", "train.epochs must be a whole number, got 3 (str)"),
    ("train.batch_size=-5", "train.batch_size must be at least 1, got -5"),
    ("train.learning_rate=0", "train.learning_rate must be above 0, got 0"),
    ("train.learning_rate=.nan", "train.learning_rate must be above 0, got nan"),
    ("train.schedule=linear", "train.schedule must be one of constant, cosine, step, got linear"),
    ("train.precision=fp8", "train.precision must be one of fp32, bf16, fp16"),
    ("train.replicates=0", "train.replicates must be at least 1, got 0"),
    ("train=3", "train must be a mapping of settings, got 3"),
    ("space.s.low=0.5", "space.s must lie in [1, 2], got low 0.5"),
    ("space.s.high=2.5", "space.s must lie in [1, 2], got low 1 and high 2.5"),
    ("space.s.low=.nan", "space.s.low must be finite, got nan"),
    ("space.m.low_exclusive=false", "space.m.low must be above 0, got 0"),
    ("space.m.high=0.2", "space.m must lie in (0, 0.1], got low 0 and high 0.2"),
    (
        "space.m={low: 0.0, high: 0.0, low_exclusive: true}",
        "space.m.high must be above low where low_exclusive is true, got (0, 0]",
    ),
    ("space.s={low: 2.0, high: 1.0}", "space.s.low must be at most high, got 2 and 1"),
    (
        "space.s={low: 1.5, high: 1.5, low_exclusive: true}",
        "space.s.high must be above low where low_exclusive is true",
    ),
    ("space.s={low: 0.0, high: 1.0, log: true}", "space.s.low must be above 0 with log: true, got 0"),
    ("space.s={low: 1.0}", "space.s.high must be given, got nothing"),
    ("space.s={low: one, high: 2}", "space.s.low must be a number, got one"),
    ("space.s={low: 1, high: 2, log: 3}", "space.s.log must be true or false, got 3"),
    ("space.s={choices: []}", "space.s.choices must name at least one value"),
    ("space.s={choices: [1.0, 3]}", "space.s.choices must lie in [1, 2], got 3; remove it"),
    ("space.s={choices: [1.0, 1.0]}", "space.s.choices must differ from each other"),
    ("space.s={choices: 3}", "space.s.choices must be a list of numbers, words or true and false, got 3"),
    ("space.s=3", "space.s must be a mapping, got 3"),
    (
        "space.q={low: 1.0, high: 2.0}",
        "space.q must be a parameter of the loss i-sce (s, m), got {'low': 1.0, 'high': 2.0}; ",
    ),
    ("space={loss.s: {low: 1, high: 1.5}, s: {low: 1, high: 2}}", "space.s must stand once, got s and loss.s"),
    ("space={s: {choices: [1.0, 2.0]}, m: {choices: [0.1]}}", "search.trials must be at most 2, as the space has 2"),
    ("space={train.batch_size: {low: 16, high: 32.5}}", "space.train.batch_size.low and high must be whole numbers"),
    (
        "space={train.schedule: {low: 1, high: 2}}",
        "space.train.schedule must be choices, got {'low': 1, 'high': 2}; write",
    ),
    (
        "space={train.schedule: {choices: [linear]}}",
        "space.train.schedule.choices must be one of constant, cosine, step",
    ),
    (
        "space={train.learning_rate: {low: 0, high: 1}}",
        "space.train.learning_rate.low must be above 0, got 0; 0.001 is",
    ),
    ("space={model.width: {choices: [1, -2]}}", "space.model.width.choices must lie in [1, 16], got -2"),
    ("space={defence.epsilon: {low: 0, high: 2}}", "space.defence.epsilon must be .*, got {'low': 0, 'high': 2}; "),
    ("space={model.widht: {choices: [1, 2]}}", "space.model.widht must be a parameter .*did you mean model.width?"),
    ("space={train.optimizer.momentum: {low: 0, high: 0.9}}", "space.train.optimizer.momentum must be a parameter"),
    ("train.optimizer={name: sgd, momentun: 0.9}", "train.optimizer.momentun must be .*did you mean momentum?"),
    ("train.optimizer=sdg", "train.optimizer.name must be one of adam, adamw, sgd, got sdg; did you mean sgd?"),
    ("defence=adversarial", "defence.name must be one of .*did you mean adversarial-training?"),
    ("loss={name: i-sce, s: 3.0}", "loss.s must be in [1, 2], got 3.0"),
    ("model={name: nothing.here:net}", "model.name must be a module that can be imported, got nothing.here:net"),
    ("data.name=mnist5", "data.name must be one of cifar10, fashion-mnist, image-folder, mnist, mnist5k, got mnist5"),
    ("data.validation_size=0", "data.validation_size must be at least 1, got 0"),
    ("data.train_size=9000", "data.train_size must be"),
    ("data.validation_size=5000", "data.validation_size must be"),
    ("audit.profile=full", "audit.profile must be"),
    ("robustness.gate=front", "robustness.gate must be"),
    ("audit.minutes=0", "audit.minutes must be"),
    ("audit={profile: reference, images: 3}", "audit.images must be a known setting, got 3"),
    ("audit.cpus=0", "audit.cpus must be at least 1, got 0"),
    ("audit.gpus=-1", "audit.gpus must be at least 0, got -1"),
    ("audit.gpus=1.5", "audit.gpus must be a whole number or at most 1, got 1.5; choose 1"),
    ("model=resnet18", "model.name must be one of cnn8, lenet5, resnet32, got resnet18; did you mean resnet32?"),
    ("loss.name=isce", "loss.name must be one of .*, i-sce, .*, got isce; did you mean i-sce?"),
    ("loss.name=cross-entropy", "space.s must be a parameter of the loss cross-entropy (it has none)"),
    ("robustness.attacks=[{name: pdg}]", "got pdg; did you mean pgd?"),
    ("robustness.attacks=[{name: torchattacks, attack: APDG}]", "robustness.attacks[0].attack must be .*mean APGD?"),
    ("robustness.attacks=[{name: torchattacks}]", "robustness.attacks[0].attack must be given for torchattacks"),
    ("robustness.attacks=[5]", "robustness.attacks[0].name must be given, got 5"),
    ("robustness.attacks=[]", "robustness.attacks must name at least one attack"),
    ("robustness.attacks=pgd", "robustness.attacks must be a list, got pgd"),
    (
        "robustness.attacks=[{name: pgd}, {name: pgd}]",
        "robustness.attacks must differ from each other, got pgd50-ce twice",
    ),
    ("robustness.attacks=[{name: torchattacks, attack: APGD, stepz: 9}]", "attacks[0].stepz must be a setting of"),
    ("robustness.attacks=[{name: pgd, steps: 0}]", "robustness.attacks[0].steps must be at least 1, got 0"),
    ("robustness.attacks=[{name: pgd, remaining: true}]", "robustness.attacks[0].remaining must be false, got true"),
    (
        "robustness={attacks: [{name: pgd, views: [raw]}], views: [normalized]}",
        "robustness.attacks[0].views must be some",
    ),
    ("robustness.attacks=[{name: pgd, views: []}]", "robustness.attacks[0].views must be some of the views normalized"),
    (
        "robustness.attacks=[{name: pgd, stps: 5}]",
        "[0].stps must be a setting of pgd, got 5; did you mean steps?",
    ),
    ("robustness.attacks=[{name: pgd, steps: 2.5}]", "robustness.attacks[0].steps must be a whole number, got 2.5"),
    ("robustness.attacks=[{name: pgd, views: raw}]", "robustness.attacks[0].views must be a list, got raw"),
    ("robustness.attacks=[{name: pgd, target: likeliest}]", "robustness.attacks[0].target must be one of untargeted"),
    (
        "robustness.attacks=[{name: autoattack, steps: 5}]",
        "robustness.attacks[0].steps must be a setting of autoattack, got 5",
    ),
    ("robustness.attacks=[{name: simba, basis: dcd}]", "basis must be one of pixel, dct, got dcd; did you mean dct?"),
    ("robustness.attacks=[{name: square, share: 1.5}]", "robustness.attacks[0].share must be in (0, 1], got 1.5"),
    ("robustness={attacks: [{name: deepfool}], norm: linf}", "robustness.norm must be l2 for deepfool, got linf"),
    ("robustness={attacks: [{name: pgd}], norm: linf, epsilon: 8}", "robustness.epsilon must be at most 1 for linf"),
    ("robustness={norm: linf, eps_convention: rms}", "robustness.eps_convention must be left out for linf balls"),
    ("robustness.epsilon=[]", "robustness.epsilon must name at least one radius"),
    ("robustness.epsilon=[1, x]", "robustness.epsilon[1] must be a number, got x"),
    ("robustness.epsilon=[1, 1]", "robustness.epsilon must not name a radius twice"),
    ("robustness.epsilon=-1", "robustness.epsilon must be above 0, got -1"),
    ("robustness.norm=l1", "robustness.norm must be"),
    ("robustness.views=[normalised]", "did you mean normalized?"),
    ("robustness.images=5000", "robustness.images must be at most data.validation_size (1000), got 5000"),
    ("objectives.clean_accuracy=minimize", "objectives.clean_accuracy must be maximize, got minimize"),
    ("objectives.train_seconds=maximize", "objectives.train_seconds must be minimize, got maximize"),
    ("objectives.clean_accuracy=up", "objectives.clean_accuracy must be one of maximize, minimize, got up"),
    ("objectives={clean_accuracy: maximize}", "objectives must name at least two, got clean_accuracy"),
    ("objectives={}", "objectives must name at least two, got none"),
    ("objectives=clean_accuracy", "objectives must be a mapping, got clean_accuracy"),
    (
        "objectives.robust_acuracy=maximize",
        "objectives.robust_acuracy must be something that this sweep measures; did you mean robust_accuracy?",
    ),
    ("objectives.pgd50-ce/worts=maximize", "did you mean pgd50-ce/worst?"),
    ("objectives.pgd10-ce/worst=maximize", "objectives.pgd10-ce/worst must be something that this sweep measures"),
    ("constraints={clean_acc: '>= 0.9'}", "constraints.clean_acc must be .*did you mean clean_accuracy?"),
    (
        "constraints={clean_accuracy: '> 0.9'}",
        "constraints.clean_accuracy must be '>= NUMBER' or '<= NUMBER', got '> 0.9'",
    ),
    ("constraints={clean_accuracy: '>= high'}", "constraints.clean_accuracy must be '>= NUMBER' or '<= NUMBER'"),
    ("constraints={clean_accuracy: '>= nan'}", "constraints.clean_accuracy must be '>= NUMBER' or '<= NUMBER'"),
    ("constraints={clean_accuracy: '>= 97'}", "constraints.clean_accuracy must be bounded in [0, 1], got '>= 97'"),
    ("constraints={train_seconds: '<= 0'}", "constraints.train_seconds must be bounded above 0, got '<= 0'"),
    ("constraints={clean_accuracy: 0.97}", "constraints.clean_accuracy must be text, got 0.97"),
    ("constraints='>= 0.9'", "constraints must be a mapping, got >= 0.9"),
    (
        "search.sampler=nsga",
        "search.sampler must be one of gp, grid, nehvi, nsga2, nsga3, qmc, ... (8 in all), got nsga; did you mean",
    ),
    ("search.racing=true", "train.replicates must be at least 2 with search.racing: true, got 1; it is the largest"),
    ("search.sampler=grid", "search.grid must give at least 2 points for each of s, m"),
    ("search.grid={s: 3, m: 3}", "search.grid must be left out for the sampler tpe"),
    ("search.confirmation_seeds=-1", "search.confirmation_seeds must be at least 0, got -1"),
    ("search.confirmation_seeds=three", "search.confirmation_seeds must be a whole number, got three"),
    ("search.confirmation_seds=3", "must be a known setting, .*did you mean confirmation_seeds?"),
    ("search.most_confirmed=0", "search.most_confirmed must be at least 1, got 0"),
    ("search.stop={hours: 0}", "search.stop.hours must be above 0, got 0"),
    ("search.stop={device_hours: -1}", "search.stop.device_hours must be above 0, got -1"),
    ("search.stop={plateau: {trials: 0}}", "search.stop.plateau.trials must be at least 1, got 0"),
    ("search.stop={plateau: {relative: -0.1}}", "search.stop.plateau.relative must be at least 0, got -0.1"),
    ("search.stop={plateau: {trial: 3}}", "search.stop.plateau.trial must be a known setting, .*did you mean trials?"),
    ("search.stop={minutes: 3}", "search.stop.minutes must be a known setting"),
    ("data.size=40", "data.size must give images of at most 32x32 pixels for lenet5, got 40x40"),
    ("model=tests.trainables.plugins:two_logits", "model must return one logit for each of 10 classes"),
    ("search.warm_start=[nowhere]", "search.warm_start[0] must be a run under .*runs or its path, got nowhere"),
    ("search.warm_start=first", "search.warm_start must be a list, got first"),
    (
        "search={sampler: grid, grid: {s: 3, m: 3}, warm_start: [first]}",
        "search.warm_start must be left out for the sampler grid, got ['first']",
    ),
    ("search.enqueue=[{s: 3.0, m: 0.1}]", "search.enqueue[0].s must be in [1, 2], got 3"),
    ("search.enqueue=[{s: 1.5, m: 0.0}]", "search.enqueue[0].m must lie in the space (0, 0.1]"),
    ("search.enqueue=[{s: 1.5}]", "search.enqueue[0].m must be given"),
    ("resources.max_failures=-1", "resources.max_failures must be at least 0, got -1"),
    ("resources.gpus_per_trial=2.5", "resources.gpus_per_trial must be a whole number or at most 1, got 2.5; choose 2"),
    (
        f"resources.cpus_per_trial={available_cpus() + 1}",
        f"resources.cpus_per_trial must be at most {available_cpus()}",
    ),
    (f"audit.cpus={available_cpus() + 1}", f"audit.cpus must be at most {available_cpus()} (this machine has"),
    (f"search.concurrency={available_cpus() + 1}", f"search.concurrency must be at most {available_cpus()}"),
    ("name=a/b", "name must be letters, digits"),
    ("name=x-baselines", "name must not end in -baselines"),
    ("name=x-replicates", "name must not end in -replicates"),
    ("storage.url=nonsense", "storage.url must be a database URL, got nonsense"),
    ("storage.url=postgresql://u:secret@127.0.0.1:1/x", "storage.url must be a database that answers"),
    ("search", "--set must be KEY=VALUE, got search"),
    ("search.trials=[", "must be valid YAML"),
    ("name.first=x", "--set name.first must name a setting inside a section"),
]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder, which must be empty afterwards too."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    yield folder
    assert list(folder.iterdir()) == []


def refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Asserts that a command ends with exit code 2 and one line that says ``message`` (``.*`` for any text)."""
    code = run(arguments)
    output = capsys.readouterr()
    assert code == WRONG_INPUT, output
    assert output.out in ("", "starting Ray ...\n")
    assert output.err.count("\n") == 1, output.err
    assert output.err.startswith("robustfront: ")
    assert "Traceback" not in output.err
    pattern = ".*".join(re.escape(part) for part in message.split(".*"))
    assert re.search(pattern, output.err), output.err


@pytest.mark.parametrize(("setting", "message"), SETTINGS, ids=[setting for setting, _ in SETTINGS])
def test_a_wrong_setting(setting: str, message: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del empty
    refused(["sweep", str(QUICKSTART), "--set", setting], message, capsys)


def test_passwords_are_not_shown(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del empty
    run(["sweep", str(QUICKSTART), "--set", "storage.url=postgresql://u:secret@127.0.0.1:1/x"])
    assert "secret" not in capsys.readouterr().err


FILES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda _: None, "config must be an existing file"),
    ("empty", lambda path: path.write_text(""), "must hold a mapping of settings, got nothing"),
    ("a list", lambda path: path.write_text("- a\n- b\n"), "must hold a mapping of settings, got list"),
    ("no YAML", lambda path: path.write_text("name: [a\nb: {c"), "must be valid YAML, got an error in line"),
    ("a tab", lambda path: path.write_text("name:\n\t- x\n"), "must be valid YAML"),
    ("binary", lambda path: path.write_bytes(b"\xff\xfe\x00\x80"), "must be a readable text file"),
    ("a folder", lambda path: path.mkdir(), "must be a readable text file"),
    ("no name", lambda path: path.write_text("search: {trials: 2}\n"), "name must be given"),
]


@pytest.mark.parametrize(("write", "message"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_wrong_file(
    write: Callable[[Path], object], message: str, empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del empty
    path = tmp_path / "config.yaml"
    write(path)
    refused(["sweep", str(path)], message, capsys)


def test_a_run_that_exists_is_offered_for_resuming(
    empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del empty
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    arguments = ["sweep", str(QUICKSTART), "--runs-dir", str(tmp_path / "runs")]
    refused(arguments, "name must be new in .*robustfront resume quickstart", capsys)


def test_a_runs_folder_that_is_a_file(empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del empty
    (tmp_path / "file").write_text("")
    arguments = ["sweep", str(QUICKSTART), "--runs-dir", str(tmp_path / "file" / "runs")]
    refused(arguments, "--runs-dir must be a folder that can be written to", capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_runs_folder_without_permission(empty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del empty
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    refused(["sweep", str(QUICKSTART), "--runs-dir", str(folder)], "--runs-dir must be a folder", capsys)


def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (f"127.0.0.1:{closed_port()}", "--address must be a Ray cluster that answers"),
        ("127.0.0.1", "--address must be HOST:PORT or auto"),
        ("127.0.0.1:http", "--address must be HOST:PORT or auto"),
        ("no-such-host.invalid:6379", "--address must be a Ray cluster that answers"),
    ],
    ids=["nobody there", "no port", "no number", "no host"],
)
def test_an_address_where_no_cluster_is(
    address: str, message: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del empty
    refused(["sweep", str(QUICKSTART), "--address", address], message, capsys)


def test_missing_data_says_where_it_was_looked_for_and_what_gets_it(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del empty
    monkeypatch.setenv("ROBUSTFRONT_CACHE", str(tmp_path / "cache"))
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, f"http://127.0.0.1:{closed_port()}")  # no network, at once
    monkeypatch.setattr(urllib.request, "_opener", None)  # the next one must not remember this proxy
    settings = ["--set", "data.name=cifar10", "--set", f"data.root={tmp_path / 'nowhere'}"]
    refused(["sweep", str(QUICKSTART), *settings], f"{tmp_path / 'nowhere'}.*robustfront data prepare cifar10", capsys)


COMMANDS = [
    (["sweeep"], "No such command 'sweeep'. Did you mean 'sweep'?"),
    (["sweep", str(QUICKSTART), "--trials", "3"], "No such option: --trials"),
    (["resume", "nothing"], "RUN must be a run under runs or its path, got nothing"),
    (["status", "nothing"], "RUN must be a run under runs or its path, got nothing"),
    (["pareto", "nothing"], "RUN must be a run under runs or its path, got nothing"),
    (["pareto", "x", "--format", "xml"], "'xml' is not one of"),
    (["surfaces", "nothing"], "RUN must be a run under runs or its path, got nothing"),
    (["ui", "nothing"], "RUN must be a run under runs or its path, got nothing"),
    (["ui", "--port", "0"], "--port"),
    (
        ["data", "prepare", "imagenet"],
        "name must be one of cifar10, fashion-mnist, image-folder, mnist, mnist5k, got imagenet",
    ),
    (["train", str(QUICKSTART)], "--param s must be given, got nothing; add a value for it"),
    (["train", str(QUICKSTART), "--param", "s"], "--param must be NAME=VALUE, got s"),
    (["train", str(QUICKSTART), "--param", "s=one"], "--param s must be a number, got one"),
    (["train", str(QUICKSTART), "--param", "s=9", "--param", "m=0.1"], "--param s must be in [1, 2], got 9"),
    (["train", str(QUICKSTART), "--param", "s=nan", "--param", "m=0.1"], "--param s must be a number, got nan"),
    (["train", str(QUICKSTART), "--param", "q=1"], "--param q must be a parameter of the loss i-sce (s, m)"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), COMMANDS, ids=[" ".join(row[0][:1] + row[0][2:]) for row in COMMANDS]
)
def test_a_wrong_command(arguments: list[str], message: str, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del empty
    refused(arguments, message, capsys)
