"""The site holds what its pages link to, wherever in the repository that lies, without a copy.

A link leads from file to file of the repository, as GitHub follows it. In the site docs/ is the
root, and files of other folders stand under their own path: `features/FORMAT.md` is a page,
`examples/serve_onnx.py` a download. The reference is read from the folders of the packages, which
are seen as `headstart.*` as in a wheel; nothing is imported.
"""

from __future__ import annotations

import logging
import posixpath
import re
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, InclusionLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

LOG = logging.getLogger("mkdocs.hooks.repository")
ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()[^)\s#:]+")
ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)
NAMESPACE = tempfile.TemporaryDirectory(prefix="headstart-docs-")


@event_priority(100)  # before mkdocstrings reads where packages lie
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the folders of the packages as the namespace that they are installed as."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for package, folder in project["tool"]["setuptools"]["package-dir"].items():
        link = Path(NAMESPACE.name, *package.split("."))
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(ROOT / folder, target_is_directory=True)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [NAMESPACE.name]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is in the navigation or linked to, and lies elsewhere than in docs/."""
    named = set(_named(config.nav))
    waiting = [_home(file) for file in files.documentation_pages() if not file.generated_by]
    waiting += [name for name in named if name not in files.src_uris and (ROOT / name).is_file()]
    for name in waiting:  # which grows
        place = _place(name)
        if place not in files.src_uris:
            where = InclusionLevel.UNDEFINED if place in named else InclusionLevel.NOT_IN_NAV
            source = str(ROOT / name)
            files.append(File.generated(config, place, abs_src_path=source, inclusion=where))
        if name.endswith(".md"):
            text = (ROOT / name).read_text(encoding="utf-8")
            linked = (_resolved(link[0], name) for link in LINK.finditer(text))
            waiting += [one for one in linked if one not in waiting and (ROOT / one).is_file()]
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: object) -> str:
    """Turn links of the repository into links of the site."""
    home = _home(page.file)

    def turned(link: re.Match[str]) -> str:
        place = _place(_resolved(link[0], home))
        if place not in files.src_uris:
            return link[0]  # which --strict reports
        return posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(turned, markdown)


def on_post_page(output: str, *, page: Page, **_: object) -> str:
    """Warn of what a browser would load from another machine."""
    for loaded in ELSEWHERE.finditer(output):
        LOG.warning("%s: loads from elsewhere: %s", page.file.src_uri, loaded[0])
    return output


def _named(nav: object) -> Iterator[str]:
    """The files of the navigation."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list):
        for entry in nav:
            yield from _named(entry)
    elif isinstance(nav, dict):
        for entry in nav.values():
            yield from _named(entry)


def _home(file: File) -> str:
    """The path in the repository of a file of the site."""
    return file.src_uri if file.generated_by else f"docs/{file.src_uri}"


def _place(name: str) -> str:
    """The path in the site of a file of the repository."""
    return "index.md" if name == "README.md" else name.removeprefix("docs/")


def _resolved(link: str, home: str) -> str:
    """The path in the repository that a link of the file `home` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), link))
