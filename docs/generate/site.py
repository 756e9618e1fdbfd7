"""What mkdocs does beside its own: pages by folder, parts made from the code, ``llms.txt``."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from docs.generate.annotated import annotated  # noqa: E402
from docs.generate.parts import fill  # noqa: E402

_COPIES = {
    "changelog.md": "CHANGELOG.md",
    "examples.md": "examples/README.md",
    "model-card.md": "streamseg/weights/README.md",
}
"""Pages whose text lies elsewhere in the project."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of a folder where the navigation says ``FOLDER/*``."""
    config.nav = _expand(config.nav, set(_listed(config.nav)), Path(config.docs_dir))
    return config


def _listed(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for item in (nav.values() if isinstance(nav, dict) else nav) for page in _listed(item)]


def _expand(items: list[Any], listed: set[str], docs: Path) -> list[Any]:
    expanded: list[Any] = []
    for item in items:
        match item:
            case dict():
                ((title, inner),) = item.items()
                inside = _expand(inner, listed, docs) if isinstance(inner, list) else inner
                expanded += [{title: inside}] if inside else []  # "FOLDER/*" may find no more
            case str() if item.endswith("/*"):
                found = (f"{item[:-2]}/{path.name}" for path in sorted((docs / item[:-2]).glob("*.md")))
                expanded += [page for page in found if page not in listed]
            case _:
                expanded.append(item)
    return expanded


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made or lies elsewhere."""
    files.append(File.generated(config, "reference/annotated.yaml", content=annotated()))
    for page, place in _COPIES.items():
        text = (ROOT / place).read_text().replace("../../docs/", "")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Put in what is made from the code."""
    return fill(markdown)


_pages: list[Page] = []


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:  # noqa: ARG001
    """Remember the pages in their order."""
    _pages[:] = nav.pages
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write ``llms.txt``: the pages with what each is about."""
    lines = [f"# {config.site_name}", "", f"> {config.site_description}"]
    section = None
    for page in _pages:
        above = page.ancestors[-1].title if page.ancestors else "Start"
        if above != section:
            section = above
            lines += ["", f"## {section}", ""]
        lines.append(f"- [{page.title}]({page.file.dest_uri}): {_about(page.markdown or '')}")
    (Path(config.site_dir) / "llms.txt").write_text("\n".join(lines) + "\n")


def _about(markdown: str) -> str:
    """The first sentence below the title."""
    paragraphs = [part for part in re.split(r"\n\s*\n", markdown) if re.match(r"[A-Za-z*\[]|`[^`]", part)]
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(paragraphs[0].split())) if paragraphs else ""
    return re.split(r"(?<!\.)(?<=[.:])\s(?=[A-Z`])", plain)[0].rstrip(":")
