"""Print what pip has to install before the project itself, so that a change of code keeps these layers.

    python3 requirements.py pyproject.toml [EXTRA ...]

torch and torchvision are left out: they are a layer of their own. A container has no desktop, so OpenCV is
its headless twin.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The project's dependencies and those of the extras, which may name extras of the project in turn."""
    project = tomllib.loads(pyproject.read_text())["project"]
    lines: list[str] = list(project["dependencies"])
    left = list(extras)
    while left:
        for line in project["optional-dependencies"][left.pop()]:
            inner = line.removeprefix(f"{project['name']}[")
            if inner == line:
                lines.append(line)
            else:
                left.extend(inner.rstrip("]").split(","))
    headless = [line.replace("opencv-python>", "opencv-python-headless>") for line in lines]
    return sorted({line for line in headless if not line.startswith("torch")})


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), sys.argv[2:])))  # noqa: T201
