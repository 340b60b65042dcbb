"""The hub, its client a stub: a run is pushed, and what is fetched is loaded."""
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import same_state
from minalbef import load
from minalbef.cli.main import main

huggingface_hub = pytest.importorskip("huggingface_hub",
                                      reason="pip install -e '.[hub]' brings it")
hub = pytest.importorskip("minalbef.recipes.hub")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A hub in a folder, laid out as its client lays out its cache."""
    cache = tmp_path / "cache"

    def place(name: str) -> Path:
        return cache / f"models--{name.replace('/', '--')}" / "snapshots" / "abc"

    class Api:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id, folder_path, **_):
            shutil.copytree(folder_path, place(repo_id))
            return f"https://huggingface.co/{repo_id}"

    def download(repo_id, allow_patterns=None, **_):
        if not place(repo_id).exists():
            raise huggingface_hub.errors.OfflineModeIsEnabled("no network")
        return str(place(repo_id))
    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub.hub_mixin, "hf_hub_download",
                        lambda repo_id, filename, **_: str(place(repo_id) / filename))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return place


def test_the_example_of_the_page_pushes_a_run_and_loads_it_again(
        remote, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _ = re.findall(r"```python\n(.*?)```",
                         (ROOT / "docs" / "use.md").read_text(encoding="utf-8"), re.S)
    names: dict = {}
    exec(compile(code, "docs/use.md", "exec"), names)
    tiny = load("tiny")
    again = names["again"]
    assert same_state(again.model.state_dict(), tiny.model.state_dict())
    assert again.config == tiny.config
    assert again.path == remote("OWNER/NAME")
    files = {"README.md", "config.json", "tokenizer.json", "model.safetensors", "report.json"}
    for folder in (again.path, Path("runs", "to-share")):
        assert {path.name for path in folder.iterdir()} == files
    assert json.loads((again.path / "config.json").read_text())["task"] == "pretrain"
    third = hub.HubRun.from_pretrained("OWNER/NAME")
    assert isinstance(third, hub.HubRun)
    assert same_state(third.model.state_dict(), tiny.model.state_dict())


def test_commands_take_the_hubs_names_and_leave_its_cache_and_your_runs_as_they_are(
        remote, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hub.HubRun(load("tiny")).push_to_hub("somebody/a-run")
    before = sorted(remote("somebody/a-run").iterdir())
    copy = shutil.copytree(load("tiny").path, Path("runs", "a-run"))
    (copy / "search.png").write_bytes(b"of a run of one's own that has the same name")
    monkeypatch.setattr("sys.argv", ["minalbef", "search", "an apple", "--scenes", "8",
                                     "--run", "hf://somebody/a-run"])
    main()
    assert Path("runs", "hf", "somebody", "a-run", "search.png").exists()
    assert sorted(remote("somebody/a-run").iterdir()) == before
    assert (copy / "search.png").read_bytes() == b"of a run of one's own that has the same name"
    monkeypatch.setattr("sys.argv", ["minalbef", "doctor", "hf://somebody/missing"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    text = capsys.readouterr().err
    assert "somebody/missing cannot be fetched from the hub (no network)" in text
    assert "check name and network" in text
