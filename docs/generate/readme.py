"""Write the figures of the README anew after a benchmark: ``python -m docs.generate.readme``."""

import re

from docs.generate.machines import ROOT, speed_table

_PLACE = re.compile(r"(?<=<!-- speed -->\n).*?(?=<!-- /speed -->)", re.DOTALL)


def with_figures(text: str) -> str:
    """The README with the speed table in its place."""
    return _PLACE.sub(lambda _: speed_table(), text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_figures(readme.read_text()))
