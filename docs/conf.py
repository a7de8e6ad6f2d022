"""The documentation site: `make docs` builds it, and every warning is an error."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sphinx.application import Sphinx

from rvbuild import __version__

project = "rvbuild"
author = "the rvbuild maintainers"
release = version = __version__

extensions = ["myst_parser"]
exclude_patterns = ["notebooks/.ipynb_checkpoints"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nitpicky = True

html_theme = "furo"
html_title = f"rvbuild {__version__}"
html_show_copyright = False
html_copy_source = False

_TOP = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security_policy",
}
"""Pages at the top of the repository, each with the page of the site that begins with its text."""

_ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#:]+)((?:#[^)\s]*)?)\)")


def setup(app: Sphinx) -> None:
    """Put the pages at the top of the repository, and the notebooks, into the site."""
    app.add_source_suffix(".ipynb", "markdown")
    app.connect("source-read", _read)


def _read(app: Sphinx, name: str, text: list[str]) -> None:
    """Complete the text of a page, and let its links lead to pages of the site."""
    if Path(app.env.doc2path(name)).suffix == ".ipynb":
        text[0] = _of_notebook(text[0])
    source = next((source for source, page in _TOP.items() if page == name), None)
    if source is not None:
        path = _ROOT / source
        app.env.note_dependency(str(path))
        text[0] = _LINK.sub(_moved, path.read_text(encoding="utf-8")) + text[0]
    else:
        up = "../" * (name.count("/") + 1)
        for top, page in _TOP.items():
            text[0] = text[0].replace(f"]({up}{top}", f"]({up.removeprefix('../')}{page}.md")


def _of_notebook(text: str) -> str:
    """Return a notebook, which holds no outputs, as Markdown."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(source if kind == "markdown" else f"```python\n{source}\n```" for kind, source in cells)


def _moved(link: re.Match[str]) -> str:
    """Return a link of a page at the top of the repository as the site has it: of one to no page, its words alone."""
    words, target, anchor = link.groups()
    if target.startswith("docs/"):
        inside = target.removeprefix("docs/")
        return f"[{words}]({inside if Path(inside).suffix else f'{inside}/README.md'}{anchor})"
    return f"[{words}]({_TOP[target]}.md{anchor})" if target in _TOP else words
