"""For every Python process that has this folder in its PYTHONPATH: the stand-in model, not the real one.

So the engines that the program starts have it as well, as ``tests.support.fake_program`` has it for
one process. PyTorch is not loaded. Decode workers import nothing of it.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Finder:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, _Loader()) if name == "streamseg.inference" else None


class _Loader:
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        from tests.support.moving import Moving

        module.OomGuard = Moving


sys.meta_path.insert(0, _Finder())
