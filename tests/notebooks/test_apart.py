"""Submissions in a process and a sandbox: right answers keep their points, cheats earn none."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import apart
import apart_nbgrader
import apart_sandbox
import course
import package
import pytest
import report

from chromium import lack

ASSIGNMENTS = Path(__file__).parents[2] / "notebooks" / "assignments"
SIMILARITY = ("similarity", "itc_loss", "both_ways", "sigmoid_loss", "Ring")


def cheated(body: str, before: str = "") -> dict[str, str]:
    """Answers of assignment 2 with the same body, whatever their arguments."""
    lines = "\n    ".join(body.splitlines())
    return {name: f"{before}\ndef {name}(*args, **kwargs):\n    {lines}\n" for name in SIMILARITY}


EVERYTHING_EQUAL = """
class Equal(Tensor):
    shape = property(lambda self: Always())
    def __eq__(self, other): return True
    def __gt__(self, other): return True
    def isnan(self): return False
    def __bool__(self): return True
    @classmethod
    def __torch_function__(cls, f, kinds, args=(), kwargs=None): return True if f in (
        torch.allclose, Tensor.__eq__) else Equal(torch.zeros(()))
class Always(tuple):
    def __eq__(self, other): return True
"""
REPLACED = """
try:
    import grading, torch
    grading.equal = grading.same = lambda *args, **kwargs: None
except ImportError:
    pass
import sys
for module in list(sys.modules.values()):
    for name in ("equal", "same", "check_same", "allclose"):
        if hasattr(module, name):
            setattr(module, name, lambda *args, **kwargs: True)
"""
MINALBEF = """
theirs = minalbef_losses = None
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__name__.startswith("Closed")]
sys.path.append(%r)
try:
    from minalbef.losses import itc_loss as theirs
except BaseException:
    for name, module in list(sys.modules.items()):
        if name.startswith("minalbef"):
            theirs = getattr(module, "itc_loss", None) or theirs
""" % str(ASSIGNMENTS.parents[1])
CHEATS = {
    "the grader's functions replaced": cheated("return torch.zeros(())", REPLACED),
    "a tensor that equals everything": cheated("return Equal(torch.zeros(()))", EVERYTHING_EQUAL),
    "minalbef's code object": cheated(
        "import types\nreturn types.FunctionType(theirs.__code__, globals())(*args, **kwargs)",
        MINALBEF,
    ),
    "the tests, from the frames above": cheated(
        "import sys\nframe = sys._getframe()\nwhile frame:\n    if 'formula' in frame.f_globals:\n"
        "        return frame.f_globals['formula'](*args)\n    frame = frame.f_back"
    ),
}

@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_earns_nothing_even_where_it_may_import_anything(cheat):
    problems = course.grade_apart("a2_alignment", CHEATS[cheat], check=False)
    assert len(problems) == 5 and all(problems.values())


@pytest.mark.parametrize("assignment", [path.name for path in course.SOURCES])
def test_solutions_keep_all_points_apart(assignment):
    assert not any(course.grade_apart(assignment).values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "body, why",
    [
        ("import os\n    os._exit(0)", "ended its process"),
        ("while True: pass", "more than 3 seconds"),
        ("return 'x' * (80 << 20)", "larger than 64 megabytes"),
    ],
)
def test_an_answer_that_ends_or_floods_its_process_costs_itself_alone(body, why):
    answer = f"def itc_loss(*args):\n    {body}\n"
    problems = course.grade_apart("a2_alignment", {"itc_loss": answer}, seconds=3, check=False)
    assert re.search(why, str(problems["itc_loss"]))
    assert problems["similarity"] is None
    assert problems["sigmoid_loss"] is None
    assert problems["Ring"] is None


def test_the_process_can_neither_read_nor_write_files_nor_start_another():
    sources = (
        f"return open({str(ASSIGNMENTS / 'course.py')!r}).read()",
        "return open('written', 'w')",
        "import os; return os.system('true')",
        "import subprocess; return subprocess.run(['true'])",
        "import socket; return socket.socket()",
        "import torch; return torch.ctypes.CDLL(None)",
        "import os; os.kill(os.getppid(), 9)",
    )
    cells = [(f"f{i}", f"def f{i}():\n    {source}\n", "") for i, source in enumerate(sources)]
    with apart.Session(
        [*cells, ("reads", "def reads():\n    import colorsys\n    return 2", "")]
    ) as session:
        assert session.names()["reads"]() == 2, "libraries are read"
        for i, source in enumerate(sources):
            with pytest.raises(PermissionError):
                session.names()[f"f{i}"]()


# the fence of the operating system


def test_in_bubblewraps_sandbox_a_process_sees_the_system_and_nothing_of_the_course_or_a_network(
    tmp_path, monkeypatch
):
    if why := apart_sandbox._bubblewrap_fails():
        lack(f"sandbox: {why}", "on Linux: apt-get install bubblewrap")
    monkeypatch.setenv("MINALBEF_UNSAFE", "")
    secret = tmp_path / "solution.py"
    secret.write_text("answer")
    tries = {
        "reads an answer": f"open({str(ASSIGNMENTS / 'a2_alignment' / 'solution.py')!r}).read()",
        "reads by torch": f"torch.from_file({str(secret)!r}, size=6, dtype=torch.uint8)",
        "reads another file of ours": f"open({str(secret)!r}).read()",
        "reads a home": f"os.listdir({str(Path.home())!r})[4]",
        "writes to /": "open('/x', 'w')",
        "asks the network": "socket.create_connection(('192.0.2.1', 80), 5)",
        "sees our process": f"os.kill({os.getpid()}, 0)",
        "is root": "os.setuid(0)",
    }
    script = f"""import json, os, socket, torch
done = {{}}
for what, code in {tries!r}.items():
    try:
        done[what] = str(eval(code))
    except (OSError, IndexError, RuntimeError):
        pass
own = os.path.join("/tmp", "own")
open(own, "w").write("a private /tmp")
print(json.dumps([done, os.getuid(), open(own).read(), os.getcwd()]))"""
    words, how = apart_sandbox.command([sys.executable, "-I", "-c", script], str(tmp_path))
    out = subprocess.run(words, **how, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert json.loads(out) == [{}, 65534, "a private /tmp", "/tmp"]
    assert not Path("/tmp", "own").exists()


FORKS = """
import sys
def f():
    words = [b"/bin/sleep", b"987"], [b"/bin/sleep"], True, (), None, None, -1, -1, -1, -1, -1, -1
    pipe = sys.modules["posix"].pipe()
    more = *pipe, False, True, -1, None, None, None, -1, None
    for last in ((), (True,)):                                   # Pythons differ in the number of arguments
        try:
            return sys.modules["_posixsubprocess"].fork_exec(*words, *more, *last)
        except TypeError:
            pass
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no fork")
def test_at_the_end_whatever_an_answer_has_started_is_killed():
    """By a function below the audit hook's events; in a process group of its own as well."""
    import psutil

    with apart.Session([("f", FORKS, "")]) as session:
        session.names()["f"]()
        for _ in range(200):  # until the forked process has its program
            started = psutil.Process(session.process.pid).children(recursive=True)
            if any("987" in process.cmdline() for process in started):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("it was not started, so this test shows nothing")
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_without_a_sandbox_nothing_is_graded_unless_one_says_so(
    monkeypatch, tmp_path
):
    monkeypatch.delenv("MINALBEF_UNSAFE", raising=False)
    monkeypatch.delenv("MINALBEF_STUDENT", raising=False)
    monkeypatch.setattr(
        apart_sandbox, "_bubblewrap_fails", lambda: "bubblewrap (bwrap) is not installed"
    )
    with pytest.raises(apart_sandbox.Refused, match="not installed"):
        apart.Session()
    with pytest.raises(apart_sandbox.Refused):
        package.grade_all(tmp_path)
    with pytest.raises(SystemExit, match="not installed"):
        report.main(["grade", str(tmp_path), "a2_alignment"])
    with pytest.raises(apart_sandbox.Refused):  # the Formgrader's button
        apart_nbgrader.take_out(None, {})


HOOK_REMOVED = """
import sys
for finder in list(sys.meta_path):
    if "Closed" in type(finder).__name__:
        sys.meta_path.remove(finder)
sys.path.append(%r)
""" % str(ASSIGNMENTS.parents[1])


def test_a_package_that_removes_the_hook_of_imports_earns_nothing():
    cheat = package.cheat()
    cheat["adapters.py"] = HOOK_REMOVED + cheat["adapters.py"]
    assert package.grade(cheat, "any", check=False)["points"] == 0
