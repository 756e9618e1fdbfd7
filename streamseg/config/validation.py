"""From plain values to a validated configuration; whatever is wrong is told in one line."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from streamseg.config.keys import RunConfig
from streamseg.errors import ConfigError, mask_password

_ADAPTER = TypeAdapter(RunConfig)


def parse_config(content: dict[str, Any], *, where: str) -> RunConfig:
    """Validate plain values. Raises ConfigError with one line that names every bad key."""
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """Say in one line which keys are wrong and what is allowed."""
    return mask_password("; ".join(_describe_one(dict(one)) for one in error.errors(include_url=False)))


def _describe_one(one: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in one["loc"])
    if one["type"] == "extra_forbidden":
        return f"unknown key {key}"
    return f"{key}: {one['msg']}"
