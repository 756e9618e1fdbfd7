"""The keys are those that other programs know, and are spelled in one place."""

from pathlib import Path

import streamseg
from streamseg.redis import keys


def test_keys() -> None:
    assert keys.STREAMS_KEY == "streamseg:streams"
    assert keys.results_key("a.b") == "streamseg:{a.b}:results"
    assert keys.overlays_key("a.b") == "streamseg:{a.b}:overlays"
    assert keys.status_key("a.b") == "streamseg:{a.b}:status"
    assert keys.stream_of(b"streamseg:{a.b}:results") == "a.b"


def test_no_other_code_spells_them() -> None:
    root = Path(streamseg.__file__).parent
    spelled = [path for path in root.rglob("*.py") if 'f"streamseg:{' in path.read_text()]
    assert spelled == [root / "redis" / "keys.py"]
