"""A Dockerfile's steps carried out in a bare Debian root, where no container engine is at hand."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

_MOUNTED = ("/proc", "/sys", "/dev", "/etc/ssl/certs")


@dataclass
class Stage:
    """What one ``FROM`` of a Dockerfile leaves."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its programs."""
        home = {} if self.user == "root" else {"HOME": "/home/streamseg"}
        return _MINIMAL | home | self.environment

    def set_variables(self, line: str) -> None:
        """One ``ENV``: names and values, which may use those set before."""
        before = self.variables
        for name, text in re.findall(r'(\w+)=("[^"]*"|\S+)', line):
            self.environment[name] = re.sub(r"\$(\w+)", lambda used: before.get(used[1], ""), text.strip('"'))

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the image would: its user, its folder, its environment."""
        return subprocess.run(
            self.entered(*command),
            env=self.variables | (environment or {}),
            check=check,
            capture_output=True,
            text=True,
        )

    def entered(self, *command: str) -> list[str]:
        """The command line that runs a command in this root."""
        user = ["--userspec=+" + self.user] if self.user != "root" else []
        inner = f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"
        return ["chroot", *user, str(self.root), "/bin/sh", "-c", inner]


_MINIMAL = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


class ImageRoot:
    """Builds one target; roots of the stages that it needs lie under ``folder``."""

    def __init__(self, dockerfile: Path, context: Path, folder: Path, arguments: Mapping[str, str]) -> None:
        with tempfile.TemporaryDirectory() as scratch:  # the parser writes where it is told to read
            parser = DockerfileParser(path=scratch)
            parser.content = dockerfile.read_text()
            self._steps = parser.structure
        self._context, self._folder, self._arguments = context, folder, dict(arguments)
        self._stages: dict[str, Stage] = {}

    def build(self, target: str) -> Stage:
        """Carry out the stage and, before it, those it rests on."""
        if target in self._stages:
            return self._stages[target]
        base, steps = self._stage(target)
        root = self._folder / target
        if base.startswith("debian:"):
            _debian(base.removeprefix("debian:").removesuffix("-slim"), root)
            stage = Stage(root)
        else:
            below = self.build(base)
            subprocess.run(["cp", "-a", "--reflink=auto", below.root, root], check=True)
            stage = Stage(
                root, dict(below.environment), below.user, below.folder, below.command, below.health
            )
        for step in steps:
            self._carry_out(stage, step["instruction"], step["value"])
        self._stages[target] = stage
        return stage

    def _stage(self, target: str) -> tuple[str, list[dict[str, str]]]:
        base, steps, found = "", [], False
        for step in self._steps:
            if step["instruction"] == "FROM":
                if found:
                    break
                base, _, name = step["value"].partition(" AS ")
                found = name == target
            elif found and step["instruction"] != "COMMENT":
                steps.append(step)
        assert found, f"no stage {target}"
        return base, steps

    def _carry_out(self, stage: Stage, instruction: str, value: str) -> None:
        match instruction:
            case "RUN":
                with mounted(stage.root):
                    done = stage.run(
                        "/bin/sh", "-c", value, environment=self._arguments | _of_this_machine(), check=False
                    )
                assert done.returncode == 0, f"{value}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            case "ENV":
                stage.set_variables(value)
            case "ARG":
                name, _, default = value.partition("=")
                self._arguments.setdefault(name, default.strip('"'))
            case "WORKDIR":
                stage.folder = value
                (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = value
            case "COPY":
                self._copy(stage, value)
            case "ENTRYPOINT" | "CMD":
                stage.command = [*stage.command, *json.loads(value)]
            case "HEALTHCHECK":
                stage.health = json.loads(value.partition("CMD ")[2])
            case "EXPOSE" | "STOPSIGNAL":
                pass
            case _:
                raise AssertionError(f"unknown step {instruction}")

    def _copy(self, stage: Stage, value: str) -> None:
        *sources, place = value.split()
        folder = self._context
        if sources[0].startswith("--from="):
            folder = self.build(sources.pop(0).removeprefix("--from=")).root
        into = stage.root / Path(stage.folder, place).as_posix().lstrip("/")
        for source in sources:
            origin = folder / source.lstrip("/")
            if origin.is_dir():
                shutil.copytree(origin, into, symlinks=True, dirs_exist_ok=True)
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(origin, into / origin.name if place.endswith("/") else into)


def _debian(suite: str, root: Path) -> None:
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", suite, root], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """What programs expect of the kernel, and the certificates of this machine's network."""
    places = [place for place in _MOUNTED if (root / place.lstrip("/")).is_dir()]
    for place in places:
        target = root / place.lstrip("/")
        subprocess.run(["mount", "--rbind", "--make-rslave", place, target], check=True)
    try:
        yield
    finally:
        for place in places:
            subprocess.run(["umount", "--recursive", "--lazy", root / place.lstrip("/")], check=True)


def _of_this_machine() -> dict[str, str]:
    """How this machine reaches the network."""
    return {
        name: os.environ[name]
        for name in os.environ
        if re.search("PROXY|_CERT|SSL_|PIP_DEFAULT", name.upper())
    }
