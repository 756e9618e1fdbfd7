"""Tables of benchmarks and the README's speed table, from ``benchmarks/results/*.json``."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.generate.tables import table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
_LONGEST = 90
"""Characters of a cell."""
_COLUMNS = 10
_LONG = 30
"""Rows of a list beyond which it is left out: samples over time are for programs."""
_UNITS = {"frames_per_second": "", "frames_per_cpu_second": ", by CPU time"}
"""Of ``throughput.json``, and what stands behind a runtime's name for it."""


def benchmarks() -> str:
    """Each result with what it measures, the command and the machine."""
    parts: list[str] = []
    for path in sorted(RESULTS.glob("*.json")):
        parts += [f"## {path.stem.replace('_', ' ').capitalize()}\n", *_result(path)]
    return "\n".join(parts)


def _result(path: Path) -> Iterator[str]:
    content = json.loads(path.read_text())
    if (script := script_of(path)) is not None:
        said = ast.get_docstring(ast.parse(script.read_text())) or ""
        yield f"{said.split(chr(10) * 2)[0]}\n"
        yield f"```sh\n{_command(said, script)}\n```\n"
    if machine := content.pop("machine", None):
        yield f"Machine: {describe_machine(machine)}.\n"
    yield from _tables(content)


def script_of(path: Path) -> Path | None:
    """The script, or the package's, that wrote a result: its name begins with the script's."""
    folder = ROOT / "benchmarks"
    scripts = {one.stem: one for one in folder.glob("*.py")}
    scripts |= {one.parent.name: one for one in folder.glob("*/__main__.py")}
    return next((scripts[n] for n in sorted(scripts, key=len, reverse=True) if path.stem.startswith(n)), None)


def _command(docstring: str, script: Path) -> str:
    found = re.search(r"^ *(python (?:benchmarks/\S+\.py|-m benchmarks\.\w+))", docstring, re.MULTILINE)
    return found[1] if found else f"python benchmarks/{script.name}"


def describe_machine(machine: dict[str, Any]) -> str:
    """Processor or GPU, cores, memory and versions, on one line."""
    known = {
        "gpu": "{}",
        "processor": "{}",
        "features": "with {}",
        "cores": "{} cores",
        "memory_gib": "{} GiB",
        "torch": "torch {}",
        "threads": "{} threads",
        "python": "Python {}",
    }
    parts = []
    for name, form in known.items():
        value = machine.get(name)
        if value not in (None, [], ""):
            parts.append(form.format(", ".join(value) if isinstance(value, list) else value))
    return ", ".join(parts).replace(", with", " with").replace(", 1 threads", ", 1 thread")


def _tables(content: Any, title: str = "") -> Iterator[str]:
    """Any JSON as tables: what is alike becomes the rows of one."""
    if isinstance(content, list):
        yield from _rows(content, title)
        return
    shown = {key: value for key, value in content.items() if not _is_markdown(value)}
    plain = {key: value for key, value in shown.items() if _is_plain(value)}
    nested = {key: value for key, value in shown.items() if key not in plain}
    if plain:
        yield f"{title[:1].upper()}{title[1:]}:\n" if title else ""
        yield table(["", ""], ((_words(key), _cell(value)) for key, value in plain.items()))
    if nested and _are_alike(list(nested.values())):
        yield from _matrix(nested, title)
        return
    for key, value in nested.items():
        yield from _tables(value, f"{title}: {_words(key)}" if title else _words(key))


def _matrix(rows: dict[str, dict[str, Any]], title: str) -> Iterator[str]:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows.values()]
    names, header = list(map(_words, rows)), list(map(_words, columns))
    yield f"{title[:1].upper()}{title[1:]}:\n" if title else ""
    if len(header) > _COLUMNS or len(names) == 1:
        names, header, cells = header, names, list(map(list, zip(*cells, strict=True)))
    yield table(["", *header], ([name, *row] for name, row in zip(names, cells, strict=True)))


def _rows(items: list[Any], title: str) -> Iterator[str]:
    if not items or len(items) > _LONG:
        return
    if all(isinstance(item, dict) for item in items):
        flat = [_flatten(item) for item in items]
        yield from _matrix({str(row.pop(next(iter(row)))): row for row in flat}, title)
    else:
        yield f"{title}: {', '.join(map(_cell, items))}\n"


def _flatten(item: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in item.items():
        flat |= _flatten(value, f"{above}{key}: ") if isinstance(value, dict) else {above + key: value}
    return flat


def _is_markdown(value: Any) -> bool:
    """Whether it is a table for people: it says nothing that is not there as numbers."""
    return isinstance(value, list) and bool(value) and str(value[0]).startswith("|")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _COLUMNS and not any(isinstance(one, dict | list) for one in value)
    return not isinstance(value, dict)


def _are_alike(items: list[Any]) -> bool:
    """Whether they can be the rows of one table."""
    if not all(isinstance(item, dict) and _is_flat(item) for item in items):
        return False
    if len(items) == 1 and any(isinstance(value, dict) for value in items[0].values()):
        return False
    return bool(set[str].intersection(*map(set, items)))


def _is_flat(row: dict[str, Any]) -> bool:
    nested = [value for value in row.values() if isinstance(value, dict | list)]
    return all(len(_cell(value)) <= _LONGEST for value in nested)


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return _of_each(value)
    if isinstance(value, list):
        numbers = all(isinstance(one, int) for one in value)
        return (" x " if numbers else ", ").join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _of_each(values: dict[str, Any]) -> str:
    inner = {_words(key): _cell(one) for key, one in values.items()}
    if len(inner) > 1 and len(set(inner.values())) == 1:
        return f"{next(iter(inner.values()))} each"
    return ", ".join(f"{key} {one}" for key, one in inner.items())


def speed_table() -> str:
    """What the README says of the speed, from ``throughput.json``."""
    content = json.loads((RESULTS / "throughput.json").read_text())
    runtimes: dict[str, dict[str, dict[str, float]]] = content["runtimes"]
    measured = [found[unit] for found in runtimes.values() for unit in _UNITS]
    rows = ((name, *(f"{rates[name]:.1f}" for rates in measured)) for name in measured[0])
    titles = [f"{runtime}{words}" for runtime in runtimes for words in _UNITS.values()]
    machine = describe_machine(content["machine"])
    head = f"Frames per second on the demo clip (768x576), by runtime.\nMachine: {machine}.\n\n"
    return head + table(["", *titles], rows)
