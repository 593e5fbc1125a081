"""What lies in a folder of bundles, what may go of it, and what is said of names that are not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from encoders.bundle import bundle_reference
from encoders.errors import BundleError
from encoders.records import BundleReference, ModelUpdate
from tests.bundles import announced, sealed, write_model
from trainer.archive.files import locked
from trainer.errors import RegistryError
from trainer.pruning import alone_in, superfluous
from trainer.registry import Registry, role_of


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def models(bundles: Path) -> list[BundleReference]:
    """Four of them, the oldest first."""
    return [write_model(bundles, seed) for seed in range(4)]


def renamed(reference: BundleReference, name: str) -> BundleReference:
    """The same bundle under another model's name."""
    return sealed(reference, model=name)


def versions(registry: Registry) -> list[str]:
    return [entry.version for entry in registry.entries]


def superfluous_of(bundles: Path, keep: int, *updates: ModelUpdate) -> list[str]:
    found = superfluous(Registry.read(bundles), keep, {update.model: update for update in updates})
    return [entry.version for entry in found]


class TestReading:
    def test_bundles_come_newest_first(self, bundles: Path, models: list[BundleReference]) -> None:
        assert versions(Registry.read(bundles)) == [model.version for model in reversed(models)]

    def test_the_archive_and_what_is_being_written_are_no_bundles(
        self, bundles: Path, models: list[BundleReference]
    ) -> None:
        shutil.copytree(models[0].uri, bundles / ".writing-x")
        (bundles / "archive").mkdir()
        (bundles / "archive" / "manifest.json").write_text("{}")
        registry = Registry.read(bundles)
        assert (len(registry.entries), dict(registry.damaged)) == (4, {})

    def test_a_damaged_bundle_is_named_with_the_reason(self, bundles: Path, models: list[BundleReference]) -> None:
        (Path(models[1].uri) / "manifest.json").write_text("{")
        registry = Registry.read(bundles)
        assert len(registry.entries) == 3
        assert "is not JSON" in registry.damaged[models[1].version]
        with pytest.raises(BundleError, match="is not JSON"):
            registry.find(models[1].version)

    @pytest.mark.parametrize(
        ("break_it", "message"),
        [(Path.unlink, "cannot be read: No such file"), (Path.touch, "has 0 bytes, the manifest")],
    )
    def test_a_bundle_whose_files_are_not_all_there_is_damaged(
        self, bundles: Path, models: list[BundleReference], break_it: Callable[[Path], None], message: str
    ) -> None:
        path = Path(models[1].uri) / "weights.safetensors"
        path.rename(bundles / "elsewhere")
        path.touch()
        break_it(path)
        registry = Registry.read(bundles)
        assert len(registry.entries) == 3
        assert message in registry.damaged[models[1].version]

    def test_a_folder_that_is_missing_is_named_with_the_way_out(self, bundles: Path) -> None:
        with pytest.raises(RegistryError, match=r"no folder of bundles .*bundles; `streamrec train` makes it"):
            Registry.read(bundles)

    def test_a_report_that_cannot_be_read_is_as_good_as_none(
        self, bundles: Path, models: list[BundleReference]
    ) -> None:
        (Path(models[0].uri) / "report.json").write_text(json.dumps({"format_version": 9}))
        assert [entry.report for entry in Registry.read(bundles).entries] == [None] * 4

    def test_a_reference_is_what_was_written(self, models: list[BundleReference]) -> None:
        assert bundle_reference(Path(models[0].uri)) == models[0]


class TestFinding:
    @pytest.mark.parametrize("part", [slice(None), slice(-6, None), slice(0, 16)], ids=["whole", "end", "beginning"])
    def test_the_beginning_or_the_end_of_a_version_will_do(
        self, bundles: Path, models: list[BundleReference], part: slice
    ) -> None:
        assert Registry.read(bundles).find(models[2].version[part]).version == models[2].version

    def test_of_a_bundle_and_its_copy_the_folder_tells_which(
        self, bundles: Path, models: list[BundleReference]
    ) -> None:
        shutil.copytree(models[0].uri, bundles / "the-good-one")
        registry = Registry.read(bundles)
        for name in ("the-good-one", models[0].version):
            assert registry.find(name).folder == bundles / name

    def test_what_fits_several_is_refused_with_their_names(self, bundles: Path, models: list[BundleReference]) -> None:
        with pytest.raises(RegistryError, match=f"4 bundles: {models[3].version}.*write more"):
            Registry.read(bundles).find(models[0].version[:4])

    def test_an_unknown_version_is_refused_with_the_near_ones(
        self, bundles: Path, models: list[BundleReference]
    ) -> None:
        missed = models[1].version[:-1] + ("0" if models[1].version[-1] != "0" else "1")
        with pytest.raises(RegistryError, match=f"no model {missed} in .*; near to it are {models[1].version}"):
            Registry.read(bundles).find(missed)

    @pytest.mark.parametrize("name", ["champion", ""])
    def test_what_is_like_none_is_refused_with_the_newest(
        self, bundles: Path, models: list[BundleReference], name: str
    ) -> None:
        newest = ", ".join(model.version for model in models[:0:-1])
        with pytest.raises(RegistryError, match=f"newest are {newest}"):
            Registry.read(bundles).find(name)

    def test_an_empty_folder_says_so(self, bundles: Path) -> None:
        bundles.mkdir()
        with pytest.raises(RegistryError, match="there is no bundle in it"):
            Registry.read(bundles).find("x")


class TestRoles:
    def test_only_what_is_announced_has_one(self, bundles: Path, models: list[BundleReference]) -> None:
        updates = {"gru": announced(models[3], previous=models[0])}
        roles = [role_of(entry, updates) for entry in Registry.read(bundles).entries]
        assert roles == ["serving", None, None, "previous"]

    def test_one_that_serves_is_not_shown_as_the_previous_of_another_name(
        self, bundles: Path, models: list[BundleReference]
    ) -> None:
        updates = {"a": announced(models[3], previous=models[0]), "b": announced(models[0])}
        assert role_of(Registry.read(bundles).entries[-1], updates) == "serving"

    def test_a_bundle_that_is_announced_by_its_place_has_one(
        self, bundles: Path, models: list[BundleReference]
    ) -> None:
        elsewhere = bundles.parent / "link"
        elsewhere.symlink_to(bundles)
        by_place = models[2].model_copy(update={"version": "x", "uri": f"file://{elsewhere}/{models[2].version}"})
        assert role_of(Registry.read(bundles).entries[1], {"gru": announced(by_place)}) == "serving"


class TestPruning:
    def test_the_newest_stay(self, bundles: Path, models: list[BundleReference]) -> None:
        assert superfluous_of(bundles, 4) == []
        assert superfluous_of(bundles, 3) == [models[0].version]
        assert superfluous_of(bundles, 1) == [model.version for model in models[2::-1]]

    def test_the_serving_one_and_its_previous_stay_however_old(
        self, bundles: Path, models: list[BundleReference]
    ) -> None:
        assert superfluous_of(bundles, 1, announced(models[0], previous=models[1])) == [models[2].version]

    def test_what_serves_under_another_name_stays(self, bundles: Path, models: list[BundleReference]) -> None:
        other = announced(models[0]).model_copy(update={"model": "other"})
        assert superfluous_of(bundles, 1, announced(models[3]), other) == [models[2].version, models[1].version]

    def test_each_model_name_has_a_count_of_its_own(self, bundles: Path, models: list[BundleReference]) -> None:
        for model in models[:2]:
            renamed(model, "other")
        assert superfluous_of(bundles, 2) == []
        assert superfluous_of(bundles, 1) == [models[2].version, models[0].version]

    def test_a_copy_under_a_name_of_its_own_stays(self, bundles: Path, models: list[BundleReference]) -> None:
        Path(models[0].uri).rename(bundles / "the-good-one")
        assert superfluous_of(bundles, 1) == [models[2].version, models[1].version]

    def test_a_damaged_one_stays(self, bundles: Path, models: list[BundleReference]) -> None:
        (Path(models[0].uri) / "manifest.json").unlink()
        assert models[0].version not in superfluous_of(bundles, 1)

    def test_nobody_prunes_while_another_is_at_it(self, bundles: Path, models: list[BundleReference]) -> None:
        with alone_in(bundles), pytest.raises(RegistryError, match=r"process \d+.*try again"), alone_in(bundles):
            pass
        with alone_in(bundles), locked(bundles / "another"):
            pass

    def test_a_missing_folder_is_named(self, bundles: Path) -> None:
        with pytest.raises(RegistryError, match="no folder of bundles"), alone_in(bundles):
            pass
