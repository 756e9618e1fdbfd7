"""Keys of pydantic models and msgspec structs: what each means, which values it may have."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from streamseg.results.schema import field_descriptions

Schema = dict[str, Any]
_POINT = [{"minimum": 0, "type": "number"}] * 2
_ROLE = re.compile(r":\w+:`~?([^`]*)`")


@dataclass(frozen=True)
class Key:
    """One key of a section."""

    name: str
    allowed: str
    """In words, as Markdown."""
    default: str
    """As YAML in backticks; empty if the key is needed."""
    description: str
    """Markdown; empty if the code has none."""


def attribute_docs(kind: type) -> dict[str, str]:
    """The docstrings below the attributes of a class and of those it is made from, as one line each."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("streamseg"):
            found |= {name: one_line(text) for name, text in field_descriptions(base).items()}
    return found


def one_line(text: str) -> str:
    """A docstring as one line of Markdown."""
    return _ROLE.sub(r"`\1`", " ".join(text.split())).replace("``", "`")


def first_paragraph(text: str | None) -> str:
    """The first paragraph of a docstring, as one line of Markdown."""
    return one_line(inspect.cleandoc(text or "").split("\n\n")[0])


def keys_of(model: type[BaseModel]) -> list[Key]:
    """The keys of a section, in the order of the code."""
    schema = model.model_json_schema()
    docs = attribute_docs(model)
    return [
        Key(
            name,
            allowed(schema["properties"][name], schema.get("$defs", {})),
            _default(field.default, field.default_factory),
            _for_yaml(docs.get(name) or _of_its_section(model, name, field.annotation)),
        )
        for name, field in model.model_fields.items()
    ]


def _of_its_section(model: type[BaseModel], name: str, annotation: Any) -> str:
    """What a key without words of its own means: a section says it itself, and so does a kind of output."""
    if name == "type":
        return first_paragraph(model.__doc__)
    return next((first_paragraph(section.__doc__) for section in sections_in(annotation)), "")


def _for_yaml(text: str) -> str:
    return re.sub(r"\bNone\b", "`null`", text)


def _default(value: Any, factory: Any) -> str:
    if value is PydanticUndefined:
        return "" if factory is None else "`{}`"
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{yaml_value(value)}`"


def yaml_value(value: Any) -> str:
    """A default as it is written in YAML, on one line."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{k}: {yaml_value(v)}" for k, v in value.items()) + "}"
        case tuple() | list():
            return "[" + ", ".join(map(yaml_value, value)) + "]"
        case float():
            return f"{value:g}" if "e" not in f"{value:g}" else f"{value:.1e}"
    text = str(value)
    return f'"{text}"' if re.search(r"[{}:#\[\]]", text) else text


def allowed(schema: Schema, defs: Schema) -> str:
    """A JSON Schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _object(defs[name])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        kinds = [allowed(one, defs) for one in schema.get("anyOf", schema.get("oneOf", ()))]
        return " or ".join(dict.fromkeys(kinds))
    return _of_type(schema, defs)


def _object(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return "keys, see below"


def _of_type(schema: Schema, defs: Schema) -> str:
    match schema.get("type"):
        case "array":
            return _array(schema, defs)
        case "object":
            return "names, each with " + _values(schema, defs)
        case "string":
            return _text(schema)
        case "integer":
            return "whole number" + _range(schema)
        case kind:
            return _SIMPLE.get(str(kind), "any value") + _range(schema)


_SIMPLE = {"null": "`null`", "boolean": "`true`, `false`", "number": "number"}


def _text(schema: Schema) -> str:
    if "pattern" in schema:
        return "text like `" + re.sub(r"^\^\(?|\)?\$$", "", schema["pattern"]) + "`"
    return "path" if schema.get("format") == "path" else "text"


def _values(schema: Schema, defs: Schema) -> str:
    of_names = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return next((allowed(one, defs) for one in of_names if isinstance(one, dict)), "a value")


def _array(schema: Schema, defs: Schema) -> str:
    if "prefixItems" in schema:
        return "[" + ", ".join(allowed(one, defs) for one in schema["prefixItems"]) + "]"
    if schema.get("items", {}).get("prefixItems") == _POINT:
        return "points [x, y]" + (f", at least {schema['minItems']}" if "minItems" in schema else "")
    return f"list of {allowed(schema.get('items', {}), defs)}"


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    if low is not None:
        parts.append(f"from {low:g} on")
    if above is not None:
        parts.append(f"above {above:g}")
    if high is not None:
        parts.append(f"up to {high:g}")
    if below is not None:
        parts.append(f"below {below:g}")
    return " " + ", ".join(parts) if parts else ""


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of this type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


def sections(model: type[BaseModel], at: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """All sections below a model with the dotted path of each, itself first; ``N`` is a number in a list."""
    yield at, model
    for name, field in model.model_fields.items():
        inner = list(sections_in(field.annotation))
        for one in inner:
            place = f"{at}.{name}".lstrip(".")
            if field.annotation is not one and type(None) not in get_args(field.annotation):
                place += ".NAME" if "dict" in str(field.annotation) else ".N"
            yield from sections(one, place)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
