"""What `make docs` adds to MkDocs: the repository's own paths, and equations without a script.

Pages have the paths of the repository, so that one link works on the site and where the files are browsed.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

CONTENT = ("*.md", "LICENSE", "CITATION.cff", "docs/**/*", "results/**/*", "benchmarks/**/*", "examples/**/*")
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
PRIMED = re.compile(r"<msup>(<(\w+)>[^<]*</\2>)<mi>&#x02032;</mi></msup>")
"""A letter with a prime. The prime is raised by itself; raised again, it can hardly be seen."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, and those of the repository that readers may open, in place of those of one folder."""
    root = Path(config.config_file_path).parent
    paths = sorted({path for pattern in CONTENT for path in root.glob(pattern) if path.is_file()})
    found = [path.relative_to(root) for path in paths if "__pycache__" not in path.parts]
    ours = [File(path.as_posix(), str(root), config.site_dir, config.use_directory_urls) for path in found]
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *ours])


def on_page_content(content: str, **_: Any) -> str:
    """A page whose equations are MathML, which browsers draw without a script or a font of ours."""
    return EQUATION.sub(lambda found: _mathml(found[1], found[2]), content)


def _mathml(tag: str, latex: str) -> str:
    display = "block" if tag == "div" else "inline"
    mathml = PRIMED.sub(
        r'<mrow>\1<mo lspace="0" rspace="0">&#x02032;</mo></mrow>', convert(html.unescape(latex), display=display)
    )
    return f'<{tag} class="equation">{mathml}</{tag}>'
