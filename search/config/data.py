"""The section ``data`` of a configuration: one flat mapping of the split's settings and the data set's own."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import GetPydanticSchema
from pydantic_core import PydanticCustomError, core_schema

from trainables.settings import DataSettings


def _read(value: Any) -> DataSettings:
    if isinstance(value, DataSettings):
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("dataclass_type", "not a mapping")
    return DataSettings.from_document(value)


# Pydantic would look into the class, and at the annotation of its data set, if it were left to make the schema.
_SCHEMA: Final = core_schema.no_info_plain_validator_function(
    _read, serialization=core_schema.plain_serializer_function_ser_schema(DataSettings.to_document)
)
DataField = Annotated[DataSettings, GetPydanticSchema(lambda _, __: _SCHEMA)]
