"""The documentation as a site: it builds without a warning, and needs no network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

pytest.importorskip("mkdocs")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site. MkDocs checks every link and anchor, and that the navigation has every page."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_has_the_readme_as_its_first_page_and_every_page_of_the_documentation(site):
    assert '<h1 id="sacae">' in (site / "index.html").read_text()
    assert {path.stem for path in ROOT.glob("docs/*.md")} == {path.stem for path in site.glob("docs/*.html")}


def test_no_page_loads_anything_from_elsewhere(site):
    loads = re.compile(r"<(?:script|img|video|source|iframe)\b[^>]*\bsrc=\"?https?:|<link\b[^>]*\bhref=\"?https?:")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    assert [path.name for path in pages if loads.search(path.read_text())] == []
    assert not [path for path in site.rglob("*.css") if re.search(r"(?:url\(|@import)\W*https?:", path.read_text())]


def test_every_equation_is_mathml(site):
    pages = {path: path.read_text() for path in site.glob("docs/*.html")}
    assert sum(text.count("<math ") for text in pages.values()) > 100
    assert not [path.name for path, text in pages.items() if 'class="arithmatex"' in text or "\\math" in text]


def test_the_reference_shows_the_docstrings_of_what_the_package_offers(site):
    text = (site / "docs" / "api.html").read_text()
    for name in ("sacae.make_config", "sacae.train", "sacae.resume", "sacae.load_agent", "sacae.envs.make"):
        assert f'id="{name}"' in text
    assert "Presets and checks are those of the command line." in text


def shape(html):
    """How many of its elements a text has, of those on which two dialects of Markdown may differ."""
    return {
        tag: len(re.findall(rf"<{tag}\b", html)) for tag in ("h2", "h3", "li", "pre", "table", "tr", "em", "strong")
    }


def test_a_page_is_laid_out_on_the_site_as_where_its_file_is_browsed(site):
    browsed = MarkdownIt("commonmark").enable("table")
    for path in [
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("results/README.md"),
        *ROOT.glob("results/*/README.md"),
    ]:
        name = path.relative_to(ROOT)
        if name.name == "api.md":  # its text is in the docstrings
            continue
        built = site / (name.parent / "index.html" if name.name == "README.md" else name.with_suffix(".html"))
        article = re.sub(r'<(span|div) class="equation">.*?</\1>', "", built.read_text(), flags=re.DOTALL)
        article = article[article.index("<article") : article.index("</article>")]
        text = re.sub(r"\$\$.*?\$\$", "", path.read_text(), flags=re.DOTALL)
        assert shape(article) == shape(browsed.render(text)), name
