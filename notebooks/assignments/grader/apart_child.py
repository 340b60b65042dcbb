"""A process for one submission: it runs the student's source, answers calls with tensors, and
knows no test.

apart.py starts it, by its text and not by its path: nothing here tells where the course lies.
Requests arrive as pickles, from the grader, who is trusted. Answers leave as JSON and raw
bytes, which decode to plain values alone.
"""
import __future__

import ast
import builtins
import importlib.abc
import importlib.util
import io
import itertools
import json
import marshal
import os
import pickle
import random
import struct
import sys
import types
from collections import deque

import einops  # noqa: F401  here, before files are closed
import numpy
import torch
import torch.nn.functional  # noqa: F401
from torch import Tensor, nn

CLOSED = ("minalbef", "emojiscenes", "grading")
ITERATORS = (map, filter, zip, enumerate, reversed, range, types.GeneratorType,
             type({}.keys()), type({}.values()), type({}.items()))
MOST = 100_000                        # that one gives
FORBIDDEN = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "mmap.", "sqlite3.",
             "gc.", "pty.", "winreg.", "_winapi.", "msvcrt.", "fcntl.", "signal.",
             "tempfile.", "webbrowser.", "urllib.", "http.", "pathlib.")


def library_folders():
    """Where Python's own modules and the installed ones are, as sys.path names them."""
    own = (os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix),
           os.path.dirname(os.__file__))
    folders = set()
    for folder in sys.path:
        real = os.path.realpath(folder)
        if os.path.isdir(folder) and real.startswith(own):
            folders.add(real + os.sep)
        if folder.startswith(sys.prefix):
            folders.add(os.path.abspath(folder) + os.sep)
    return tuple(folders)


LIBRARIES = library_folders()


class Closed:
    """Stands for whatever a student's cell gets from minalbef or from the grader."""

    def __getattr__(self, name):
        raise AssertionError("this answer calls minalbef: write it yourself")

    def __call__(self, *args, **kwargs):
        raise AssertionError("this answer calls minalbef: write it yourself")


class ClosedImports(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in CLOSED:
            raise ImportError(f"{name.split('.')[0]} is closed while you are graded: "
                              "write it yourself")


def seal():
    """From here on: no file but the libraries' own, no process, no socket. An audit hook
    cannot be taken out again."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event, args, within=LIBRARIES, forbidden=FORBIDDEN, closed=CLOSED,
             type=type, str=str, int=int, len=len, any=any,
             PermissionError=PermissionError, ImportError=ImportError):
        # builtins can be replaced
        if event in ("open", "os.listdir", "os.scandir"):
            path = args[0]
            if type(path) is int and event == "open":
                return
            inside = []
            if type(path) is str:
                inside = [path[len(folder):] for folder in within
                          if path.startswith(folder)]
            if (not inside or any(rest.startswith(closed) for rest in inside)
                or ".." in path or event == "open" and args[2] & writing):
                raise PermissionError("an answer reads and writes no files")
        elif event == "import" and str.split(args[0], ".")[0] in closed:
            raise ImportError("minalbef is closed while you are graded: "
                              "write it yourself")
        elif event.startswith(forbidden):
            raise PermissionError(f"an answer needs no {event}")

    sys.addaudithook(hook)


class Sources(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules of a package that was handed in, from its texts by path."""

    def __init__(self, files):
        self.files = files

    def find_spec(self, name, path=None, target=None):
        stem = name.replace(".", "/")
        for at, folder in ((f"{stem}/__init__.py", True), (f"{stem}.py", False)):
            if at in self.files:
                return importlib.util.spec_from_loader(name, self, origin=at,
                                                       is_package=folder)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        at = module.__spec__.origin
        exec(compile(self.files[at], at, "exec"), vars(module))


# what grader and child both know: tensors under one number, held equal before and after each call

def restored(raw, kind, shape, stride):
    dtype = getattr(torch, kind)
    flat = torch.empty(0, dtype=dtype)
    if raw:
        flat = torch.frombuffer(bytearray(raw), dtype=dtype)
    value = flat.reshape(shape)
    # as the caller's lies in memory: a view may fail
    try:
        strided = torch.empty_strided(shape, stride, dtype=dtype)
        return strided.copy_(value) if torch.numel(strided) else value
    except RuntimeError:
        # expanded: no memory of its own
        return value


def raw(x):
    """Dtype, shape and bytes of a tensor of whatever class: nothing of a student's is called."""
    with torch._C.DisableTorchFunctionSubclass():
        x = x.detach().cpu().contiguous()
        return (str(x.dtype).removeprefix("torch."), tuple(x.shape),
                x.reshape(-1).view(torch.uint8).numpy().tobytes())


def state(x):
    grad = x.grad if x.is_leaf else None
    return (raw(x), bool(x.requires_grad), x.grad_fn is None,
            None if grad is None else raw(grad))


class Child:
    def __init__(self):
        self.tensors = {}
        self.numbers = {}
        self.seen = {}
        self.graphs = {}
        self.optimizers = {}
        self.generators = {}
        self.objects = {}
        self.new = []
        self.main = sys.modules["__main__"]
        self.answers = {}
        self.failures = {}
        self.next = 1                # odd numbers are the child's, even ones the grader's

    # requests

    def load(self, above, cells, files):
        """A notebook's cells, (name, source, why it is refused), after what is given; or a
        package's files."""
        self.answers = {}
        self.failures = {}
        for name in list(sys.modules):
            if name.split(".")[0] in ("mine", "adapters"):
                del sys.modules[name]
        for finder in list(sys.meta_path):
            if isinstance(finder, Sources):
                sys.meta_path.remove(finder)
        space = {"__name__": "__main__", "__builtins__": builtins, **above}
        main = types.ModuleType("__main__")
        main.__dict__.update(space)
        sys.modules["__main__"] = main
        if files:
            sys.meta_path.insert(0, Sources(files))
            try:
                import adapters
                self.answers = {name: part
                                for name, part in vars(adapters).items()
                                if callable(part)}
            except BaseException as problem:
                self.failures[""] = ("adapters.py cannot be imported: "
                                     f"{type(problem).__name__}: {problem}")
        for name, source, refused in cells:
            before = main.__dict__.get(name)
            why = refused or self.run(source, main.__dict__)
            answer = main.__dict__.get(name)
            if name and (answer is before or refused):
                self.failures[name] = (refused or f"its cell stopped: {why}" if why
                                       else "its cell does not define it")
            elif name:
                self.answers[name] = answer
        return None

    def run(self, source, space):
        """Statement by statement, so that an experiment that fails takes no answer with it.
        -> the first problem"""
        first = None
        flags = 0
        try:
            body = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
            return f"{type(problem).__name__}: {problem}"
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                flags |= sum({getattr(__future__, feature.name).compiler_flag
                              for feature in node.names
                              if hasattr(__future__, feature.name)})
            try:
                exec(compile(ast.Module([node], []), "<answer>", "exec", flags, True),
                     space)
            except BaseException as problem:
                first = first or f"{type(problem).__name__}: {problem}"
        return first

    def call(self, target, args, kwargs):
        if isinstance(target, str):
            if target not in self.answers:
                raise NameError(
                    f"{target}: "
                    f"{self.failures.get(target) or self.failures.get('') or 'not there'}")
            return self.answers[target](*args, **kwargs)
        return self.objects[target](*args, **kwargs)

    def attribute(self, target, name):
        return getattr(self.objects[target], name)

    def backward(self, outs, grads, ins):
        """Gradients of a call's results for its tensors."""
        graphs = [self.graphs[n] for n in outs]
        slopes = torch.autograd.grad(graphs, [self.tensors[n] for n in ins],
                                     [restored(*grad) for grad in grads],
                                     retain_graph=True, allow_unused=True)
        return [None if slope is None else Raw(slope) for slope in slopes]

    # what arrives

    def take(self, n, raw_value, parameter, requires_grad, grad):
        value = restored(*raw_value)
        x = self.tensors.get(n)
        if x is None:
            x = (nn.Parameter(value, requires_grad) if parameter
                 else value.requires_grad_(requires_grad))
            self.tensors[n] = x
            self.numbers[id(x)] = n
        elif x.shape == value.shape and x.dtype == value.dtype:
            x.data.copy_(value)
        else:
            x.data = value
        if x.is_leaf:
            x.requires_grad_(requires_grad)
            new = None if grad is None else restored(*grad)
            if new is not None and x.grad is not None:
                x.grad.data.copy_(new)
            else:
                x.grad = new
        self.seen[n] = state(x)

    def forget(self, numbers):
        for n in numbers:
            for held_by in (self.tensors, self.graphs):
                if self.numbers.get(id(x := held_by.pop(n, None))) == n:
                    del self.numbers[id(x)]
            self.seen.pop(n, None)

    # what leaves

    def tell(self, value, blobs, depth=0):
        """A value as JSON: plain values by themselves, tensors by number, all else as
        something to call."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Raw):
            return ["raw", *blob(raw(value.tensor), blobs)]
        if isinstance(value, Tensor):
            return ["tensor", self.number(value, blobs)]
        if isinstance(value, nn.Module):
            return self.tell_module(value, blobs)
        if isinstance(value, numpy.ndarray):
            return ["array",
                    *blob(raw(torch.from_numpy(numpy.ascontiguousarray(value))), blobs)]
        if isinstance(value, numpy.generic):
            return self.tell(value.item(), blobs, depth)
        # as the caller would draw them
        if isinstance(value, ITERATORS):
            value = list(itertools.islice(value, MOST))
        if depth < 20 and isinstance(value, (tuple, list, deque, set, frozenset)):
            kind = "list"
            if isinstance(value, tuple):
                kind = "tuple"
            elif isinstance(value, (set, frozenset)):
                kind = "set"
            return [kind, *(self.tell(part, blobs, depth + 1) for part in value)]
        if depth < 20 and isinstance(value, dict):
            pairs = []
            for key, part in value.items():
                pairs.append([self.tell(key, blobs, depth + 1),
                              self.tell(part, blobs, depth + 1)])
            return ["dict", *pairs]
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        self.objects[self.next] = value
        self.next += 2
        return ["object", self.next - 2]

    def number(self, x, blobs):
        """Of a tensor that both know, or from now on."""
        if id(x) in self.numbers:
            return self.numbers[id(x)]
        n = self.next
        self.next += 2
        shared = self.sharing_memory(x)
        self.graphs[n] = x
        argument = x
        if not x.is_leaf or x.requires_grad and not isinstance(x, nn.Parameter):
            # as an argument it starts a graph of its own
            argument = x.detach().requires_grad_(x.requires_grad)
        self.tensors[n] = argument
        self.numbers[id(x)] = n
        self.numbers[id(argument)] = n
        self.seen[n] = state(argument)
        self.new.append([n, blob(raw(x), blobs), bool(x.requires_grad),
                         isinstance(x, nn.Parameter), shared])
        return n

    def sharing_memory(self, x):
        """The number of a tensor that is another view of the same memory, or None."""
        for n, twin in self.tensors.items():
            same_memory = twin.data_ptr() == x.data_ptr() and x.numel()
            if same_memory and twin.shape == x.shape and twin.stride() == x.stride():
                return n

    def tell_module(self, module, blobs):
        parts = [[name, type(part).__module__ + "." + type(part).__qualname__,
                  bool(part.training)] for name, part in module.named_modules()]
        number = self.next
        self.next += 2
        # its methods stay here, to be called
        self.objects[number] = module
        return ["module", parts,
                [[name, self.number(p, blobs)]
                 for name, p in module.named_parameters(remove_duplicate=False)],
                [[name, self.number(b, blobs)]
                 for name, b in module.named_buffers(remove_duplicate=False)], number]

    def changes(self, reader, blobs):
        """What the call did to the caller's tensors, lists, modules and generators."""
        tensors = []
        for n, x in list(self.tensors.items()):
            now = state(x)
            if now != self.seen.get(n):
                value, requires_grad, leaf, grad = now
                tensors.append([n, blob(value, blobs), requires_grad, leaf,
                                grad and blob(grad, blobs)])
                self.seen[n] = now
        lists = [[n, [self.tell(part, blobs) for part in items(values)]]
                 for n, (values, was) in reader.lists.items()
                 if len(items(values)) != len(was)
                 or any(a is not b for a, b in zip(items(values), was))]
        modules = []
        for n, (module, was) in reader.modules.items():
            if (now := outline(module)) != was:
                modules.append([n, now[0],
                                [[name, self.number(x, blobs)]
                                 for name, x in held(module)]])
        generators = [[n, list(blob(raw(g.get_state()), blobs))]
                      for n, g in self.generators.items() if n in reader.generators]
        return {"tensors": tensors,
                "lists": lists,
                "modules": modules,
                "generators": generators}


class Raw:
    """A gradient: numbers, and no tensor that anybody holds."""

    def __init__(self, tensor):
        self.tensor = tensor


def blob(raw_value, blobs):
    kind, shape, data = raw_value
    blobs.append(data)
    return [kind, list(shape), len(blobs) - 1]


def items(values):
    # not by an iterator of its own
    return list.__getitem__(values, slice(None))


def held(module):
    return [*module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False)]


def outline(module):
    return [bool(part.training) for part in module.modules()], [
        (name, id(x)) for name, x in held(module)]


class Reader(pickle.Unpickler):
    """What the grader sent: tensors and generators by number, functions and classes of its
    tests by their code."""

    def __init__(self, child, stream):
        super().__init__(stream)
        self.child = child
        self.lists = {}
        self.modules = {}
        self.generators = set()
        self.order = []

    def persistent_load(self, pid):
        kind, n, *more = pid
        if kind == "tensor":
            x = self.child.tensors[n]
            return x
        if kind == "generator":
            g = self.child.generators.setdefault(n, torch.Generator())
            g.set_state(restored(*more[0]))
            self.generators.add(n)
            return g
        if kind == "list":
            if n not in self.lists:
                self.lists[n] = [], None
                self.order.append(n)
            return self.lists[n][0]
        if kind == "optimizer":
            if n not in self.child.optimizers:
                self.child.optimizers[n] = (
                    Reader(self.child, io.BytesIO(more[0])).load())
            return self.child.optimizers[n]
        if kind == "object":
            return self.child.objects[n]
        if kind == "answer":
            return self.child.answers[n]
        return Closed()

    def find_class(self, module, name):
        if module.startswith("minalbef.") and "adapters" in sys.modules:
            module = module.replace("minalbef", "mine")
        if module == "apart_arguments":
            return {"make_function": make_function,
                    "fill_function": fill_function,
                    "make_class": make_class,
                    "fill_class": fill_class,
                    "make_module": self.make_module,
                    "make_list": self.make_list,
                    "fill_list": fill_list,
                    "make_cell": types.CellType,
                    "make_object": object.__new__,
                    "import_module": importlib.import_module}[name]
        return super().find_class(module, name)

    def make_module(self, kind, n):
        module = kind.__new__(kind)
        self.modules[n] = module, None
        return module

    def make_list(self, kind, n):
        result = kind.__new__(kind)
        self.lists[n] = result, None
        return result

    def read(self):
        """The request; then the contents of its lists, which may hold each other."""
        request = self.load()
        filled = 0
        while filled < len(self.order):
            self.lists[self.order[filled]][0].extend(self.load())
            filled += 1
        self.lists = {n: (values, items(values))
                      for n, (values, _) in self.lists.items()}
        self.modules = {n: (module, outline(module))
                        for n, (module, _) in self.modules.items()}
        return request


def make_function(code, name):
    return types.FunctionType(
        marshal.loads(code), {"__builtins__": builtins}, name, None,
        tuple(types.CellType() for _ in marshal.loads(code).co_freevars))


def fill_function(function, values):
    spaces, defaults, keywords, cells, attributes = values
    function.__globals__.update(spaces)
    function.__defaults__ = defaults
    function.__kwdefaults__ = keywords
    for cell, content in zip(function.__closure__ or (), cells):
        if content:
            cell.cell_contents = content[0]
    function.__dict__.update(attributes)


def make_class(name, bases):
    return type(name, bases, {})


def fill_class(target, parts):
    for name, part in parts.items():
        setattr(target, name, part)


def fill_list(target, values):
    attributes, items = values
    target.__dict__.update(attributes)
    list.extend(target, items)


def bound():
    """Four gigabytes of memory, no byte on a disk; where the system has such bounds."""
    try:
        import resource
    except ImportError:                                          # Windows
        return
    for what, most in (("RLIMIT_DATA", 4 << 30), ("RLIMIT_FSIZE", 0),
                       ("RLIMIT_CORE", 0)):
        resource.setrlimit(getattr(resource, what), (most, most))


def serve(stream, out):
    """Answer requests until the grader closes the pipe."""
    child = Child()
    start = True
    while head := stream.read(8):
        data = io.BytesIO(stream.read(struct.unpack("<Q", head)[0]))
        news = pickle.load(data)
        child.forget(news["forget"])
        for tensor in news["tensors"]:
            child.take(*tensor)
        if start:
            bound()
            seal()
            start = False
        torch.set_rng_state(restored(*news["rng"]))
        random.setstate(news["random"])
        torch.set_grad_enabled(news["grad"])
        blobs = []
        child.new = []
        reader = Reader(child, data)
        answer = {}
        try:
            kind, *args = reader.read()
            answer["value"] = child.tell(getattr(child, kind)(*args), blobs)
        except BaseException as problem:
            if isinstance(problem, MemoryError):
                problem = MemoryError("more memory than an answer needs")
            base = next(c for c in type(problem).__mro__ if c.__module__ == "builtins")
            answer = {"raise": [base.__name__, str(problem)[:500]]}
        with torch.no_grad():
            answer |= child.changes(reader, blobs)
        answer["random"] = (None if random.getstate() == news["random"]
                            else random.getstate())
        answer |= {"new": child.new,
                   "rng": blob(raw(torch.get_rng_state()), blobs),
                   "sizes": [len(b) for b in blobs]}
        reply = json.dumps(answer).encode()
        data = b"".join(blobs)
        out.write(struct.pack("<QQ", len(reply), len(data)) + reply + data)
        out.flush()


if __name__ == "__main__":
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    sys.meta_path.insert(0, ClosedImports())
    del quiet, number
    # imports what the first step of any optimiser does
    torch.optim.SGD([nn.Parameter(torch.ones(1))]).step()
    serve(requests, answers)
