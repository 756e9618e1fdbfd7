"""From plain values to a validated configuration; whatever is wrong is told in one line."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from streamseg.config.advice import nearest
from streamseg.config.keys import ModelConfig, RunConfig
from streamseg.errors import ConfigError, mask_password

_ADAPTER = TypeAdapter(RunConfig)
Model = type[BaseModel]


def parse_config(content: dict[str, Any], *, where: str) -> RunConfig:
    """Validate plain values. Raises ConfigError with one line that names every bad key."""
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error, RunConfig)}") from error


def parse_model(content: dict[str, Any]) -> ModelConfig:
    """Validate the keys of the section ``model``. Raises ConfigError as :func:`parse_config`."""
    try:
        return ModelConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(describe(error, ModelConfig)) from error


def one_device(model: ModelConfig) -> str:
    """The device of a model that runs in this process. Raises ConfigError if there are several."""
    if isinstance(model.device, str):
        return model.device
    raise ConfigError(
        f"device {', '.join(model.device)}: only `streamseg run` works on several devices; name one of them"
    )


def describe(error: ValidationError, model: Model | None = None) -> str:
    """Say in one line which keys are wrong and what is allowed.

    ``model`` is what was validated: for an unknown key the nearest known one is named.
    """
    problems = (_describe_one(dict(one), model) for one in error.errors(include_url=False))
    return mask_password("; ".join(problems))


def _describe_one(one: dict[str, Any], model: Model | None) -> str:
    key = ".".join(str(part) for part in one["loc"])
    if one["type"] != "extra_forbidden":
        return f"{key}: {one['msg']}"
    meant = None if model is None else _meant(one["loc"], model)
    return f"unknown key {key}" + (f" (did you mean {meant}?)" if meant else "")


def _meant(loc: Sequence[int | str], model: Model) -> str | None:
    """The known key nearest to an unknown one: beside it, or else of the same name anywhere."""
    *parents, last = loc
    beside = [name for one in _models_at(parents, model) for name in one.model_fields]
    if (found := nearest(str(last), beside)) is not None:
        return ".".join(str(part) for part in (*parents, found))
    return next((path for path in _paths(model) if path.rpartition(".")[2] == last), None)


def _models_at(loc: Sequence[int | str], model: Model) -> list[Model]:
    """The models that a value at this place may be of."""
    models = [model]
    for part in loc:
        inner = [m for one in models if part in one.model_fields for m in _models_in(_type(one, str(part)))]
        if inner:
            models = inner
        elif isinstance(part, str):  # the value of the key that tells the models of a union apart
            tagged = [m for m in models if "type" in m.model_fields and part in get_args(_type(m, "type"))]
            models = tagged or models
    return models


def _type(model: Model, key: str) -> Any:
    return model.model_fields[key].annotation


def _models_in(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _paths(model: Model, above: str = "") -> Iterator[str]:
    """The dotted paths of all keys: those of a model, then those of its sections, then those of its lists."""
    yield from (above + name for name in model.model_fields)
    for name in sorted(model.model_fields, key=lambda one: not isinstance(_type(model, one), type)):
        place = name if isinstance(_type(model, name), type) else f"{name}.N"
        for inner in _models_in(_type(model, name)):
            yield from _paths(inner, f"{above}{place}.")
