"""Reading configurations: YAML and ``--set`` in, a checked `SweepConfig` or one line on the first mistake out."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search.config.schema import SweepConfig
from search.config.space import completed
from search.config.urls import without_passwords
from search.errors import UserError
from trainables.settings.checks import nearest


def load(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> SweepConfig:
    """Reads a configuration file.

    Args:
        path: The YAML file.
        overrides: ``KEY=VALUE`` pairs; a key is a dotted path (``search.trials``), a value is YAML.
        name: Replaces the file's ``name``.

    Raises:
        UserError: The file is missing, does not parse or holds a value that is not legal.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"config must be an existing file, got {path}; try configs/quickstart.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config must be a readable text file, got {path} ({error}); choose another file") from None
    document = _parse_yaml(text, str(path))
    if not isinstance(document, dict):
        kind = "nothing" if document is None else type(document).__name__
        raise UserError(f"{path} must hold a mapping of settings, got {kind}; see configs/quickstart.yaml")
    for override in overrides:
        _override(document, override)
    if name is not None:
        document["name"] = name
    return parse(document)


def replaced(config: SweepConfig, values: Mapping[str, Any], overrides: Sequence[str] = ()) -> SweepConfig:
    """A configuration with some settings replaced.

    Args:
        config: Stays as it is.
        values: By dotted path (``robustness.attacks``); None for a setting's default.
        overrides: As of ``load``.

    Raises:
        UserError: As ``load``.
    """
    document = config.to_document()
    for key, value in values.items():
        *parents, last = key.split(".")
        section = document
        for parent in parents:
            section = section[parent]
        section.pop(last, None)
        if value is not None:
            section[last] = value
    for override in overrides:
        _override(document, override)
    return parse(document)


def parse_value(option: str, text: str) -> Any:
    """The value of an option that is written in YAML.

    Raises:
        UserError: It does not parse.
    """
    return _parse_yaml(text, option)


def parse(document: Mapping[str, Any]) -> SweepConfig:
    """Checks a configuration that is already a mapping.

    Raises:
        UserError: With one line on the first mistake.
    """
    try:
        # As JSON, because strict validation takes a list for a tuple and a mapping for a dataclass only there.
        return SweepConfig.model_validate_json(json.dumps(completed(document), default=str))
    except ValidationError as error:
        raise UserError(_one_line(error)) from None


def _parse_yaml(text: str, source: str) -> Any:
    try:
        # YAML 1.2: `no` is a word and 1e-3 a number; a key that stands twice is an error; nothing is ever executed.
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{source} must be valid YAML, got an error{where}: {problem}; correct that line") from None


def _override(document: dict[str, Any], override: str) -> None:
    (key, separator, text), shown = override.partition("="), without_passwords(override)
    if not separator or not key.strip():
        raise UserError(f"--set must be KEY=VALUE, got {shown}; write for example --set search.trials=6")
    *parents, last = key.strip().split(".")
    section: Any = document
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if section is None:
            break
    if not isinstance(section, dict):
        raise UserError(f"--set {key} must name a setting inside a section, got {shown}; check the path")
    section[last] = _parse_yaml(text, f"--set {key}")


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


def _one_line(error: ValidationError) -> str:
    """The first mistake as "<path> must <rule>, got <value>; <remedy>"."""
    mistakes = error.errors(include_url=False)
    # A key that nobody knows explains most other mistakes (a required one is missing because it is misspelt).
    # Of something that may be a number or a list of them, the list's mistakes are the nearer ones.
    mistakes.sort(
        key=lambda mistake: (
            mistake["type"] not in ("extra_forbidden", "unexpected_keyword_argument"),
            "float" in mistake["loc"] and isinstance(mistake["input"], list),
        )
    )
    mistake = mistakes[0]
    path = _path(mistake["loc"])
    value, kind, context = mistake["input"], mistake["type"], mistake.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(mistake["loc"][:-1])
        return f"{path} must be a known setting, got {_short(value)}; {nearest(str(mistake['loc'][-1]), known)}"
    if kind == "value_error":
        return _joined(path, str(context["error"]))
    if kind == "missing":
        return f"{path} must be given, got nothing; add it to the configuration"
    if kind == "literal_error":
        choices = tuple(re.findall(r"'([^']+)'", context["expected"]))
        return f"{path} must be one of {', '.join(choices)}, got {_short(value)}; {nearest(str(value), choices)}"
    if kind in _KINDS:
        return f"{path} must be {_KINDS[kind]}, got {_short(value)} ({type(value).__name__}); correct its type"
    bounds = {
        "greater_than_equal": "at least",
        "less_than": "below",
        "greater_than": "above",
        "less_than_equal": "at most",
    }
    if kind in bounds:
        limit = next(iter(context.values()))
        return f"{path} must be {bounds[kind]} {limit:g}, got {_short(value)}; choose a value in the range"
    return f"{path} must be valid ({mistake['msg']}), got {_short(value)}; correct it"


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


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """The legal keys of the section at ``location``."""
    kind: Any = SweepConfig
    for part in location:
        fields = _fields(kind)
        kind = fields.get(str(part), kind) if fields else kind
        kind = _section_type(kind)
    return list(_fields(kind))


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return get_type_hints(kind)
    return {}


def _section_type(kind: Any) -> Any:
    """The class inside ``list[...]``, ``dict[str, ...]``, ``tuple[..., ...]`` or ``... | None``."""
    if get_origin(kind) in (Union, UnionType, list, tuple, dict):
        candidates = [
            argument for argument in get_args(kind) if isinstance(argument, type) and argument not in (str, type(None))
        ]
        return candidates[0] if candidates else kind
    return kind


def _short(value: Any) -> str:
    text = without_passwords(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."
