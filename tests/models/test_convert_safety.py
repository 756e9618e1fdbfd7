"""Nothing in a checkpoint is run, and what it holds beside tensors does no harm."""

import os
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from streamseg.errors import WeightsError
from streamseg.models.convert.detectors import convert_checkpoint
from tests.support.checkpoints import (
    State,
    convert,
    error_of,
    saved,
)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def bombs(marker: Path) -> dict[str, Touch]:
    import subprocess

    return {
        "os.system": Touch(os.system, f"touch {marker}"),
        "subprocess": Touch(subprocess.call, ["touch", str(marker)]),
        "exec": Touch(exec, f"open({str(marker)!r}, 'w')"),
        "nested": Touch(getattr, Touch(__import__, "os"), "system"),
        "method": Touch(Path.touch, marker),
    }


@pytest.mark.parametrize("place", ["meta", "state_dict", "bare"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["os.system", "subprocess", "exec", "nested", "method"])
def test_nothing_in_a_file_is_executed(
    kind: str, legacy: bool, place: str, solo: State, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    bomb = bombs(marker)[kind]
    contents = {
        "meta": {"meta": {"hook": bomb}, "state_dict": solo},
        "state_dict": {"state_dict": {"hook": bomb, **solo}},
        "bare": bomb,
    }
    path = saved(tmp_path, contents[place], _use_new_zipfile_serialization=not legacy)
    code = convert(path)
    assert not marker.exists()
    # The name os.system is refused even for a placeholder, and so is a call of what a placeholder made.
    if place == "meta" and kind not in {"os.system", "method"}:
        assert code == 0
        assert (tmp_path / "out.safetensors").exists()
    else:
        assert code == 2
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("os.system", r"objects of posix\.system"),
        ("method", r"objects of builtins\.getattr, pathlib\.Path, pathlib\.PosixPath"),
    ],
)
def test_a_refused_file_gets_a_reason(
    kind: str, reason: str, legacy: bool, solo: State, tmp_path: Path
) -> None:
    content = {"meta": bombs(tmp_path / "marker")[kind], "state_dict": solo}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=rf"checkpoint\.pth: holds what cannot be read .*{reason}"):
        convert_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_such_files_are_dangerous_to_others(legacy: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = {"meta": bombs(marker)["os.system"]}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module whose classes are in files, and which is gone when they are read."""
    module = types.ModuleType("vanished_engine")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.array([1.0, 2.0])
            self.statistics = {"mean": HistoryBuffer.mean}

        def mean(self) -> float:
            return float(self.history.mean())

    class ConfigDict(dict[str, object]):
        def __reduce_ex__(self, _: object) -> tuple[object, ...]:
            return ConfigDict, (dict(self),)

    for one in (HistoryBuffer, ConfigDict):
        one.__module__, one.__qualname__ = module.__name__, one.__name__
        setattr(module, one.__name__, one)
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    HistoryBuffer.mean.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("legacy", [False, True])
def test_foreign_objects_beside_the_tensors_do_no_harm(
    legacy: bool, foreign: types.ModuleType, solo: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {
        "meta": {
            "seed": np.int64(3),
            "dataset_meta": {"classes": ("x", "y", "z")},
            "cfg": foreign.ConfigDict(a=foreign.ConfigDict(b=1)),
        },
        "message_hub": {"log_scalars": OrderedDict(loss=foreign.HistoryBuffer()), "time": np.float64(1.5)},
        "state_dict": solo,
    }
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, foreign.__name__)
    assert convert_checkpoint(path).detector.spec.classes == ("x", "y", "z")


def test_what_no_placeholder_can_stand_in_for_is_named(
    solo: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Listed(list[int]):
        pass

    Listed.__qualname__ = "Listed"
    Listed.__module__ = __name__
    sys.modules[__name__].Listed = Listed  # type: ignore[attr-defined]
    assert convert(saved(tmp_path, {"meta": Listed([1, 2]), "state_dict": solo})) == 2
    assert f"cannot be read without running it: objects of {__name__}.Listed" in error_of(capsys)
