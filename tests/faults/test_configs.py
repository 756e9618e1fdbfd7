"""Two hundred configurations with something wrong in them: each is refused in one line, or understood."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamseg.config import RunConfig, parse_config, read_config, set_key
from streamseg.errors import ConfigError, UsageError
from streamseg.runtime.build import build_pipeline, build_sources

WHOLE = """\
streams:
  - {id: lobby, url: "rtsp://viewer:pa55word@10.0.0.5/stream1", transport: tcp}
  - {id: archive, url: clips/monday.mp4, start: 1.5, end: 20, stride: 2}
  - url: "https://host/a.mp4?token=pa55word"
model: {weights: demo, device: auto, precision: auto, runtime: auto, score: 0.3, classes: [person, car],
        max_instances: 100}
batching: {max_batch: 8, max_wait_ms: 20}
tracking: {enabled: true}
outputs:
  - {type: video, path: "out/{stream}.mp4"}
  - {type: ndjson, path: "out/{stream}.ndjson"}
  - {type: redis, url: "redis://me:pa55word@localhost:6379/0", overlays: true, maxlen: 1000}
view: {enabled: false, host: 127.0.0.1, port: 8080}
metrics: {enabled: false, host: 127.0.0.1, port: 9090}
"""
ODD_VALUES = [
    *(
        "",
        "~",
        "[]",
        "{}",
        "[[]]",
        "-1",
        "0",
        "1e400",
        ".nan",
        ".inf",
        "-.inf",
        "9" * 30,
        "0x",
        "0b12",
        "1_000",
    ),
    *("2001-99-99", "!!int abc", "!!float x", "!!timestamp x", "!!bool x", "!!binary '@'", "!!set {a}"),
    *(
        "!!python/object:os.x",
        "!!omap [a]",
        "? [a]",
        "&a [*a]",
        "*pa55word",
        "'",
        '"',
        "|",
        ">",
        "%",
        "@",
        "`",
    ),
    *("${NOT_SET}", "${", "${}", "$$", '"\\0"', '"\\ud800"', '"a\\nb"', "1:20:30", "yes", "off", "<<", "? "),
    *("- -", "[" * 500, "{a: " * 300, "- " * 500, "x" * 5000, "a: b: c", "\t", "# nothing"),
    *("../../etc", "/dev/null"),
]


Change = Callable[[str, random.Random], str]


def flip_bits(text: str, rng: random.Random) -> str:
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data.decode("latin-1")


def cut_off(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text))]


def change_value(text: str, rng: random.Random) -> str:
    places = [i + 1 for i, char in enumerate(text) if char in ":,[{"]
    at = rng.choice(places)
    end = next((i for i in range(at, len(text)) if text[i] in ",}]\n"), len(text))
    return f"{text[:at]} {rng.choice(ODD_VALUES)}{text[end:]}"


def shuffle_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    rng.shuffle(lines)
    return "".join(lines[: rng.randint(1, len(lines))])


def indent_lines(text: str, rng: random.Random) -> str:
    return "\n".join(" " * rng.choice([0, 0, 0, 1, 2, 4]) + line for line in text.splitlines())


def double_lines(text: str, rng: random.Random) -> str:
    return "\n".join(line for line in text.splitlines() for _ in range(rng.choice([1, 1, 2])))


def misspell_keys(text: str, rng: random.Random) -> str:
    for key in rng.sample(["streams", "url", "path", "type", "score", "model", "enabled", "max_batch"], 3):
        text = text.replace(key, rng.choice([key[:-1], key.upper(), f"{key}s", f'"{key} "', "1", "~"]))
    return text


def insert_noise(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.randbytes(rng.randint(1, 20)).decode("latin-1") + text[at:]


CHANGES: list[Change] = [
    *(flip_bits, cut_off, change_value, change_value, change_value),
    *(shuffle_lines, indent_lines, double_lines, misspell_keys, insert_noise),
]


def write_mutation(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    text = WHOLE
    for change in [CHANGES[seed % len(CHANGES)], *rng.sample(CHANGES, rng.choice([0, 0, 1]))]:
        text = change(text or WHOLE, rng) or "\n"
    encoding = rng.choice(["utf-8", "utf-8", "utf-8", "latin-1", "utf-16"])
    path.write_bytes(text.encode(encoding, errors="ignore"))


def check_error(error: UsageError, *, naming: str = "") -> None:
    text = str(error)
    assert text
    assert naming in text
    assert "\n" not in text
    assert "pa55" not in text
    assert "Traceback" not in text


def understood(path: Path) -> RunConfig | None:
    try:
        return parse_config(read_config(path), where=path.name)
    except ConfigError as error:
        check_error(error, naming=path.name)
        return None


@pytest.mark.parametrize("seed", range(200))
def test_a_broken_configuration_is_refused_in_one_line_or_understood(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    write_mutation(path, seed)
    began = time.monotonic()
    config = understood(path)
    if config is not None:
        try:
            assert all(source.id for source in build_sources(config))
        except UsageError as error:
            check_error(error)
    assert time.monotonic() - began < 5


def test_some_are_understood_and_most_are_not(tmp_path: Path) -> None:
    """The mutations are neither all harmless nor all the same."""
    path, errors, good = tmp_path / "run.yaml", set(), 0
    for seed in range(0, 200, 3):
        write_mutation(path, seed)
        try:
            parse_config(read_config(path), where=path.name)
            good += 1
        except ConfigError as error:
            errors.add(str(error))
    assert good > 2
    assert len(errors) > 15


@pytest.mark.parametrize("value", ODD_VALUES, ids=range(len(ODD_VALUES)))
@pytest.mark.parametrize("key", ["model.score", "streams.0.url", "outputs.0", "batching.max_wait_ms", "view"])
def test_an_odd_value_after_set(key: str, value: str) -> None:
    content = {"streams": [{"url": "a.mp4"}], "outputs": [{"type": "video", "path": "a.mp4"}]}
    try:
        set_key(content, f"{key}={value}")
        parse_config(content, where="test")
    except ConfigError as error:
        check_error(error)


@pytest.mark.parametrize(
    "stream", ["a/b", "../x", "/etc/x", "a\0", "", "a" * 65, "é" * 65, "a b", "{stream}"]
)
def test_ids_are_nothing_but_ids(stream: str) -> None:
    with pytest.raises(ConfigError, match=r"streams\.0\.id"):
        parse_config({"streams": [{"id": stream, "url": "a.mp4"}]}, where="test")


def test_an_id_does_not_lead_a_template_out_of_its_folder(tmp_path: Path) -> None:
    content = {
        "streams": [{"id": "..", "url": "a.mp4"}],
        "outputs": [{"type": "ndjson", "path": f"{tmp_path}/out/{{stream}}/a.ndjson"}],
    }
    with pytest.raises(UsageError, match=r"stream id '\.\.' would lead out of the folder"):
        build_pipeline(parse_config(content, where="test"))
    assert not list(tmp_path.iterdir())
