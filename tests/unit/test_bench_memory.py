"""Whether benchmarks are refused that there is no memory for, and what a cgroup leaves."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from streams.cli.bench.benchmark import BENCHMARKS, chosen
from streams.cli.bench.errors import BenchError
from streams.cli.bench.memory import QUICK_GB, cgroup_room_bytes, insist_on_memory


def limit(folder: Path, **files: object) -> None:
    """A cgroup whose files hold this; ``__`` stands for the dot of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_all_that_were_named_are_asked_for_and_those_that_need_too_much_are_said() -> None:
    with pytest.raises(BenchError, match=r"and 3\.9 GB are available; free some, or name the benchmarks") as refused:
        insist_on_memory(chosen([]), False, 3.9e9)
    assert str(refused.value).startswith("catalogue takes about 4.0 GB and reload takes about 5.0 GB of memory")


def test_what_is_just_enough_is_enough() -> None:
    most = max(benchmark.memory_gb for benchmark in BENCHMARKS.values())
    insist_on_memory(chosen([]), False, most * 1e9)
    with pytest.raises(BenchError, match="reload takes"):
        insist_on_memory(chosen([]), False, most * 1e9 - 1)


def test_benchmarks_that_were_not_named_need_nothing() -> None:
    insist_on_memory(chosen(["throughput"]), False, 2e9)


def test_tiny_models_need_little_whatever_is_named() -> None:
    insist_on_memory(chosen([]), True, QUICK_GB * 1e9)
    with pytest.raises(BenchError, match="throughput takes"):
        insist_on_memory(chosen([]), True, QUICK_GB * 1e9 - 1)


def test_the_limit_of_a_cgroup_less_what_it_uses_is_what_it_leaves(tmp_path: Path) -> None:
    limit(tmp_path / "mine", memory__max=5_000, memory__current=2_000)
    assert cgroup_room_bytes(tmp_path, "0::/mine\n") == 3_000


def test_idle_files_count_as_free(tmp_path: Path) -> None:
    limit(tmp_path, memory__max=5_000, memory__current=4_000, memory__stat="anon 3000\ninactive_file 700")
    assert cgroup_room_bytes(tmp_path, "0::/") == 1_700


def test_a_limit_further_up_holds_too(tmp_path: Path) -> None:
    limit(tmp_path / "a", memory__max=900, memory__current=100)
    limit(tmp_path / "a" / "b", memory__max="max", memory__current=50)
    assert cgroup_room_bytes(tmp_path, "0::/a/b") == 800


def test_the_first_version_of_cgroups_is_asked_alike(tmp_path: Path) -> None:
    limit(tmp_path / "memory" / "job", memory__limit_in_bytes=10_000, memory__usage_in_bytes=1_000)
    limit(tmp_path / "memory", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=9_000)
    assert cgroup_room_bytes(tmp_path, "7:cpu,cpuacct:/job\n5:memory:/job\n0::/\n") == 9_000


def test_in_a_container_the_limit_is_at_the_root_whatever_path_the_kernel_names(tmp_path: Path) -> None:
    limit(tmp_path / "memory", memory__limit_in_bytes=4_000, memory__usage_in_bytes=5_000)
    assert cgroup_room_bytes(tmp_path, "5:memory:/docker/0123") == 0


@pytest.mark.parametrize("membership", ["", "0::/none", "3:cpu:/none"])
def test_without_a_limit_there_is_none(membership: str, tmp_path: Path) -> None:
    assert cgroup_room_bytes(tmp_path, membership) == inf
