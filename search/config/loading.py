"""Reading configurations: YAML and ``--set`` in, a checked `SweepConfig` or one line on the first mistake out.

Every public function raises ``UserError`` for a file or value that is not legal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search.config.images import efficient_images
from search.config.schema import SweepConfig
from search.config.space import completed
from search.config.urls import without_passwords
from search.errors import UserError
from trainables.settings import DataSettings
from trainables.settings.checks import nearest

_BASE: Final = "base"
_SPACE: Final = "space"


def load(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> SweepConfig:
    """Reads a configuration file.

    Overrides are ``KEY=VALUE``: a dotted path (``search.trials``) and YAML. A ``name`` replaces the file's.
    """
    document = read_document(path, "config")
    for override in overrides:
        override_in(document, override)
    if name is not None:
        document["name"] = name
    return parse(document)


def parse(document: dict[str, Any], overrides: Sequence[str] = ()) -> SweepConfig:
    """Checks a configuration that is already a mapping, with overrides as for ``load``."""
    for override in overrides:
        override_in(document, override)
    document = dict(completed(_with_confirmation_size(document)))
    robustness = document.get("robustness", {})
    if not isinstance(robustness, dict) or "images" in robustness:
        return _checked(document)
    config = _checked({**document, "robustness": {**robustness, "images": 1}})
    return config.model_copy(update={"robustness": replace(config.robustness, images=efficient_images(config.problem))})


def _checked(document: dict[str, Any]) -> SweepConfig:
    try:
        # As JSON, because strict validation takes a list for a tuple and a mapping for a dataclass only there.
        return SweepConfig.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise UserError(one_line(error)) from None


def _with_confirmation_size(document: dict[str, Any]) -> dict[str, Any]:
    """Fills in ``data.confirmation_size`` of a configuration that confirms: half of the validation images."""
    data, search = document.get("data", {}), document.get("search")
    confirms = isinstance(search, dict) and search.get("confirmation_seeds")
    if not confirms or not isinstance(data, dict) or "confirmation_size" in data:
        return document
    size = data.get("validation_size", DataSettings().validation_size)
    return {**document, "data": {**data, "confirmation_size": size // 2}} if isinstance(size, int) else document


def parse_value(source: str, text: str) -> Any:
    """The value of a text in YAML, which comes from a file or an option, the ``source``."""
    try:
        # YAML 1.2: `no` is a word and 1e-3 a number; nothing is ever executed.
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{source} must be valid YAML, got an error{where}: {problem}; correct that line") from None


def read_document(path: Path, key: str, derived: Sequence[Path] = (), *, base: bool = True) -> dict[str, Any]:
    """A file's settings, merged over its base's.

    Args:
        path: The file.
        key: The name of the file in messages.
        derived: The files that build on it.
        base: Whether to read its base too; without it, the file's own settings are returned.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        remedy = "correct the path" if derived else "try configs/quickstart.yaml"
        raise UserError(f"{key} must be an existing file, got {path}; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{key} must be a readable text file, got {path} ({error}); choose another file") from None
    document = parse_value(str(path), text)
    if not isinstance(document, dict):
        kind = "nothing" if document is None else type(document).__name__
        raise UserError(f"{path} must hold a mapping of settings, got {kind}; see configs/quickstart.yaml")
    if _BASE not in document:
        return document
    written, derived = document.pop(_BASE), [*derived, path.resolve()]
    if not isinstance(written, str):
        raise UserError(f"{_BASE} must be the path of a configuration, got {written} in {path}; correct it")
    if not base:
        return document
    below = path.parent / written
    if below.resolve() in derived:
        raise UserError(f"{_BASE} must not be circular, got {written} in {path}; remove it")
    return merged(read_document(below, f"{_BASE} of {path}", derived), document)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two documents merged key by key: values above replace those below, and mappings are merged in turn.

    A ``space``, and a component with another name, are replaced as a whole.
    """
    document = dict(below)
    for key, value in above.items():
        old: Any = {"name": below[key]} if isinstance(below.get(key), str) else below.get(key)
        mappings = key != _SPACE and isinstance(old, dict) and isinstance(value, dict)
        same = mappings and value.get("name", old.get("name")) == old.get("name")
        document[key] = merged(old, value) if same else value
    return document


def override_in(document: dict[str, Any], override: str) -> None:
    """Sets what ``KEY=VALUE`` says in a document."""
    (key, separator, text), shown = override.partition("="), without_passwords(override)
    if not separator or not key.strip():
        raise UserError(f"--set must be KEY=VALUE, got {shown}; write for example --set search.trials=6")
    *parents, last = key.strip().split(".")
    section: Any = document
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
    if not isinstance(section, dict):
        raise UserError(f"--set {key} must name a setting inside a section, got {shown}; check the path")
    section[last] = parse_value(f"--set {key}", text)


# What pydantic finds wrong, by its names.
_UNKNOWN_KEY: Final = ("extra_forbidden", "unexpected_keyword_argument")
_KINDS: Final = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a mapping of settings",
    "dataclass_type": "a mapping of settings",
}
_BOUNDS: Final = {
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
}


def one_line(error: ValidationError, model: type[BaseModel] = SweepConfig) -> str:
    """The first mistake in a document of the model as "<path> must <rule>, got <value>; <remedy>"."""
    # A key that nobody knows explains most other mistakes (a required one is missing because it is misspelt).
    # Where a number or a list of them is legal and a list was given, its mistakes as a list are the nearer ones.
    mistake = min(
        error.errors(include_url=False),
        key=lambda mistake: (
            mistake["type"] not in _UNKNOWN_KEY,
            "float" in mistake["loc"] and isinstance(mistake["input"], list),
        ),
    )
    path, kind, context = _path(mistake["loc"]), mistake["type"], mistake.get("ctx", {})
    value, got = mistake["input"], without_passwords(str(mistake["input"]))
    got = got if len(got) <= 60 else f"{got[:57]}..."
    if kind in _UNKNOWN_KEY:
        known = _known_keys(model, mistake["loc"][:-1])
        return f"{path} must be a known setting, got {got}; {nearest(str(mistake['loc'][-1]), known)}"
    if kind == "value_error":
        return _joined(path, str(context["error"]))
    if kind == "missing":
        return f"{path} must be given, got nothing; add it to the configuration"
    if kind == "literal_error":
        choices = re.findall(r"'([^']+)'", context["expected"])
        return f"{path} must be one of {', '.join(choices)}, got {got}; {nearest(str(value), choices)}"
    if kind in _KINDS:
        return f"{path} must be {_KINDS[kind]}, got {got} ({type(value).__name__}); correct its type"
    if kind in _BOUNDS:
        return f"{path} must be {_BOUNDS[kind].format(**context)}, got {got}; choose a value in the range"
    return f"{path} must be valid ({mistake['msg']}), got {got}; correct it"


def _joined(path: str, message: str) -> str:
    """A setting's path before what is wrong with it, or with a setting inside it."""
    if not path or message.startswith("."):
        return path + message
    return f"{path} {message}" if message.startswith("must ") else f"{path}.{message}"


def _path(location: Sequence[str | int]) -> str:
    path = ""
    for part in location:
        if part == "float" or str(part).startswith("tuple["):  # which of several types was tried
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The legal keys of the section at ``location``."""
    section: Any = model
    for part in location:
        # Of a list or a mapping, any item; of ``Section | None``, the section.
        annotation = get_args(section)[-1] if get_origin(section) in (list, dict) else _annotations(section)[str(part)]
        is_optional = isinstance(annotation, UnionType)
        section = next(iter(get_args(annotation)), annotation) if is_optional else annotation
    return list(_annotations(section))


def _annotations(section: Any) -> dict[str, Any]:
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return get_type_hints(section)  # the training core's sections are dataclasses
