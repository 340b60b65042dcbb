"""The null GPU: builds it, and starts Python on it; tests/nullgpu/nullgpu.c says what it is."""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from checkout import python_path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "nullgpu"
PACKAGES = Path(torch.__file__).parents[1]
TRITON = PACKAGES / "triton" / "backends" / "nvidia"
INCLUDES = (PACKAGES / "nvidia" / "cu13" / "include", PACKAGES / "nvidia" / "cudnn" / "include",
            TRITON / "include")
# torch's libraries that call CUDA, and the source of the one that Triton builds
LIBRARIES = ("c10_cuda", "torch_cuda", "torch_python", "caffe2_nvrtc")
CALLS = re.compile(r"\b(?:__cuda|cuda[A-Z]|cu[A-Z](?!File)|cublas|cudnn|nccl)\w+")


def find_lack() -> str:
    """What the null GPU needs and this machine lacks, as a sentence; "" if there is everything."""
    if not sys.platform.startswith("linux"):
        return "the null GPU needs Linux"
    if not (shutil.which("gcc") and shutil.which("nm")):
        return "the null GPU is built with gcc and binutils, which aren't here"
    if not (torch.version.cuda or "").startswith("13."):
        return f"the null GPU is for torch's build for CUDA 13, not for {torch.version.cuda}"
    if not all(folder.exists() for folder in INCLUDES):
        return "the null GPU needs the headers that pip installs with torch's CUDA build"
    if torch.cuda.is_available():
        return "this machine has a real GPU"
    return ""


def symbols(*options: str) -> set[str]:
    """Names in libraries' tables of symbols."""
    table = subprocess.run(["nm", *options], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].split("@")[0] for line in table.splitlines() if line.split()}


def imports() -> set[str]:
    """The functions of CUDA's libraries that torch and Triton call."""
    names = set()
    for library in LIBRARIES:
        path = PACKAGES / "torch" / "lib" / f"lib{library}.so"
        names |= symbols("--dynamic", "--undefined-only", str(path))
    driver = (TRITON / "driver.c").read_text(encoding="utf-8")
    names |= set(re.findall(r"\b\w+(?=\()", driver))
    return {name for name in names if CALLS.fullmatch(name)}


def build() -> Path:
    """The folder of the built library, as libnullgpu.so and, for Triton, as libcuda.so."""
    source = FOLDER / "nullgpu.c"
    key = source.read_bytes() + Path(__file__).read_bytes() + torch.__version__.encode()
    digest = hashlib.sha256(key).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"nullgpu-{os.getuid()}-{digest}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "libcuda.so").exists():
            compile_library(source, folder)
    return folder


def compile_library(source: Path, folder: Path) -> None:
    """nullgpu.c, and a function that returns 0 for each of torch's imports that it lacks."""
    major, minor = torch.version.cuda.split(".")
    object_file = folder / "nullgpu.o"
    rest = folder / "rest.c"
    compile_c = ["gcc", "-O1", "-fPIC", "-w", f"-DCUDA_VERSION={major}0{minor}0"]
    compile_c += [f"-I{include}" for include in INCLUDES]
    subprocess.run([*compile_c, "-c", str(source), "-o", str(object_file)], check=True)
    missing = sorted(imports() - symbols("--defined-only", str(object_file)))
    lines = [f"int {name}(void) {{ return 0; }}\n" for name in missing]
    rest.write_text("".join(lines), encoding="utf-8")
    subprocess.run([*compile_c, "-shared", str(object_file), str(rest), "-o",
                    str(folder / "libnullgpu.so")], check=True)
    for name in ("libcuda.so.1", "libcuda.so"):
        (folder / name).symlink_to("libnullgpu.so")


def environment() -> dict[str, str]:
    """In which Python meets a null GPU; NULLGPU_DEVICES in it says how many, one by default."""
    folder = build()
    python = os.pathsep.join([str(Path(__file__).parent), python_path(ROOT)])
    return os.environ | {
        "NULLGPU": "1",
        "LD_PRELOAD": str(folder / "libnullgpu.so"),
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": python,
        "OMP_NUM_THREADS": "1",
    }


def run(*words: str, **options: Any) -> subprocess.CompletedProcess:
    """Run a Python script, or `-m MODULE`, with its arguments on the null GPU."""
    return subprocess.run([sys.executable, *words], env=environment(), **options)
