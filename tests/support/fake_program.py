"""The whole program on the stand-in model: ``python -m tests.support.fake_program run …``.

The option ``--weights`` says how many seconds it takes for a picture. PyTorch is not even loaded, which
would take most of a test's time.
"""

import sys
import types

from tests.support.moving import Moving

if __name__ == "__main__":
    stand_in = types.ModuleType("streamseg.inference")
    stand_in.OomGuard = Moving  # type: ignore[attr-defined]
    sys.modules["streamseg.inference"] = stand_in
    from streamseg.cli import main

    sys.exit(main())
