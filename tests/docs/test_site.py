"""The site is built strictly, complete and on its own: it asks no other host for anything."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from tests.support.pages import ROOT

pytest.importorskip("material", reason="mkdocs-material is not installed")
pytestmark = pytest.mark.timeout(300)  # the first test builds the site
_LINKS = {"a": "href", "img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """The links and the ids of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.ids: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for key in ("id", "name") if (value := values.get(key))}
        link = values.get(_LINKS.get(tag, ""))
        if link and values.get("rel") != "canonical":
            self.links.append((tag, link))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_it_is_small(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 10e6
    assert (site / "assets" / "street.webp").stat().st_size < 1.5e6


def test_it_loads_nothing_from_other_hosts(site: Path, parsed: dict[Path, Page]) -> None:
    foreign = [
        (path.name, link)
        for path, page in parsed.items()
        for tag, link in page.links
        if tag != "a" and re.match(r"(\w+:)?//", link)
    ]
    assert foreign == []
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", path.read_text()), path


def test_every_link_leads_somewhere(site: Path, parsed: dict[Path, Page]) -> None:
    assert len(parsed) > 40
    assert list(broken(site, parsed)) == []


def broken(site: Path, parsed: dict[Path, Page]) -> Iterator[tuple[str, str]]:
    for path, page in parsed.items():
        if path.name == "404.html":  # its links begin with a slash: it is shown at any depth
            continue
        for _, link in page.links:
            target, anchor = urldefrag(link)
            if re.match(r"\w+:", link):
                continue
            file = (path.parent / unquote(target)).resolve() if target else path
            anchors = parsed[file].ids if file in parsed else set()
            if not file.is_file() or (anchor and unquote(anchor) not in anchors):
                yield str(path.relative_to(site)), link


def test_every_page_of_the_docs_is_in_the_site_and_in_its_index_for_programs(site: Path) -> None:
    index = (site / "llms.txt").read_text()
    for path in (ROOT / "docs").rglob("*.md"):
        place = path.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / place).is_file()
        assert re.search(rf"^- \[[^\]]+\]\({place}\): \S.{{9,}}", index, re.MULTILINE), place
    assert (site / "reference" / "annotated.yaml").is_file()
    assert not (site / "generate").exists()


def test_the_reference_is_made_from_the_code(site: Path) -> None:
    text = {path.stem: path.read_text() for path in (site / "reference").glob("*.html")}
    assert "stalled_after" in text["config"]
    assert "--reconnect-attempts" in text["cli"]
    assert "streamseg_stage_seconds" in text["metrics"]
    assert "exhaustive" not in text["config"]
    assert "OutputGoneError" in text["errors"]
    assert 'id="streamseg.types.StreamWriter.write"' in text["python"]
    assert "&lt;!-- made" not in "".join(text.values())
    assert ":class:" not in text["python"]


def test_links_of_the_readme_lead_to_files() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "examples/README.md", "benchmarks/README.md"):
        path = ROOT / name
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            assert link.startswith("http") or (path.parent / link).exists(), f"{name}: {link}"
