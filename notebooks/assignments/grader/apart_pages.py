"""Pages that show submissions, Formgrader's and the feedback: of their HTML what formats an
answer stays, no more.

Formgrader's pages come from JupyterLab's server: a script in one could read files and start
kernels as the instructor.
"""
import bleach  # comes with nbconvert
from apart_rebuild import ADDRESS
from bleach.css_sanitizer import CSSSanitizer
from nbconvert.filters import markdown2html

TAGS = {"a", "blockquote", "br", "code", "dd", "del", "div", "dl", "dt", "em", "h1",
        "h2", "h3", "h4", "h5", "h6", "hr", "img", "li", "ol", "p", "pre", "s", "span",
        "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"}
ATTRIBUTES = {
    "a": ("title",),
    "img": ("alt", "title", "width", "height"),
    "ol": ("start",),
    "td": ("style",),
    "th": ("style",),
    **dict.fromkeys(("code", "div", "pre", "span"), ("class",)),
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), ("id",))}


def clean(html: str) -> str:
    """HTML with the tags of formatted text, and addresses as in `ADDRESS`; of links https
    and http, too, which wait for a click. Other tags are shown as text."""
    return (
        bleach.clean(html, TAGS, _allowed, protocols={"http", "https", "data"},
                     css_sanitizer=CSSSanitizer(allowed_css_properties=["text-align"])))


def page_of(markdown: str) -> str:
    """Markdown as nbconvert renders it, cleaned."""
    return clean(markdown2html(markdown))


def _allowed(tag: str, name: str, value: str) -> bool:
    if (tag, name) in (("a", "href"), ("img", "src")):
        return bool(ADDRESS.fullmatch(value)) or tag == "a" and value.startswith(
            ("https://", "http://"))
    return name in ATTRIBUTES.get(tag, ())
