"""Sphinx's settings for the site; make_site.py calls it."""
import os
import re

from docutils import nodes
from latex2mathml.converter import convert

project, author, language = "minalbef", "minalbef contributors", "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.githubpages"]
html_theme, html_title = "furo", "minalbef"
html_static_path, html_css_files = ["static"], ["site.css"]
html_extra_path = [os.environ["SITE_BESIDE"]]
html_copy_source = html_show_sphinx = html_show_copyright = html_domain_indices = False
html_math_renderer = "mathml"
pygments_style, pygments_dark_style = "friendly", "monokai"
highlight_language = "none"            # of blocks that name none, such as diagrams

nb_execution_mode = "off"             # outputs are those of the repository
nb_ipywidgets_js = {}                 # nothing comes from another host
nb_merge_streams = True
nb_render_markdown_format = "myst"    # tables that a cell displays
nb_code_prompt_show = "Show this cell's code"
nb_code_prompt_hide = "Hide this cell's code"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_all_links_external = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False    # or every forward has nn.Module's
python_use_unqualified_type_names = True
maximum_signature_line_length = 90
LONGEST_SIGNATURE = 600               # of Config it is a page, and its file says more


def as_rst(app, what, name, found, options, lines: list[str]) -> None:
    """A docstring in reStructuredText: `names` as literals, and lines such as `x: (b, n, d)` kept as lines."""
    made = []
    for paragraph in "\n".join(lines).strip().split("\n\n"):
        words = re.split(r"`([^`]+)`", paragraph)
        words[::2] = (re.sub(r"([\\*_|])", r"\\\1", text) for text in words[::2])
        text = "".join(f"``{word}``\\ " if i % 2 else word for i, word in enumerate(words))
        kept = text.split("\n")
        if len(kept) > 1 and re.search(r"^ *(\S+, )*\S+: |^ *-> ", text, re.M):
            kept = [f"| {line.strip()}" for line in kept]
        made += [*(line.strip() for line in kept), ""]
    lines[:] = made


def shorten(app, what, name, found, options, signature, returns):
    if signature and len(signature) > LONGEST_SIGNATURE:
        return "(...)", returns


def skip(app, what, name, found, skipped, options):
    """Leave out what isn't ours: Python's words on the fields of a named tuple, matplotlib's on a figure."""
    module = getattr(found, "__module__", None) or "minalbef"
    named = (getattr(found, "__doc__", None) or "").startswith("Alias for field number")
    return True if named or not module.startswith("minalbef") else None


def fold(app, doctree) -> None:
    """Each solution closed below its heading."""
    if not app.env.docname.startswith("notebooks/solutions/"):
        return
    for section in doctree.findall(nodes.section):
        if isinstance(section.parent, nodes.section):
            opening = "<details class='solution'><summary>Show the solution</summary>"
            section.insert(1, nodes.raw("", opening, format="html"))
            section.append(nodes.raw("", "</details>", format="html"))


def mathml(self, node) -> None:
    """A formula as MathML, which browsers draw without a script."""
    block = isinstance(node, nodes.math_block)
    found = convert(" ".join(node.astext().split()), display="block" if block else "inline")
    self.body.append(f"<div class='math'>{found}</div>" if block else found)
    raise nodes.SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("autodoc-process-docstring", as_rst)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
    app.connect("doctree-read", fold)
