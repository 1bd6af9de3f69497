"""Runs in an object store, or in any other place that pyarrow reaches by a URL (s3://bucket/sweeps).

Every machine works on its own copy, in robustfront's cache, and pushes what it has written: a worker the checkpoint of
each epoch, the driver the tables. Other machines pull what they need. Objects are written atomically.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential

from search.errors import Halted, UserError, first_line
from search.runs.layout import REMOTE_FILE
from trainables import files as atomic

if TYPE_CHECKING:
    from pyarrow import fs

_AWAY_SECONDS: Final = 60.0
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 8.0  # seconds
_WHOLE: Final = ("s3", "gcs")  # stores that write objects atomically

T = TypeVar("T")


class Store:
    """The runs at a URL, and this machine's working copy of them.

    Paths are relative to both: ``quickstart/checkpoints/7``. ``pyarrow.fs.FileSystem.from_uri`` opens the URL and finds
    credentials where the store's own tools do. A store that does not answer is retried for a minute; then every method
    but ``check`` raises ``Halted``.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @property
    def copy(self) -> Path:
        """This machine's working copy, made if it does not exist."""
        from trainables.data import cache_folder

        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", self.url.split("?")[0]).strip("-")
        folder = cache_folder() / "runs" / f"{readable}-{hashlib.sha256(self.url.encode()).hexdigest()[:8]}"
        if not (folder / REMOTE_FILE).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            atomic.write(folder / REMOTE_FILE, self.url)
        return folder

    def path_url(self, path: str) -> str:
        """A path as a URL, which ``split`` can split again."""
        base, mark, query = self.url.partition("?")
        return f"{base}/{path}{mark}{query}"

    @classmethod
    def split(cls, url: str) -> tuple[Store, str]:
        """The store and the path, its last part, of ``s3://bucket/sweeps/quickstart``."""
        base, mark, query = url.partition("?")
        above, _, name = base.rstrip("/").rpartition("/")
        return cls(f"{above}{mark}{query}"), name

    def check(self) -> None:
        """Writes to the store, reads that back, and removes it; a ``UserError`` says what does not work."""
        probe = f".robustfront-{uuid.uuid4().hex}"
        try:
            self._write(probe, probe.encode())
            content = self._read(probe)
            self._files.delete_file(self._at(probe))
        except Exception as error:  # pyarrow's are of many kinds: of the URL, the network, the rights
            raise UserError(
                f"--runs-dir must be a folder or a URL that can be written to, got {self.url} ({first_line(error)}); "
                "check the URL, the network and the credentials"
            ) from None
        if content != probe.encode():
            raise UserError(f"--runs-dir must give back what was written, got {self.url} which does not")

    def read(self, path: str) -> bytes | None:
        """A file's contents; None if there is none."""
        try:
            return self._patiently(lambda: self._read(path))
        except FileNotFoundError:
            return None

    def pull(self, path: str, without: Sequence[str] = ()) -> None:
        """Copies a file or folder here as far as it is newer, ``without`` these names directly below it."""
        copy = self.copy
        for name, info in self._patiently(lambda: list(self._listed(path))):
            local = copy / name
            if name.removeprefix(f"{path}/").partition("/")[0] in without:
                continue
            if local.is_file() and local.stat().st_mtime_ns >= info.mtime_ns:
                continue
            content = self.read(name)
            if content is None:  # replaced by a newer one meanwhile
                continue
            local.parent.mkdir(parents=True, exist_ok=True)
            temporary = local.with_name(f".{local.name}.{uuid.uuid4().hex}.tmp")
            temporary.write_bytes(content)
            os.utime(temporary, ns=(info.mtime_ns, info.mtime_ns))
            temporary.replace(local)

    def push(self, path: str) -> None:
        """Copies a file or folder to the store, as far as this machine's copy differs."""
        local_files = dict(self._local(path))
        stored = dict(self._patiently(lambda: list(self._listed(path))))
        for name, local in sorted(local_files.items()):
            before = local.stat()
            # After a copy, both sides have the store's modification time.
            if name in stored and (stored[name].mtime_ns, stored[name].size) == (before.st_mtime_ns, before.st_size):
                continue
            content = local.read_bytes()
            written = self._patiently(lambda name=name, content=content: self._write(name, content))  # type: ignore[misc]
            if local.stat().st_mtime_ns == before.st_mtime_ns:
                os.utime(local, ns=(written, written))

    def thin(self, path: str, pattern: str, kept: int) -> None:
        """Removes a folder's files that match a pattern from the store, except the last ``kept`` by name."""
        names = [name for name, _ in self._patiently(lambda: list(self._listed(path))) if fnmatch(name, pattern)]
        for name in sorted(names)[:-kept]:
            self.delete(name)

    def delete(self, path: str) -> None:
        """Removes a file from the store if it exists."""
        with suppress(FileNotFoundError):
            self._patiently(lambda: self._files.delete_file(self._at(path)))

    def _local(self, path: str) -> Iterator[tuple[str, Path]]:
        copy = self.copy
        place = copy / path
        if place.is_file():
            yield path, place
        for file in place.rglob("*"):
            if file.is_file() and not file.name.startswith("."):  # those are being written
                yield file.relative_to(copy).as_posix(), file

    def _listed(self, path: str) -> Iterator[tuple[str, fs.FileInfo]]:
        from pyarrow import fs

        info = self._files.get_file_info(self._at(path))
        if info.type == fs.FileType.File:
            yield path, info
            return
        everything = fs.FileSelector(self._at(path), allow_not_found=True, recursive=True)
        for info in self._files.get_file_info(everything):
            if info.type == fs.FileType.File and not info.base_name.startswith("."):
                yield info.path.removeprefix(self._at("")), info

    def _read(self, path: str) -> bytes:
        with self._files.open_input_stream(self._at(path)) as stream:
            return bytes(stream.read())

    def _write(self, path: str, content: bytes) -> int:
        """Writes a file atomically and returns its modification time."""
        target = self._at(path)
        parent, _, name = target.rpartition("/")
        whole = self._files.type_name in _WHOLE
        if not whole:
            self._files.create_dir(parent, recursive=True)
        written = target if whole else f"{parent}/.{name}.{uuid.uuid4().hex}.tmp"
        with self._files.open_output_stream(written) as stream:
            stream.write(content)
        if not whole:
            self._files.move(written, target)
        return int(self._files.get_file_info(target).mtime_ns)

    def _at(self, path: str) -> str:
        return f"{self._opened[1].rstrip('/')}/{path}"

    @property
    def _files(self) -> fs.FileSystem:
        return self._opened[0]

    @cached_property
    def _opened(self) -> tuple[fs.FileSystem, str]:
        from pyarrow import fs

        opened: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(self.url)
        return opened

    def _patiently(self, call: Callable[[], T]) -> T:
        try:
            return retrying(_AWAY_SECONDS, _may_pass)(call)
        except OSError as error:
            if not _may_pass(error):
                raise
            raise Halted(f"{self.url} does not answer: {first_line(error)}") from None


def retrying(
    seconds: float, passing: Callable[[BaseException], bool], waiting: Callable[[BaseException], None] | None = None
) -> Retrying:
    """Calls a function until it returns, with pauses from 0.5 s that double up to 8 s: ``retrying(...)(function)``.

    A call that has failed is repeated, so one that is half done must do no harm. ``passing`` tells whether an error may
    be gone the next time. Any other is raised at once, as is the last one when the next pause would not fit into
    ``seconds``. ``waiting`` is called with the error before each pause.
    """

    def before_pause(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if waiting is not None and error is not None:
            waiting(error)

    return Retrying(
        stop=stop_before_delay(seconds),
        wait=wait_exponential(multiplier=_FIRST_PAUSE, max=_LAST_PAUSE),
        retry=retry_if_exception(passing),
        before_sleep=before_pause,
        reraise=True,
    )


def is_url(text: str) -> bool:
    """Whether a runs folder or a run is given by a URL."""
    return "://" in text


def store_of(runs_dir: Path) -> Store | None:
    """The store of which a runs folder is a working copy; None for an ordinary folder."""
    try:
        return Store((runs_dir / REMOTE_FILE).read_text(encoding="utf-8"))
    except OSError:
        return None


def no_ledger(store: Store) -> str:
    """The message for runs in a store without a database for their ledgers."""
    return (
        f"storage.url must be set where --runs-dir is {store.url}, got none: a ledger on this machine's disk would be "
        "lost with it; give a database server, e.g. postgresql://USER@HOST/DATABASE"
    )


def located(name: str, runs_dir: Path) -> tuple[Store | None, Path, str]:
    """The store (if there is one), the runs folder on this machine, and the name of a run given by name or URL."""
    if not is_url(name):
        return store_of(runs_dir), runs_dir, name
    store, name = Store.split(name)
    return store, store.copy, name


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
