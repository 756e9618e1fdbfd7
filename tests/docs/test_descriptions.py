"""No key, option, metric or error without words, and the annotated configuration loads."""

import tomllib

import pytest
import yaml
from pydantic import BaseModel

from docs.generate.annotated import annotated
from docs.generate.keys import first_paragraph, keys_of, sections
from docs.generate.machines import RESULTS, benchmarks, script_of
from docs.generate.parts import PARTS, fill
from docs.generate.readme import with_figures
from docs.generate.reference import (
    command_line,
    error_classes,
    metric_families,
    metrics,
    options,
    result_keys,
    shown_commands,
)
from streamseg.config import RunConfig, parse_config
from streamseg.training.config import TrainConfig
from streamseg.types import FrameResult, InstanceResult
from streamseg.types.zones import ZoneEvent
from tests.support.pages import ROOT


@pytest.mark.parametrize("model", [RunConfig, TrainConfig])
def test_every_key_of_a_configuration_is_described(model: type[BaseModel]) -> None:
    missing = [
        f"{at}.{key.name} ({section.__name__})"
        for at, section in sections(model)
        for key in keys_of(section)
        if not key.description or not key.allowed
    ]
    assert not missing, "write a docstring below it"


def test_every_key_of_a_result_is_described() -> None:
    for struct in (FrameResult, InstanceResult, ZoneEvent):
        assert [key for key, kind, text in result_keys(struct) if not text or kind == "any"] == []


def test_every_option_is_described() -> None:
    missing = [
        f"{name} {flag}"
        for name, command in shown_commands().items()
        for flag, text in options(command)
        if not text.partition("  [")[0].strip()
    ]
    assert not missing
    assert [
        name for name, command in shown_commands().items() if not command.help or not command.epilog
    ] == []
    assert command_line().count("| `--set KEY=VALUE` |") >= 2


def test_every_metric_is_described() -> None:
    families = metric_families()
    assert [family.name for family in families if not family.documentation] == []
    assert {"streamseg_frames", "streamseg_latency_seconds", "streamseg_output_up"} <= {
        f.name for f in families
    }
    assert "| `streamseg_line_crossings_total` | counter | `stream`, `line`, `direction` |" in metrics()


def test_every_error_and_exit_code_is_described() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    for error in error_classes():
        assert first_paragraph(error.__doc__)
        assert f"| {error.exit_code} |" in page
    assert all(f"| {code} |" in page for code in (0, 130, 143))


def test_the_annotated_configuration_is_one_with_every_key() -> None:
    content = yaml.safe_load(annotated())
    config = parse_config(content, where="annotated")
    assert content.keys() == RunConfig.model_fields.keys()
    assert len(config.outputs) == len({output.type for output in config.outputs})
    for at, section in sections(RunConfig):
        if at.startswith("outputs"):
            (written,) = (
                o
                for o in content["outputs"]
                if o["type"] == section.model_fields["type"].annotation.__args__[0]
            )
            assert written.keys() == section.model_fields.keys()
    assert content["streams"][0].keys() == content["streams"][0].keys() | config.streams[0].model_fields_set
    assert config.model == RunConfig().model
    assert config.batching == RunConfig().batching


def test_every_result_of_a_benchmark_is_on_the_page_with_its_command() -> None:
    page = benchmarks()
    for path in RESULTS.glob("*.json"):
        assert script_of(path) is not None, path.name
    commands = page.count("```sh\npython benchmarks/") + page.count("```sh\npython -m benchmarks.")
    assert commands == page.count("\n## ") + 1
    assert "Machine: " in page


def test_the_readme_has_the_figures_of_the_benchmark() -> None:
    text = (ROOT / "README.md").read_text()
    assert with_figures(text) == text, "python -m docs.generate.readme"
    assert len(text.splitlines()) <= 130


def test_a_part_that_there_is_not_is_told() -> None:
    assert all(make() for make in PARTS.values())
    with pytest.raises(KeyError, match="nothing"):
        fill("<!-- made: nothing -->")


def test_every_extra_is_on_the_page_of_installing() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "install.md").read_text()
    assert [extra for extra in extras if f"| `{extra}` |" not in page] == []
