"""Tables of the reference: from click, pydantic, msgspec, the metrics and the errors."""

import inspect
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from prometheus_client.core import Metric
from pydantic import BaseModel

from docs.generate.keys import attribute_docs, first_paragraph, keys_of, one_line, sections
from docs.generate.tables import table
from streamseg import errors
from streamseg.cli import program
from streamseg.config import RunConfig
from streamseg.results.schema import frame_result_schema
from streamseg.training.config import TrainConfig
from streamseg.types import FrameResult, InstanceResult
from streamseg.types.zones import ZoneEvent
from streamseg.web.metrics import RunCollector, RunMetrics


def command_line() -> str:
    """All subcommands and their options."""
    commands = shown_commands()
    rows = (
        (f"[`{name}`](#{name.replace(' ', '-')})", one.get_short_help_str(200))
        for name, one in commands.items()
    )
    parts = [table(["command", "what it does"], rows)]
    for name, command in commands.items():
        parts += [f"## {name}\n", *_command(name, command)]
    return "\n".join(parts)


def shown_commands() -> dict[str, click.Command]:
    """Every subcommand that users see, by name; those of a group as ``GROUP COMMAND``."""
    found: dict[str, click.Command] = {}
    for name, command in program.commands.items():
        inner = command.commands if isinstance(command, click.Group) else {}
        found |= {f"{name} {below}": one for below, one in inner.items()} or {name: command}
    return {name: command for name, command in found.items() if not command.hidden}


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=f"streamseg {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\nstreamseg {name} {usage}\n```\n"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield one_line(paragraph) + "\n"
    rows = [(f"`{flag}`", text) for flag, text in options(command)]
    yield table(["option", "meaning"], rows) if rows else "It has no options.\n"
    if command.epilog:
        yield "\n```sh\n" + command.epilog.removeprefix("Example: ") + "\n```\n"


def options(command: click.Command) -> Iterator[tuple[str, str]]:
    """The options of a command as its ``--help`` shows them: flags with their value, and what they mean."""
    context = click.Context(command, info_name="streamseg")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield record


def configuration() -> str:
    """All keys of a run's configuration."""
    return "\n".join(_sections(RunConfig))


def training() -> str:
    """All keys of a training run and of a model."""
    return "\n".join(_sections(TrainConfig))


def _sections(model: type[BaseModel]) -> Iterator[str]:
    for at, section in sections(model):
        yield f"## {_title(at, section) or 'The file'}\n"
        yield from (f"{one_line(text)}\n" for text in inspect.cleandoc(section.__doc__ or "").split("\n\n"))
        rows = [(f"`{k.name}`", k.allowed, k.default or "needed", k.description) for k in keys_of(section)]
        yield table(["key", "allowed", "default", "meaning"], rows)


def _title(at: str, section: type[BaseModel]) -> str:
    kind = keys_of(section)[0]
    return f"`{at}`" + (f" of type {kind.allowed}" if kind.name == "type" else "") if at else ""


def result() -> str:
    """The keys of a frame result, of its instances and of its events."""
    titles = {FrameResult: "The frame", InstanceResult: "Its `instances`", ZoneEvent: "Its `events`"}
    parts: list[str] = []
    for struct, title in titles.items():
        parts += [f"## {title}\n", first_paragraph(struct.__doc__) + "\n"]
        rows = ((f"`{key}`", kind, text.replace("None", "`null`")) for key, kind, text in result_keys(struct))
        parts.append(table(["key", "type", "meaning"], rows))
    return "\n".join(parts)


def result_keys(struct: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    """Key, type in words and meaning of each field of a struct of results."""
    properties = frame_result_schema()["$defs"][struct.__name__]["properties"]
    docs = attribute_docs(struct)
    return [
        (field.encode_name, _json_type(properties[field.encode_name]), docs.get(field.name, ""))
        for field in msgspec.structs.fields(struct)
    ]


def _json_type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_json_type(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return "object" if "$ref" in schema else str(schema.get("type", "any"))


def metric_families() -> list[Metric]:
    """Every metric that a run serves."""
    meter = RunMetrics()
    meter.registry.register(RunCollector(dict, dict, tuple))
    return sorted(meter.registry.collect(), key=lambda family: family.name)


def _labels() -> dict[str, tuple[str, ...]]:
    """Names of the labels of those metrics that are kept; the collected ones know theirs."""
    kept = RunMetrics().registry._collector_to_names
    return {
        name: tuple(getattr(metric, "_labelnames", ())) for metric, names in kept.items() for name in names
    }


def metrics() -> str:
    """All metrics."""
    kept = _labels()
    rows = []
    for family in metric_families():
        labels = getattr(family, "_labelnames", kept.get(family.name, ()))
        name = family.name + ("_total" if family.type == "counter" else "")
        listed = ", ".join(f"`{label}`" for label in labels)
        rows.append((f"`{name}`", family.type, listed, family.documentation))
    return table(["metric", "type", "labels", "meaning"], rows)


def error_classes() -> list[type[errors.StreamsegError]]:
    """All errors that are raised on purpose, each before those below it."""

    def walk(kind: type[errors.StreamsegError]) -> Iterator[type[errors.StreamsegError]]:
        yield kind
        for below in kind.__subclasses__():
            if below.__module__ == errors.__name__:
                yield from walk(below)

    return list(walk(errors.StreamsegError))


def error_table() -> str:
    """All errors with the exit code of each."""
    rows = [
        (f"`{one.__name__}`", f"`{one.__bases__[0].__name__}`", one.exit_code, first_paragraph(one.__doc__))
        for one in error_classes()
    ]
    return table(["error", "is a", "exit code", "meaning"], rows)
