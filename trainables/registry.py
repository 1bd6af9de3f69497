"""Everything that a configuration can name: losses, defences, models, data sets, attacks and optimizers.

A component is a frozen dataclass. Its fields are its settings, and its methods do the work. A search can explore the
fields declared with ``searched``. A built-in lives in the file of its name (``i-sce`` in ``losses/i_sce.py``) and
registers itself there. Every file of such a folder is a built-in, apart from those with a leading underscore; helpers
live in subfolders. Files of components import torch inside functions, so that a configuration is checked without it.

A component can also be the user's own, ``package.module:factory``: a `Component` class, or any callable whose keyword
arguments are the settings.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from trainables.settings.checks import check_choice, check_limits, nearest
from trainables.settings.space import Domain, Value, domains

Kind = Literal["loss", "defence", "model", "data", "attack", "optimizer"]

# Where each kind's built-ins live.
_FOLDERS: Final[Mapping[Kind, str]] = {
    "loss": "losses",
    "defence": "defences",
    "model": "models",
    "data": "data",
    "attack": "attacks",
    "optimizer": "optimizers",
}
_PATH: Final = ":"  # in the name of a component of the user's own
_WORDS: Final[Mapping[type, str]] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}

T = TypeVar("T", bound="type[Component]")


@dataclass(frozen=True, kw_only=True)
class Component:
    """The base of every component. Subclasses add fields, and the methods of their kind."""

    kind: ClassVar[Kind]  # what it is, and so where a built-in lives
    name: ClassVar[str]  # in a configuration: the built-in's name, or the import path
    source: ClassVar[str] = ""  # the paper or package that it follows

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Names a class by its import path, also where it is only unpickled; ``register`` gives a built-in its name."""
        super().__init_subclass__(**arguments)
        cls.name = f"{cls.__module__}{_PATH}{cls.__qualname__}"

    def __post_init__(self) -> None:
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
        defaults: dict[str, Any] = {item.name: item.default for item in dataclasses.fields(self)}
        return {name: defaults[name] for name in self.domains}

    def with_values(self, values: Mapping[str, Value]) -> Self:
        """The same component with other values of some parameters, which are checked."""
        return dataclasses.replace(self, **_typed(type(self), values))

    def to_document(self) -> dict[str, Any]:
        """The component in a configuration: its name, then every field that is not None, as plain values."""
        fields = {name: _plain(value) for name, value in self.settings.items() if value is not None}
        return {"name": self.name} | fields


@dataclass(frozen=True, kw_only=True)
class External(Component):
    """A user's own component whose factory is not a `Component` class. Its settings are keyword arguments."""

    path: str  # ``package.module:factory``
    arguments: Mapping[str, Value] = field(default_factory=dict)  # of the factory

    # Arguments that the kind passes to ``call``. They are not settings.
    offered: ClassVar[tuple[str, ...]] = ()
    # Those of them that a factory with ``**keywords`` gets although it does not name them.
    essential: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self._known()
        for name in self.arguments:
            if known is not None and name not in known:
                raise ValueError(f"{name} must be an argument of {self.path}; {nearest(name, known)}")
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
        defaults = {name: signature[name].default for name in self.parameters if name in signature}
        return {name: value for name, value in defaults.items() if isinstance(value, get_args(Value))} | self.settings

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(self._known() or ()), *self.arguments]))

    @property
    def takes_anything(self) -> bool:
        return self._known() is None

    def with_values(self, values: Mapping[str, Value]) -> Self:
        return dataclasses.replace(self, arguments={**self.arguments, **values})

    def call(self, **context: Any) -> Any:
        """Calls the factory with its settings, and with what it takes of the context, such as ``num_classes``."""
        factory = load(self.path)
        passed = {*_named(factory), *(self.essential if self.takes_anything else ())}
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
    folder = Path(__file__).parent / _FOLDERS[kind]
    return tuple(sorted(path.stem.replace("_", "-") for path in folder.glob("[!_]*.py")))


def find(kind: Kind, name: str) -> type[Component]:
    """The class of a built-in, or of what ``package.module:factory`` names.

    Raises:
        ValueError: There is no such component.
    """
    if _PATH in name:
        factory = load(name)
        if isinstance(factory, type) and issubclass(factory, Component):
            if factory.kind != kind:
                raise ValueError(f"name must be a {kind}, got {name}, which is a {factory.kind}; give another")
            return factory
        importlib.import_module(f"trainables.{_FOLDERS[kind]}")
        return _EXTERNALS[kind]
    check_choice("name", name, names(kind))
    importlib.import_module(f"trainables.{_FOLDERS[kind]}.{name.replace('-', '_')}")
    return _REGISTERED[kind, name]


def parse(kind: Kind, document: Any) -> Any:
    """A component as a configuration writes it: a name, or a mapping of the name and the settings.

    Raises:
        ValueError: It is neither, nor a component already made; or as for ``make``.
    """
    if isinstance(document, Component) and document.kind == kind:
        return document
    if isinstance(document, str):
        return make(kind, document)
    if not isinstance(document, Mapping) or not isinstance(document.get("name"), str):
        example = names(kind)[0]
        raise ValueError(f"name must be given, got {document}; write for example {{name: {example}}}")
    return make(kind, document["name"], {key: value for key, value in document.items() if key != "name"})


def make(kind: Kind, name: str, settings: Mapping[str, Any] | None = None, beside: Sequence[str] = ()) -> Any:
    """A component. Settings left out have their defaults.

    ``beside`` names what may stand beside the settings in a configuration, for remedies.

    Raises:
        ValueError: There is no such component or setting, or a value is not legal.
    """
    component, given = find(kind, name), dict(settings or {})
    if issubclass(component, External):
        own = {key: given.pop(key) for key in component.own_fields() if key in given}
        return component(path=name, arguments=given, **_typed(component, own))
    fields = {item.name: item for item in dataclasses.fields(component)}
    for key in given:
        if key not in fields:
            known = [*beside, *fields]
            raise ValueError(f"{key} must be a setting of {name}, got {given[key]}; {nearest(key, known)}")
    for key, item in fields.items():
        if key not in given and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{key} must be given for {name}, got nothing; add it")
    return component(**_typed(component, given))


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
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"name must be a module that can be imported, got {path} (no module named {error.name}); "
            "install it, or run in the folder that holds it"
        ) from None
    except Exception as error:  # a user's module fails in its own way
        raise ValueError(
            f"name must be a module that can be imported, got {path} ({one_line(error)}); correct it"
        ) from error
    factory = getattr(imported, attribute, None)
    if factory is None:
        raise ValueError(f"name must be something in {module}, got {path}; correct the part after the colon")
    if not callable(factory):
        raise ValueError(f"name must be a class or function, got {path}, a {type(factory).__name__}; name a factory")
    return factory


def one_line(error: BaseException) -> str:
    """The type and the first line of an error from a user's own code."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def keywords(factory: Callable[..., Any]) -> list[str] | None:
    """The names of a callable's keyword arguments; None where it takes any."""
    parameters = inspect.signature(factory).parameters.values()
    return None if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters) else _named(factory)


def _named(factory: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(factory).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in parameters.items() if parameter.kind in kinds]


def check_fields(settings: Any) -> None:
    """Checks every field of a dataclass against its annotation, and its domain or limits.

    Raises:
        ValueError: A value is of another type, no legal choice, not finite or outside its limits. A range's open lower
            end counts as legal.
    """
    hints, legal = get_type_hints(type(settings)), domains(settings)
    for item in dataclasses.fields(settings):
        name, value = item.name, getattr(settings, item.name)
        check_type(name, value, hints[name])
        if name in legal and not legal[name].allows(value):
            raise ValueError(f"{name} must be {legal[name].rule}, got {value}; choose a legal value")
        if value is not None:
            check_limits(name, value, item.metadata, item.default)


def check_type(name: str, value: Any, hint: Any) -> None:
    """Asserts that a value has its annotated type: a plain one, a ``Literal``, or one of these or None."""
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        if value is None or len(kinds) > 1:
            return
        hint = kinds[0]
    if get_origin(hint) is Literal:
        check_choice(name, value, get_args(hint))
    if hint not in _WORDS:
        return
    matches = isinstance(value, hint) or (hint is float and isinstance(value, int))
    if not matches or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{name} must be {_WORDS[hint]}, got {value} ({type(value).__name__}); correct its type")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}; give a number")


def _typed(component: type[Component], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values from YAML or JSON as the fields have them: a list as a tuple, a whole number as a float."""
    hints = get_type_hints(component)

    def typed(value: Any, hint: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return float(value) if hint is float and is_whole else value

    return {name: typed(value, hints[name]) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
