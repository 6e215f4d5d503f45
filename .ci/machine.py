"""Says whether promptprobe can be installed here, what is missing, and how much will be downloaded.

Runs before anything is installed, maybe on an old Python: so nothing but the standard library, and
syntax that Python 3.6 reads.
"""

import argparse
import importlib.util
import os
import shutil
import sys

PYTHON = (3, 11)
# Gigabytes on disk for `make demo` and `make test`, by build of torch; `test` installs twice: to
# develop in, and once more into an empty environment, to prove that the wheel works there.
DISK = {("demo", "cpu"): 2.5, ("test", "cpu"): 5, ("demo", "cuda"): 8, ("test", "cuda"): 16}
DOWNLOAD = "about 0.4 GB with a CPU build of torch, 3 GB and more with a CUDA build"


def problems(goal, folder):
    """What keeps `make GOAL` from working here, each with its remedy."""
    found = []
    if sys.version_info < PYTHON:
        found.append(
            "Python {}.{} or newer is needed, and {} is {}.{}. Install one, or name it: "
            "make {} PYTHON=/path/to/python3.12".format(
                PYTHON[0], PYTHON[1], sys.executable, sys.version_info[0], sys.version_info[1], goal
            )
        )
    lacking = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if lacking:
        found.append(
            "{} has no module {}, which virtual environments need. On Debian and Ubuntu: "
            "apt install python3-venv".format(sys.executable, " and ".join(lacking))
        )
    if not os.access(folder, os.W_OK):
        found.append("{} cannot be written to.".format(folder))
    free = shutil.disk_usage(folder).free / 1e9
    if free < DISK[goal, "cpu"]:
        found.append(
            "{} has {:.1f} GB free; make {} needs {} GB at the least.".format(
                folder, free, goal, DISK[goal, "cpu"]
            )
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goal", choices=("demo", "test"))
    parser.add_argument("--torch-index", default="", help="where torch comes from, if chosen")
    parser.add_argument(
        "--folder", default=os.path.abspath(os.curdir), help="where the environment will be"
    )
    options = parser.parse_args()
    found = problems(options.goal, options.folder)
    if found:
        print("promptprobe cannot be installed here yet:", file=sys.stderr)
        for problem in found:
            print("  - " + problem, file=sys.stderr)
        return 1
    print(
        "promptprobe: installing into {}/.venv with Python {}.{}.".format(
            options.folder, sys.version_info[0], sys.version_info[1]
        )
    )
    print("Download, the first time: {}.".format(DOWNLOAD))
    if options.torch_index:
        print("torch comes from {}".format(options.torch_index))
        return 0
    print("torch comes from pip's usual place; on Linux that may be the CUDA build.")
    print("For the CPU build: make {} TORCH=cpu".format(options.goal))
    free = shutil.disk_usage(options.folder).free / 1e9
    if free < DISK[options.goal, "cuda"]:
        print(
            "Only {:.0f} GB of disk are free; a CUDA build needs {} GB: TORCH=cpu is safer.".format(
                free, DISK[options.goal, "cuda"]
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
