"""Configuration files: what is accepted, and what a mistake gets."""

from pathlib import Path
from typing import Any

import pytest

from streamseg.config import RunConfig, parse_config, read_config, set_key
from streamseg.errors import ConfigError, mask_password
from streamseg.training.config import read_train_config

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def parse(text: str, tmp_path: Path) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return parse_config(read_config(path), where=str(path))


SHIPPED = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("train/*.yaml")])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_configs_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "secret")
    if path.name.startswith("train_") or path.parent.name == "train":
        assert read_train_config(path).model.classes
    else:
        assert parse_config(read_config(path), where=path.name).streams


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert parse("", tmp_path) == RunConfig()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modell: {}", "unknown key modell"),
        ("model: {scor: 0.3}", "unknown key model.scor"),
        ("model: {score: 3}", "model.score: Input should be less than or equal to 1"),
        ("streams: [{url: a.mp4, id: 'a b'}]", "streams.0.id"),
        ("outputs: [{type: kafka}]", "'video', 'ndjson', 'redis', 'push'"),
        ("batching: {max_batch: 0}", "batching.max_batch"),
        ("streams: [{url: 'rtsp://h/a', max_fps: 0}]", "streams.0.max_fps: Input should be greater than 0"),
        ("view: {port: 70000}", "view.port: Input should be less than or equal to 65535"),
        ("metrics: {host: 'a b'}", "metrics.host"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "not valid YAML"),
        ("streams: [{url: '${NOT_SET_ANYWHERE}'}]", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_a_mistake_is_named_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "run.yaml" in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key first.*unknown key second"):
        parse("first: 1\nsecond: 2", tmp_path)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "nowhere.yaml")


def test_environment_variables_are_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOBBY_PASSWORD", "pa55")
    config = parse("streams: [{url: 'rtsp://me:${LOBBY_PASSWORD}@host/1'}]", tmp_path)
    assert config.streams[0].url == "rtsp://me:pa55@host/1"
    assert "pa55" not in repr(config)


def test_set_takes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    content: dict[str, Any] = {}
    monkeypatch.setenv("SECRET_OF_MINE", "abc")
    set_key(content, "view={token: '${SECRET_OF_MINE}'}")
    assert content == {"view": {"token": "abc"}}
    with pytest.raises(ConfigError, match=r"--set view: token: the environment variable NOT_SET_ANYWHERE"):
        set_key(content, "view={token: '${NOT_SET_ANYWHERE}'}")


def test_set_reaches_nested_keys_and_lists() -> None:
    content = {"streams": [{"url": "a.mp4"}]}
    set_key(content, "batching.max_batch=4")
    set_key(content, "streams.0.stride=2")
    set_key(content, "model.classes=[person, car]")
    config = parse_config(content, where="test")
    assert (config.batching.max_batch, config.streams[0].stride) == (4, 2)
    assert config.model.classes == ("person", "car")


@pytest.mark.parametrize(
    "assignment", ["nonsense", "=3", "streams.5.url=x", "streams.x.url=y", "a=[", "b.c.d=1"]
)
def test_a_bad_set_is_named(assignment: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        set_key({"streams": [], "b": {"c": 1}}, assignment)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://me:pa55@host:554/1", "rtsp://me:***@host:554/1"),
        ("cannot open 'redis://:pa55@host/0': refused", "cannot open 'redis://:***@host/0': refused"),
        ("http://host:8080/a and me@home", "http://host:8080/a and me@home"),
        ("rtsp://me@corp.com:pa55@10.0.0.5/1", "rtsp://me@corp.com:***@10.0.0.5/1"),
        ("rtsp://admin:1234/56@host", "rtsp://admin:***@host"),
        ("no url at all", "no url at all"),
        ("rtsp://me:a/b?c#d@host/1", "rtsp://me:***@host/1"),
        ("https://host/x.m3u8?token=pa55&n=1 failed", "https://host/x.m3u8?token=***&n=1 failed"),
    ],
)
def test_passwords_are_masked(text: str, masked: str) -> None:
    assert mask_password(text) == masked


def test_a_list_of_one_device_is_that_device() -> None:
    def device(value: object) -> object:
        return parse_config({"model": {"device": value}}, where="test").model.device

    assert device(["cpu"]) == device("cpu") == "cpu"
    assert device(["cuda:0", "cuda:1"]) == ("cuda:0", "cuda:1")
    assert device(["cpu", "cpu"]) == ("cpu", "cpu")
    for bad in ([], ["cpu", "tpu"], "cuda:", ["cpu", 1], {"cpu": 2}):
        with pytest.raises(ConfigError, match=r"model\.device: .*allowed are auto, cpu, cuda, cuda:N"):
            device(bad)
