"""Node.js with the Redis client of the example, from a folder that is kept between runs."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "@redis/client@6"
_CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamseg-tests" / "redis-client-6"
)
_OLDEST = 20


def node_or_skip() -> str:
    """Path of node. Skips the test where there is none or an old one."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on the PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST:
        pytest.skip(f"node is {version}, {PACKAGE} needs {_OLDEST}")
    return node


def modules_or_skip() -> Path:
    """A folder ``node_modules`` with the package. Skips the test where npm cannot get it."""
    _CACHE.mkdir(parents=True, exist_ok=True)
    with open(_CACHE / "lock", "w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (_CACHE / "installed").exists():
            _install()
    return _CACHE / "node_modules"


def _install() -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no npm on the PATH to install {PACKAGE}")
    try:
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(_CACHE)]
        subprocess.run([npm, "install", *options, PACKAGE], check=True, capture_output=True, timeout=60)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm cannot install {PACKAGE}: {error.stderr.decode().strip()[-200:]}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {PACKAGE} within a minute")
    (_CACHE / "installed").touch()


@contextlib.contextmanager
def running_script(source: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run an ECMAScript module that may import the package; ends with the block."""
    node = node_or_skip()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "node_modules").symlink_to(modules_or_skip())
    (folder / "script.mjs").write_text(source)
    process = subprocess.Popen(
        [node, "script.mjs"],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
