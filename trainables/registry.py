"""Everything that a configuration can name: losses, defences, models, data sets, attacks and optimizers.

A component is a frozen dataclass. Its fields are its settings, and its methods do the work. A search can explore the
fields declared with ``searched``. A built-in lives in the file of its name (``i-sce`` in ``losses/i_sce.py``) and
registers itself there. Every file of such a folder is a built-in, apart from those with a leading underscore; helpers
live in subfolders. Files of components import torch inside functions, so that a configuration is checked without it.

A component can also be the user's own: ``package.module:factory``. A factory is a `Component` class, or any callable
whose keyword arguments are the settings.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from trainables.settings.checks import check_choice, nearest
from trainables.settings.space import Domain, Range, Value, domains

Kind = Literal["loss", "defence", "model", "data", "attack", "optimizer"]

# Where each kind's built-ins live.
PACKAGES: Final[Mapping[Kind, str]] = {
    "loss": "losses",
    "defence": "defences",
    "model": "models",
    "data": "data",
    "attack": "attacks",
    "optimizer": "optimizers",
}
_ROOT: Final = Path(__file__).parent
_PATH: Final = ":"  # in the name of a component of the user's own

T = TypeVar("T", bound="type[Component]")


@dataclass(frozen=True, kw_only=True)
class Component:
    """The base of every component. Subclasses add fields, and the methods of their kind.

    Attributes:
        kind: Which of `PACKAGES` it belongs to.
        name: Its name in a configuration: the built-in's name, or the import path.
        source: The paper or package that it follows.
    """

    kind: ClassVar[Kind]
    name: ClassVar[str]
    source: ClassVar[str] = ""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Names a class by its import path; ``register`` gives a built-in its name.

        A class that is unpickled in another process is not looked up there, and must still know its name.
        """
        super().__init_subclass__(**arguments)
        cls.name = f"{cls.__module__}{_PATH}{cls.__qualname__}"

    def __post_init__(self) -> None:
        """Checks every field against its annotation and its domain.

        Raises:
            ValueError: A value is of another type, no legal choice, not finite or outside its limits.
        """
        check_fields(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        """How pydantic reads a component: from its name, or from a mapping of the name and the settings."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda document: parse(cls.kind, document),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda component: component.to_document()),
        )

    @property
    def title(self) -> str:
        """The name for people: of a user's own component, that of its factory."""
        return self.name.rpartition(_PATH)[2]

    @property
    def settings(self) -> dict[str, Any]:
        """The fields by name, as a configuration gives them."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    @property
    def values(self) -> dict[str, Any]:
        """The settings by name, with the defaults of those that no configuration gives."""
        return self.settings

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its settings."""
        return tuple(self.settings)

    @property
    def takes_anything(self) -> bool:
        """Whether other settings may be legal too; the component itself checks their names."""
        return False

    @property
    def domains(self) -> dict[str, Domain]:
        """The parameters that a search can explore, each with its legal limits."""
        return domains(self)

    @property
    def reference(self) -> dict[str, Value]:
        """The authors' own values of the searched fields: their defaults."""
        fields = {item.name: item for item in dataclasses.fields(self)}
        defaults: dict[str, Any] = {name: fields[name].default for name in self.domains}
        return defaults

    def with_values(self, values: Mapping[str, Value]) -> Self:
        """The same component with other values.

        Raises:
            ValueError: There is no such field, or its value is not legal.
        """
        known, hints = list(self.settings), get_type_hints(type(self))
        for name in values:
            if name not in known:
                remedy = nearest(name, known) if known else "it has none"
                raise ValueError(f"{name} must be a setting of {self.name}; {remedy}")
        return dataclasses.replace(self, **{name: _typed(value, hints[name]) for name, value in values.items()})

    def to_document(self) -> dict[str, Any]:
        """The component in a configuration: its name, then every field that is not None, as plain values."""
        fields = {name: _plain(value) for name, value in self.settings.items() if value is not None}
        return {"name": self.name} | fields


@dataclass(frozen=True, kw_only=True)
class External(Component):
    """A user's own component whose factory is not a `Component` class. Its settings are keyword arguments.

    Args:
        path: ``package.module:factory``.
        arguments: Keyword arguments of the factory.
    """

    path: str
    arguments: Mapping[str, Value] = field(default_factory=dict)

    # Arguments that the kind passes to ``call``. They are not settings.
    offered: ClassVar[tuple[str, ...]] = ()
    # Those of them that a factory with ``**keywords`` gets although it does not name them.
    essential: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Binds the arguments to the factory's signature, and names the component after its factory.

        Raises:
            ValueError: The factory takes no such argument.
        """
        super().__post_init__()
        known = self._known()
        for name in self.arguments:
            if known is not None and name not in known:
                remedy = nearest(name, known) if known else "it has none"
                raise ValueError(f"{name} must be an argument of {self.path}; {remedy}")
        object.__setattr__(self, "name", self.path)  # the class variable is the wrapper's

    @classmethod
    def own_fields(cls) -> list[str]:
        """The settings that the kind's wrapper has, whatever the factory (``remaining`` of an attack)."""
        return [item.name for item in dataclasses.fields(cls) if item.name not in ("path", "arguments")]

    @property
    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.own_fields()} | dict(self.arguments)

    @property
    def values(self) -> dict[str, Any]:
        signature = inspect.signature(load(self.path)).parameters
        defaults = {name: signature[name].default for name in self._known() or () if name in signature}
        return {name: value for name, value in defaults.items() if isinstance(value, get_args(Value))} | self.settings

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(self._known() or ()), *self.arguments]))

    @property
    def takes_anything(self) -> bool:
        return self._known() is None

    def with_values(self, values: Mapping[str, Value]) -> Self:
        own = {name: value for name, value in values.items() if name in self.own_fields()}
        others = {name: value for name, value in values.items() if name not in own}
        return dataclasses.replace(self, arguments={**self.arguments, **others}, **own)  # type: ignore[arg-type]

    def call(self, **context: Any) -> Any:
        """Calls the factory with its settings and as much of the context as it has arguments for.

        Args:
            context: What the kind offers, for example ``num_classes`` for a model.
        """
        factory = load(self.path)
        named = keywords(factory)
        passed = named if named is not None else [*_named(factory), *self.essential]
        offered = {name: value for name, value in context.items() if name in passed}
        return factory(**{**offered, **self.arguments})

    def _known(self) -> list[str] | None:
        """The names of the factory's settings; None if it takes any."""
        known = keywords(load(self.path))
        return known if known is None else [name for name in known if name not in self.offered]


# The class that wraps a user's factory, by kind. It is registered beside the kind's base class.
_EXTERNALS: Final[dict[Kind, type[External]]] = {}
_REGISTERED: Final[dict[tuple[Kind, str], type[Component]]] = {}


def register(name: str) -> Callable[[T], T]:
    """Registers a component class under a name, for its kind."""

    def decorate(component: T) -> T:
        component.name = name
        _REGISTERED[component.kind, name] = component
        return component

    return decorate


def external(component: type[External]) -> type[External]:
    """Registers the class that wraps users' factories of its kind."""
    _EXTERNALS[component.kind] = component
    return component


def names(kind: Kind) -> tuple[str, ...]:
    """The built-ins of a kind, in alphabetical order. Imports none of them."""
    folder = _ROOT / PACKAGES[kind]
    return tuple(sorted(path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")))


def find(kind: Kind, name: str) -> type[Component]:
    """The class of a component.

    Args:
        kind: Its kind.
        name: A built-in's name, or ``package.module:factory``.

    Raises:
        ValueError: There is no such component.
    """
    if _PATH in name:
        factory = load(name)
        if isinstance(factory, type) and issubclass(factory, Component):
            if factory.kind != kind:
                raise ValueError(f"name must be a {kind}, got {name}, which is a {factory.kind}; give another")
            return factory
        importlib.import_module(f"trainables.{PACKAGES[kind]}")
        return _EXTERNALS[kind]
    check_choice("name", name, names(kind))
    importlib.import_module(f"trainables.{PACKAGES[kind]}.{name.replace('-', '_')}")
    return _REGISTERED[kind, name]


def parse(kind: Kind, document: Any) -> Any:
    """A component as a configuration writes it: a name, or a mapping of the name and the settings.

    Args:
        kind: Its kind.
        document: The name, the mapping, or a component already made.

    Raises:
        ValueError: It is neither, or as for ``make``.
    """
    if isinstance(document, Component) and document.kind == kind:
        return document
    if isinstance(document, str):
        return make(kind, document)
    if not isinstance(document, Mapping) or not isinstance(document.get("name"), str):
        example = names(kind)[0]
        raise ValueError(f"name must be given, got {document}; write for example {{name: {example}}}")
    return make(kind, document["name"], {key: value for key, value in document.items() if key != "name"})


def make(kind: Kind, name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """A component with its settings.

    Args:
        kind: Its kind.
        name: As for ``find``.
        settings: Its fields by name; fields left out have their defaults.

    Raises:
        ValueError: There is no such component or setting, or a value is not legal.
    """
    component, given = find(kind, name), dict(settings or {})
    fields, hints = dataclasses.fields(component), get_type_hints(component)
    if issubclass(component, External):
        own = {key: _typed(given.pop(key), hints[key]) for key in component.own_fields() if key in given}
        return component(path=name, arguments=given, **own)
    known = [item.name for item in fields]
    for key in given:
        if key not in known:
            remedy = nearest(key, known) if known else f"{name} has none"
            raise ValueError(f"{key} must be a setting of {name}, got {given[key]}; {remedy}")
    for item in fields:
        if item.name not in given and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{item.name} must be given for {name}, got nothing; add it")
    return component(**{key: _typed(value, hints[key]) for key, value in given.items()})


def load(path: str) -> Any:
    """Imports what ``package.module:factory`` names. The working folder comes first in the search path.

    Raises:
        ValueError: The path is malformed, or names nothing.
    """
    module, _, attribute = path.partition(_PATH)
    if not module or not attribute.isidentifier():
        raise ValueError(f"name must be package.module:factory, got {path}; write for example my_losses:Focal")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"name must be a module that can be imported, got {path} (no module named {error.name}); "
            "install it, or run in the folder that holds it"
        ) from None
    except AttributeError:
        raise ValueError(f"name must be something in {module}, got {path}; correct the part after the colon") from None
    if not callable(factory):
        raise ValueError(f"name must be a class or function, got {path}, a {type(factory).__name__}; name a factory")
    return factory


def keywords(factory: Callable[..., Any]) -> list[str] | None:
    """The names of a callable's keyword arguments; None where it takes any."""
    parameters = inspect.signature(factory).parameters.values()
    return None if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters) else _named(factory)


def _named(factory: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(factory).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


def check_fields(settings: Any) -> None:
    """Checks every field of a dataclass against its annotation and its domain.

    Raises:
        ValueError: A value is of another type, no legal choice, not finite or outside its limits.
    """
    hints, legal = get_type_hints(type(settings)), domains(settings)
    for item in dataclasses.fields(settings):
        check_type(item.name, getattr(settings, item.name), hints[item.name])
        if item.name in legal:
            check_value(item.name, getattr(settings, item.name), legal[item.name])


def check_value(name: str, value: Value, domain: Domain) -> None:
    """Asserts that a value is legal.

    Raises:
        ValueError: It lies outside ``domain``; a closed lower end counts as legal here.
    """
    if domain.allows(value):
        return
    if isinstance(domain, Range):
        kind = "a whole number " if domain.integer else ""
        raise ValueError(
            f"{name} must be {kind}in [{domain.low:g}, {domain.high:g}], got {value}; choose a value in the range"
        )
    raise ValueError(f"{name} must be one of {domain}, got {value}; choose one of them")


_WORDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


def check_type(name: str, value: Any, hint: Any) -> None:
    """Asserts that a value has its annotated type: a plain one, a ``Literal``, or one of these or None.

    Raises:
        ValueError: It has another type.
    """
    if get_origin(hint) in (Union, UnionType) and type(None) in get_args(hint):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if value is not None and len(kinds) == 1:
            check_type(name, value, kinds[0])
        return
    if get_origin(hint) is Literal:
        check_choice(name, value, get_args(hint))
        return
    kind = _WORDS.get(hint)
    if kind is None:
        return
    matches = isinstance(value, hint) or (hint is float and isinstance(value, int))
    if not matches or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{name} must be {kind}, got {value} ({type(value).__name__}); correct its type")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}; give a number")


def _typed(value: Any, hint: Any) -> Any:
    """A value from YAML or JSON as the field has it: a list as a tuple, a whole number as a float."""
    if isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return value.to_document()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
