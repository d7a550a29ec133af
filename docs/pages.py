"""What mkdocs asks for when it builds the site: pages that are made, and links that hold here and in the repository.

The reference is made from the code, the tour by running its script. The reports in `experiments/`, with their figures
and tables, become pages as they are.
"""

import ast
import contextlib
import io
import posixpath
import re
import tempfile
from pathlib import Path
from typing import Any

import plotly.io
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from plotly.offline import get_plotlyjs

ROOT = Path(__file__).parents[1]
REPORTS = ("README.md", "*.png", "*.csv")  # of each folder in experiments/
LINK = re.compile(r"\]\((?!\w+:|#|/)([^)#\s]+)")
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in `docs/`."""
    made = {**reference.pages(), "tour.md": tour(ROOT / "docs" / "tour.py"), "plotly.js": get_plotlyjs()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    reports = [path for pattern in REPORTS for path in ROOT.glob(f"experiments/*/{pattern}")]
    for path in [*reports, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links between files of the repository become links between pages, whose root is `docs/`."""
    here = page.file.src_uri
    outside = here.startswith("experiments/") or here in ("CONTRIBUTING.md", "CHANGELOG.md")
    folder = posixpath.dirname(here if outside else f"docs/{here}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1])).removeprefix("docs/")
        return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}"

    return LINK.sub(moved, markdown)


def tour(script: Path) -> str:
    """A script of `# %%` cells as a page, with what the cells print and return."""
    _, *parts = CELL.split(script.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    page = ['<script src="../plotly.js"></script>']
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for is_text, cell in zip(parts[::2], parts[1::2], strict=True):
            if is_text:
                page.append(re.sub(r"^# ?", "", cell.strip(), flags=re.MULTILINE))
            else:
                page += [f"```python\n{cell.strip().replace('  # noqa: B018', '')}\n```", *shown(cell, names)]
    return "\n\n".join(page) + "\n"


def shown(cell: str, names: dict[str, Any]) -> list[str]:
    """Run a cell; what it prints, and what its last line is worth."""
    tree = ast.parse(cell)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "tour", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "tour", "eval"), names)
    output = [f'```{{.text .wrapped title="Output"}}\n{printed.getvalue().strip()}\n```'] if printed.getvalue() else []
    if hasattr(value, "to_plotly_json"):
        html = plotly.io.to_html(
            value.update_layout(width=None), full_html=False, include_plotlyjs=False, config={"responsive": True}
        )
        output.append(f'<div class="output">{html}</div>')
    elif hasattr(value, "_repr_html_"):
        output.append(f'<div class="output">{value._repr_html_()}</div>')
    return output
