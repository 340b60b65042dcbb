"""The process of one part: `python -m minalbef.gpu_check.worker FOLDER JOB`, see run.run_part."""
import importlib
import json
import sys
from pathlib import Path

from minalbef.config import read_changes
from minalbef.distributed import device_of
from minalbef.gpu_check.parts import Setting, write_result
from minalbef.recipes.launch import follow_launcher


def main() -> None:
    """Run the part and write its result."""
    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    follow_launcher()
    setting = Setting(folder, job["seconds"], device_of("auto"),
                      read_changes(tuple(job["changes"])), job["price"])
    part = importlib.import_module(f"minalbef.gpu_check.{job['name']}")
    write_result(folder, part.check(setting))


if __name__ == "__main__":
    main()
