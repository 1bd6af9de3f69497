"""Components of `trainables.registry` as fields of pydantic models: YAML in, YAML out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from trainables.registry import Component, Kind, make


@dataclass(frozen=True)
class ComponentOf:
    """Annotates a field that holds one component: ``Annotated[Attack, ComponentOf("attack")]``.

    Args:
        kind: The component's kind.
    """

    kind: Kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _schema(self.kind)


@dataclass(frozen=True)
class Components:
    """Annotates a dataclass, which knows nothing of pydantic, with a field that is a tuple of components.

    Args:
        field: The field.
        kind: The components' kind.
    """

    field: str
    kind: Kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler.resolve_ref_schema(handler(source))
        [field] = [field for field in schema["schema"]["fields"] if field["name"] == self.field]
        field["schema"]["schema"] = core_schema.tuple_variable_schema(_schema(self.kind))  # inside that of the default
        return schema  # type: ignore[no-any-return]


def _schema(kind: Kind) -> CoreSchema:
    return core_schema.no_info_plain_validator_function(
        lambda value: component(kind, value),
        serialization=core_schema.plain_serializer_function_ser_schema(document),
    )


def component(kind: Kind, value: Any) -> Component:
    """A component from its section of a configuration, ``{name: pgd, steps: 50}``, or one that is made already.

    Args:
        kind: Its kind.
        value: The section, or the component.

    Raises:
        ValueError: There is no such component or setting, or a value is not legal.
    """
    if isinstance(value, Component):
        return value
    name = value.get("name", "nothing") if isinstance(value, Mapping) else value
    if not isinstance(value, Mapping) or not isinstance(name, str) or "name" not in value:
        raise ValueError(f"name must be a known {kind}, got {name}; write {{name: ...}}")
    return make(kind, name, {key: setting for key, setting in value.items() if key != "name"})


def document(value: Component) -> dict[str, Any]:
    """The section that makes a component; settings that are None are left out."""
    return {key: setting for key, setting in value.to_document().items() if setting is not None}
