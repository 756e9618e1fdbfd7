"""Every block of code of README and site does what it says, as far as that can be told without running it."""

import ast
import importlib
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from docs.generate.parts import fill
from streamseg.cli import program
from streamseg.cli.run import _apply
from streamseg.config import RunConfig, parse_config, read_config, set_key
from streamseg.errors import ConfigError, UsageError
from streamseg.training.config import TrainConfig, read_train_config
from tests.support.pages import ROOT, Block, blocks_in, pages

_TOKEN = "sixteen-characters"
_CAMERAS = {"streams": [{"url": "rtsp://10.0.0.5/1"}, {"url": "rtsp://10.0.0.6/1"}]}
_CUSTOM = ROOT / "configs" / "train_custom.yaml"
_EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def all_blocks() -> Iterator[Block]:
    """Those of all pages, with what is made from the code put in."""
    for path in pages():
        yield from blocks_in(fill(path.read_text()), str(path.relative_to(ROOT)))


def test_every_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test for all: collecting them by number would give each edit of a page other names."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    found = list(all_blocks())
    for name in set(re.findall(r"\$\{(\w+)\}", "".join(block.code for block in found))):
        monkeypatch.setenv(name, _TOKEN)
    wrong: list[str] = []
    seen: dict[str, int] = {}
    for block in found:
        check = CHECKS.get(block.language)
        if check is None:
            wrong.append(f"{block}: no check for a block of {block.language or 'no language'}")
            continue
        seen[block.language] = seen.get(block.language, 0) + 1
        try:
            check(block, tmp_path)
        except (
            AssertionError,
            SyntaxError,
            ValueError,
            ImportError,
            UsageError,
            click.ClickException,
        ) as error:
            wrong.append(f"{block}: {type(error).__name__}: {error}")
        except yaml.YAMLError as error:
            wrong.append(f"{block}: {error}")
    assert not wrong, "\n".join(wrong)
    assert seen["sh"] > 40
    assert seen["python"] > 15
    assert seen["yaml"] > 15


@pytest.mark.parametrize(
    ("language", "code", "complaint"),
    [
        ("sh", "streamseg run a.mp4 --no-such-option\n", "No such option"),
        ("sh", "streamseg runn a.mp4\n", "no such command"),
        ("sh", "streamseg run -c x.yaml --set model.scor=1\n", "unknown key model.scor"),
        ("sh", "cat x | streamseg subscribe\n", "Missing parameter: url"),
        ("sh", "make nothing\n", "nothing"),
        ("sh", "python benchmarks/nothing.py\n", "nothing.py"),
        ("sh", "pip install '.[nothing]'\n", "nothing"),
        ("sh", "if true\n", "syntax error"),
        ("python", "from streamseg import Segmenta\n", "Segmenta"),
        ("python", "for\n", "invalid syntax"),
        ("json", "{'a': 1}\n", "property name"),
        ("yaml", "outputs: [{type: redis, ulr: x}]\n", "ulr"),
        ("yaml", "schedule: {stepz: 3}\n", "stepz"),
        ("yaml", "stream: []\n", "stream"),
    ],
)
def test_the_checks_find_mistakes(tmp_path: Path, language: str, code: str, complaint: str) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    with pytest.raises(Exception, match=re.escape(complaint)):
        CHECKS[language](Block("page.md", 1, language, code), tmp_path)


def check_shell(block: Block, folder: Path) -> None:
    """Its syntax, and each command that is ours or names something of ours."""
    done = subprocess.run(["bash", "-n", "-c", block.code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = re.sub(
        r"<<'?(\w+)'?\n.*?^\1$", "", block.code.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL
    )
    for line in code.splitlines():
        for words in simple_commands(line):
            check_command(words, folder)


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without the variables that are set before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in {";", "|", "||", "&&", "&"}:
            if words:
                yield words
            words = []
        elif words or not re.fullmatch(r"\w+=.*", word):
            words.append(word)


def check_command(words: list[str], folder: Path) -> None:
    redirected = next((i for i, word in enumerate(words) if set(word) <= set("<>")), len(words))
    name, *arguments = words[:redirected]
    match name.rpartition("/")[2]:
        case "streamseg":
            check_streamseg(arguments, folder)
        case "make":
            for target in arguments:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case "python" | "python3":
            check_python_command(arguments)
        case "pip":
            for extra in re.findall(r"(?:\.|streamseg)\[([\w,]+)\]", " ".join(arguments)):
                assert set(extra.split(",")) <= _EXTRAS.keys(), extra


def check_python_command(arguments: list[str]) -> None:
    match arguments:
        case ["-m", module, *_]:
            assert importlib.util.find_spec(module), module
        case ["-c", code, *_]:
            check_python(Block("command line", 1, "python", code), ROOT)
        case [script, *_]:
            assert (ROOT / script).is_file(), script


def check_streamseg(arguments: list[str], folder: Path) -> None:
    if not arguments or arguments[0].startswith("-"):
        return
    try:
        with click.Context(program, info_name="streamseg") as context:
            name, command, rest = program.resolve_command(context, arguments)
        assert command is not None
        values = command.make_context(name, rest, parent=context).params
    except click.exceptions.Exit:  # --help
        return
    if name == "run":
        check_run(values)
    if name == "train":
        config = ROOT / values["config"]
        read_train_config(config if config.is_file() else _CUSTOM, values["changes"])


def check_run(values: dict[str, Any]) -> None:
    config = values.pop("config")
    content = dict(_CAMERAS) if config else {}
    if config and (ROOT / config).is_file():
        content = read_config(ROOT / config)
    _apply(content, values.pop("sources"), values)
    for assignment in values["assignments"]:
        set_key(content, assignment)
    parse_config(content, where="the page")


def check_yaml(block: Block, folder: Path) -> None:
    """A part of a configuration of ours; a file of another program only has to be YAML."""
    text = re.sub(r"\$\{(\w+)\}", _TOKEN, block.code)
    documents = [one for one in yaml.safe_load_all(text) if one is not None]
    if any(key in one for one in documents for key in ("services", "apiVersion", "scrape_configs", "groups")):
        return
    (content,) = documents
    if content.keys() <= RunConfig.model_fields.keys() and "base" not in content.get("model", {}):
        try:
            parse_config(content, where=str(block))
        except ConfigError:
            if not content.keys() <= TrainConfig.model_fields.keys():
                raise
        else:
            return
    unknown = content.keys() - TrainConfig.model_fields.keys() - {"base"}
    assert not unknown, f"no key of a run or a training run: {', '.join(unknown)}"
    check_training(content, folder / "train.yaml")


def check_training(content: dict[str, Any], path: Path) -> None:
    if isinstance(content.get("model"), dict) and "base" in content["model"]:
        rest = {"data": {"images": "a", "train": "b"}, "schedule": {"steps": 1}, "backbone_weights": "coco"}
        content = rest | content
    else:
        content = {"base": str(_CUSTOM)} | content
    path.write_text(yaml.safe_dump(content))
    read_train_config(path)


def check_python(block: Block, folder: Path) -> None:
    """It compiles, and what it imports is there."""
    tree = ast.parse(block.code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"
        elif isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)


def check_json(block: Block, folder: Path) -> None:
    for line in [block.code] if block.language == "json" else block.code.splitlines():
        json.loads(line)


def check_javascript(block: Block, folder: Path) -> None:
    node = shutil.which("node")
    if node is not None:
        path = folder / "block.mjs"
        path.write_text(block.code)
        done = subprocess.run([node, "--check", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def check_nothing(block: Block, folder: Path) -> None:
    """Text that no program reads."""


CHECKS: dict[str, Callable[[Block, Path], None]] = {
    "sh": check_shell,
    "bash": check_shell,
    "yaml": check_yaml,
    "python": check_python,
    "json": check_json,
    "ndjson": check_json,
    "js": check_javascript,
    "text": check_nothing,
    "console": check_nothing,
    "ini": check_nothing,
    "dockerfile": check_nothing,
}
