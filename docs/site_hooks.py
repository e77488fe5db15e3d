"""Hooks of the documentation site (`make docs`): the repository's own pages become pages of the site.

Invariants:

- A page is written once, for readers of the repository; nothing is copied into `docs/` for the site.
- A link that leads to a page of the site leads there; one that leads to another file leads to the hosted repository.
- A link that leads nowhere is a warning, and `--strict` makes that an error.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=(?:#[^)]*)?\))")
IMAGE = re.compile(r"!\[[^]]*\]\(([^)\s#:]+)\)")
NAMED_FENCE = re.compile(r"^```(\w+) ([^\n`{=]+)$", re.MULTILINE)

log = logging.getLogger("mkdocs.hooks.manifestlog")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of `docs/`, and the pictures that they show."""
    for page, source in config.extra["from_root"].items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
        for image in IMAGE.findall(text):
            path = _in_repository(source, image)
            if files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead where they lead in the repository, and show the names of examples as titles."""
    from_root = config.extra["from_root"]
    own = from_root.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    on_site = {f"docs/{file.src_uri}": file.src_uri for file in files if file.inclusion.is_included()}
    on_site |= {source: name for name, source in from_root.items()}

    def led(link: re.Match[str]) -> str:
        path = _in_repository(own, link[1])
        target = on_site.get(path) or (path if files.get_file_from_path(path) else None)
        if target is not None:
            return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")
        if not (ROOT / path).exists():
            log.warning("%s: a link leads nowhere: %s", own, link[1])
        return f"{config.repo_url}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"

    return LINK.sub(led, NAMED_FENCE.sub(r'```\1 title="\2"', markdown))


def _in_repository(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
