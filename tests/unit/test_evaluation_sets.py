"""Data sets as columns, and how the papers use them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from encoders.events import EVENT_TRAITS, EventType
from encoders.window import WindowRule
from trainer.errors import DatasetError
from trainer.evaluation import sets
from trainer.evaluation.queries import Crop
from trainer.evaluation.sets import DATA_VARIABLE, SplitBy, exams, read_set, set_folder

HEADER = "user_id,item_id,timestamp,event_type,value\n"


def write(folder: Path, rows: str, items: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "events.csv.gz").write_bytes(gzip.compress((HEADER + rows).encode()))
    if items:
        (folder / "items.csv").write_text(items)
    return folder


def test_users_and_items_are_numbered_as_they_come(tmp_path: Path) -> None:
    events = read_set(write(tmp_path, "b,x,1,view,\na,x,2,view,\nb,y,3,view,\n")).events
    assert (events.user_ids, events.item_ids) == (["b", "a"], ["x", "y"])
    assert (events.user_codes.tolist(), events.item_codes.tolist()) == ([0, 1, 0], [0, 0, 1])


def test_events_come_in_the_order_of_time_and_of_the_file_at_one_moment(tmp_path: Path) -> None:
    data = read_set(write(tmp_path, "u,c,7.5,view,2\nu,a,3,view,0\nu,b,3,view,1\n"))
    assert [data.events.item_ids[code] for code in data.events.item_codes] == ["a", "b", "c"]
    assert data.events.times_ms.tolist() == [3000, 3000, 7500]
    assert data.labels.tolist() == ["0", "1", "2"]
    assert data.has_arrival


def test_without_times_users_keep_the_order_of_the_file_and_there_is_no_arrival(tmp_path: Path) -> None:
    data = read_set(write(tmp_path, "u,b,,view,\nu,a,,view,\n"))
    assert [data.events.item_ids[code] for code in data.events.item_codes] == ["b", "a"]
    assert not data.has_arrival


def test_an_event_of_a_strange_type_is_a_view(tmp_path: Path) -> None:
    codes = read_set(write(tmp_path, "u,a,1,interaction,\nu,b,2,purchase,\n")).events.type_codes
    assert codes.tolist() == [EVENT_TRAITS[EventType.VIEW].code, EVENT_TRAITS[EventType.PURCHASE].code]


def test_a_row_that_is_too_short_is_told_by_its_place_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "ROWS_AT_ONCE", 2)
    with pytest.raises(DatasetError, match="row 4 below the header has 3 cells"):
        read_set(write(tmp_path, "u,a,1,view,\nu,b,2,view,\nu,c,3,view,\nu,d,4\n"))


def test_more_rows_than_are_read_at_once_are_all_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "ROWS_AT_ONCE", 2)
    data = read_set(write(tmp_path, "".join(f"u{n % 3},i{n},{n},view,{n}\n" for n in range(5))))
    assert data.events.user_codes.tolist() == [0, 1, 2, 0, 1]
    assert data.labels.tolist() == ["0", "1", "2", "3", "4"]


def test_rows_without_a_user_or_an_item_are_left_out(tmp_path: Path) -> None:
    data = read_set(write(tmp_path, "u,x,1,view,a\n,y,2,view,b\nu,,3,view,c\nu,z,4,view,d\n"))
    assert (data.events.item_ids, data.events.times_ms.tolist()) == (["x", "z"], [1000, 4000])
    assert data.labels.tolist() == ["a", "d"]


def test_categories_are_those_of_the_item_numbers(tmp_path: Path) -> None:
    data = read_set(write(tmp_path, "u,x,1,view,\nu,y,2,view,\n", "item_id,title,categories\ny,,a|b\nz,,c\n"))
    assert data.categories == [[], ["a", "b"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no interactions"),
        ("u,a,1,view,\nu,b,,view,\n", "timestamps in some rows"),
        ("u,a,yesterday,view,\n", "yesterday"),
        ("u,a,1,view,\nu,b,nan,view,\n", "not a number of seconds: 'nan'"),
        ("u,a,inf,view,\n", "not a number of seconds: 'inf'"),
        (",a,1,view,\nu,,2,view,\n", "no interactions"),
        ("u,a,1,view,\nu,b\n", r"row 2 below the header has 2 cells where the header has 5: 'u,b'"),
        ("u,a\nu,b\n", r"row 1 below the header has 2 cells where the header has 5: 'u,a'"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_set(write(tmp_path, rows))


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,timestamp\nu,1\n")
    with pytest.raises(DatasetError, match="no column item_id"):
        read_set(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.csv").touch()
    with pytest.raises(DatasetError, match="no column item_id, timestamp, user_id; it is empty"):
        read_set(tmp_path)


def test_a_folder_without_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set found"):
        read_set(tmp_path)


def test_a_set_that_is_not_there_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    (tmp_path / "something").mkdir()
    with pytest.raises(DatasetError, match=r"no data set 'nothing'.*there is something"):
        set_folder("nothing")


def test_items_that_training_does_not_have_are_dropped_unless_they_are_to_be_kept(tmp_path: Path) -> None:
    rows = "u,a,1,view,train\nu,b,2,view,train\nv,a,3,view,test\nv,new,4,view,test\nv,b,5,view,test\n"
    data = read_set(write(tmp_path / "serenade-sample", rows))
    assert [len(exam.queries()) for kept in (True, False) for exam in exams(data, drop_unknown=kept)] == [1, 2]


ROWS = "".join(f"{user},{item},,interaction,\n" for user in "ab" for item in "wxyz")
TIMED = "".join(f"u,i{n % 4},{n},view,\n" for n in range(20))


def test_a_known_set_is_used_as_its_paper_does(tmp_path: Path) -> None:
    (exam,) = exams(read_set(write(tmp_path / "sasrec-ml-1m", ROWS)))
    assert (exam.name, exam.windows, exam.excluded, exam.has_arrival) == ("leave-one-out", Crop(200), "fed", False)


def test_windows_of_ones_own_take_the_place_of_the_papers(tmp_path: Path) -> None:
    (exam,) = exams(read_set(write(tmp_path / "sasrec-ml-1m", ROWS)), WindowRule(max_len=8))
    assert exam.windows == WindowRule(max_len=8)


def test_windows_as_served_leave_out_what_never_enters_one(tmp_path: Path) -> None:
    rows = "".join(f"u,i{n},{n},{t},{n}\n" for n, t in enumerate(["view", "impression", "click", "dislike", "view"]))
    data = read_set(write(tmp_path / "shop", rows))
    (paper,), (served,) = exams(data, split="leave-one-out"), exams(data, WindowRule(), split="leave-one-out")
    assert len(paper.events) == 5
    assert served.events.offsets.tolist() == [0, 2, 4]
    assert data.admitted(WindowRule()).labels.tolist() == ["0", "2", "4"]
    with pytest.raises(DatasetError, match="shop: no event enters a window; those of purchase would"):
        list(exams(data, WindowRule(event_types=(EventType.PURCHASE,))))


def test_an_unknown_set_is_split_by_time_if_it_has_times_and_else_by_leaving_one_out(tmp_path: Path) -> None:
    assert [exam.name for exam in exams(read_set(write(tmp_path / "timed", TIMED)))] == ["global-time"]
    assert [exam.name for exam in exams(read_set(write(tmp_path / "ordered", ROWS)))] == ["leave-one-out"]


@pytest.mark.parametrize(
    ("split", "n_queries"), [("leave-one-out", 3), ("global-time", 5), ("global-time-last", 2), ("paper", 4)]
)
def test_any_set_may_be_split_otherwise_than_in_its_paper(tmp_path: Path, split: SplitBy, n_queries: int) -> None:
    """Two users take turns after a session of five clicks, which the label makes the test part: 45 events."""
    rows = "".join(f"{'uv'[n % 2]},i{n % 5},{n},view,train\n" for n in range(40))
    rows += "".join(f"w,i{n},{n - 6},view,test\n" for n in range(5))
    data = read_set(write(tmp_path / "serenade-sample", rows))
    assert sum(len(exam.queries()) for exam in exams(data, split=split)) == n_queries


def test_a_set_without_times_is_not_split_by_time(tmp_path: Path) -> None:
    data = read_set(write(tmp_path / "ordered", ROWS))
    with pytest.raises(DatasetError, match=r"ordered says in which order .* cannot be split by time"):
        list(exams(data, split="global-time"))


def test_periods_come_as_an_exam_each(tmp_path: Path) -> None:
    rows = "".join(f"{n // 2},i{n % 2},{n},view,{n // 4}\n" for n in range(12))
    data = read_set(write(tmp_path / "diginetica-ader", rows))
    assert [len(exam.queries()) for exam in exams(data)] == [2, 2]
    assert np.unique(data.labels).tolist() == ["0", "1", "2"]
