"""What a page takes from the code: ``<!-- made: NAME -->`` in it is replaced by the text of that name."""

import re
from collections.abc import Callable

from docs.generate import machines, reference
from docs.generate.annotated import annotated

PARTS: dict[str, Callable[[], str]] = {
    "command_line": reference.command_line,
    "configuration": reference.configuration,
    "annotated": lambda: f"```yaml\n{annotated()}```\n",
    "training": reference.training,
    "result": reference.result,
    "metrics": reference.metrics,
    "errors": reference.error_table,
    "benchmarks": machines.benchmarks,
    "subscribe_js": lambda: f"```js\n{(machines.ROOT / 'examples' / 'subscribe.mjs').read_text()}```\n",
    "speed": machines.speed_table,
}
_MARK = re.compile(r"^<!-- made: (\w+) -->$", re.MULTILINE)


def fill(text: str) -> str:
    """Put the made parts in. Raises KeyError for a name that there is not."""
    return _MARK.sub(lambda found: PARTS[found[1]](), text)
