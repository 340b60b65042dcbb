"""A submission with all that could run, or load, on the page of its reader: each asks for an address of its own."""

SEEN = "http://ran.invalid/"
RUNS = f"void(new/**/Image().src='{SEEN}NAME')"
HOSTILE = {
    "script": f"<script>{RUNS}</script>",
    "onerror": f'<img src="x" onerror="{RUNS}">',
    "onload": f'<svg onload="{RUNS}"></svg>',
    "frame": f'<iframe srcdoc="<script>{RUNS}</script>"></iframe>',
    "details": f'<details open ontoggle="{RUNS}">x</details>',
    "link": f"[link](javascript:{RUNS})",
    "entities": f"[link](java&#115;cript&colon;{RUNS})",
    "files": f"[link](files/javascript:{RUNS})",  # nbconvert strips files/ at the end
    "anchor": f'<a href="javascript:{RUNS}">link</a>',
    "reference": f"[link][it]\n\n[it]: javascript:{RUNS}",
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
            outputs = {"text/html": HOSTILE["script"], "application/javascript": RUNS}
            cell.update(
                execution_count=1,
                outputs=[
                    {
                        "output_type": "display_data",
                        "metadata": {},
                        "data": {kind: text.replace("NAME", kind)},
                    }
                    for kind, text in outputs.items()
                ],
            )
    notebook["metadata"]["widgets"] = {
        "application/vnd.jupyter.widget-state+json": {
            "state": {
                "x": {
                    "model_name": "HTMLModel",
                    "model_module": "@jupyter-widgets/controls",
                    "model_module_version": "2.0.0",
                    "state": {"value": HOSTILE["onerror"]},
                }
            },
            "version_major": 2,
            "version_minor": 0,
        }
    }
    return notebook
