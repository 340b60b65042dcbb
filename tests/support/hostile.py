"""A submission with all that could run, or load, on the page of its reader: each asks for an address of its own."""

SEEN = "http://ran.invalid/"
RUNS = f"void(new/**/Image().src='{SEEN}NAME')"
HOSTILE = {
    "script": f"<script>{RUNS}</script>",
    "onerror": f'<img src="x" onerror="{RUNS}">',
    "frame": f'<iframe srcdoc="<script>{RUNS}</script>"></iframe>',
    "link": f"[link](javascript:{RUNS})",
    "anchor": f'<a href="javascript:{RUNS}">link</a>',
    "image": f"![]({SEEN}NAME)",
}  # which tells its owner when and from where it is read
HONEST = """**Because** $a<b$ and `x < y`:

| a | b |
|---|--:|
| 1 | 2 |

```python
for i in range(3): pass
```

![dot](data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7)"""


def hostile(notebook: dict) -> dict:
    """A submission that holds each of these in a written answer, and as outputs and metadata that call for trust."""
    cell = next(cell for cell in notebook["cells"] if "written-" in str(cell["metadata"]))
    cell["source"] = "\n\n".join(
        [HONEST, *(text.replace("NAME", name) for name, text in HOSTILE.items())]
    )
    for cell in notebook["cells"]:
        cell["metadata"]["trusted"] = True
        if cell["cell_type"] == "code":
            data = {"text/html": HOSTILE["script"], "application/javascript": RUNS}
            output = {"output_type": "display_data", "metadata": {}, "data": data}
            cell.update(execution_count=1, outputs=[output])
    notebook["metadata"]["widgets"] = {
        "application/vnd.jupyter.widget-state+json": {"state": {"x": HOSTILE["onerror"]}}
    }
    return notebook
