"""The layouts of data sets."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from encoders.events import EventType
from trainer.datasets import GENRES_100K, Dataset, read_dataset
from trainer.errors import DatasetError


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    data = text.encode(encoding)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def grouplens_100k(folder: Path) -> None:
    flags = "|".join("1" if genre in ("Animation", "Comedy") else "0" for genre in GENRES_100K)
    write(folder, "u.data", "196\t1\t3\t881250949\n186\t302\t4\t881250900\n")
    write(folder, "u.item", f"1|Toy Story (1995)|01-Jan-1995||http://x|{flags}\n302|Misérables|||{flags}\n", "latin-1")
    write(folder, "u.user", "196|49|M|writer|05105\n")


def newer_grouplens(folder: Path) -> None:
    write(folder, "ratings.csv", "userId,movieId,rating,timestamp\n196,1,3.0,881250949\n186,302,4.0,881250900\n")
    write(
        folder,
        "movies.csv",
        'movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n302,"Misérables, Les",(no genres listed)\n',
    )


def streamrec_folder(folder: Path) -> None:
    write(
        folder,
        "events.csv.gz",
        "user_id,item_id,timestamp,event_type,value\n196,1,881250949,rating,3\n186,302,881250900,rating,4\n",
    )
    write(
        folder, "items.csv.gz", "item_id,title,year,categories\n1,Toy Story,1995,Animation|Comedy\n302,Misérables,,\n"
    )
    write(folder, "users.csv.gz", "user_id,age,gender,occupation,zip_code\n196,49,M,writer,05105\n")


def recbole(folder: Path) -> None:
    write(
        folder,
        "ml-100k.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t1\t3\t881250949\n186\t302\t4\t881250900\n",
    )
    write(
        folder,
        "ml-100k.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Comedy\n302\tMisérables\t\t\n",
    )
    write(
        folder,
        "ml-100k.user",
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n196\t49\tM\twriter\t05105\n",
    )


@pytest.mark.parametrize("lay_out", [grouplens_100k, newer_grouplens, streamrec_folder, recbole])
class TestEveryLayout:
    @pytest.fixture
    def dataset(self, lay_out, tmp_path: Path) -> Dataset:
        lay_out(tmp_path)
        return read_dataset(tmp_path)

    def test_interactions_come_in_the_order_of_time(self, dataset: Dataset) -> None:
        first, second = dataset.interactions()
        assert (first.user_id, first.item_id, first.timestamp_ms, first.value) == ("186", "302", 881250900000, 4.0)
        assert (second.user_id, second.item_id, second.timestamp_ms, second.value) == ("196", "1", 881250949000, 3.0)
        assert {first.event_type, second.event_type} == {EventType.RATING}

    def test_items_have_titles_with_the_year_and_genres(self, dataset: Dataset) -> None:
        by_id = {item.item_id: item for item in dataset.items}
        assert by_id["1"].title == "Toy Story (1995)"
        assert by_id["1"].categories == ["Animation", "Comedy"]
        assert "Misérables" in by_id["302"].title

    def test_profiles_keep_zip_codes_as_text(self, dataset: Dataset, lay_out) -> None:
        if lay_out is newer_grouplens:
            assert list(dataset.users) == []
        else:
            assert dataset.users[0].attributes == {
                "age": 49,
                "gender": "M",
                "occupation": "writer",
                "zip_code": "05105",
            }


def test_rows_of_equal_time_stay_in_the_files_order(tmp_path: Path) -> None:
    write(tmp_path, "u.data", "1\t10\t5\t7\n2\t20\t5\t7\n3\t30\t5\t7\n4\t40\t5\t6\n")
    assert [event.user_id for event in read_dataset(tmp_path).interactions()] == ["4", "1", "2", "3"]


def test_a_row_has_the_same_event_id_wherever_reading_starts(tmp_path: Path) -> None:
    write(tmp_path, "x.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t1\t1\n1\t2\t2\n1\t3\t3\n")
    dataset = read_dataset(tmp_path)
    assert [event.event_id for event in dataset.interactions(1)] == ["x-1", "x-2"]
    assert [event.event_id for event in dataset.interactions(0, 2)] == ["x-0", "x-1"]


def test_share_of_the_events_at_the_edges(tmp_path: Path) -> None:
    write(tmp_path, "u.data", "".join(f"1\t{i}\t5\t{i}\n" for i in range(10)))
    dataset = read_dataset(tmp_path)
    assert [dataset.row_at(share) for share in (0.0, 0.8, 1.0)] == [0, 8, 10]
    with pytest.raises(ValueError, match="between 0 and 1"):
        dataset.row_at(1.1)


def test_unknown_event_types_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user_id,item_id,timestamp,event_type,value\n1,2,3,adjust,\n1,2,4,purchase,6\n")
    dataset = read_dataset(tmp_path)
    assert [event.event_type for event in dataset.interactions()] == [EventType.PURCHASE]
    assert list(dataset.skipped.values()) == [1]


def test_rows_that_name_nobody_or_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    """A search needs no item."""
    rows = "ann,x,1,view,\n,x,2,view,\nann,,3,view,\nann,,4,search,\n"
    write(tmp_path, "events.csv", f"user_id,item_id,timestamp,event_type,value\n{rows}")
    dataset = read_dataset(tmp_path)
    assert [(each.event_type.value, each.item_id) for each in dataset.interactions()] == [
        ("view", "x"),
        ("search", None),
    ]
    assert dataset.skipped == {"no user is named": 1, "no item is named": 1}


def test_a_value_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "events.csv", "user_id,item_id,timestamp,event_type,value\n1,2,3,view,train\n")
    assert next(read_dataset(tmp_path).interactions()).value is None


def test_a_folder_without_data_lists_the_layouts_that_were_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError) as raised:
        read_dataset(tmp_path)
    for word in ("u.data", "ratings.csv", "events.csv", "*.inter", "notes.txt", str(tmp_path)):
        assert word in str(raised.value)


def test_a_path_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere is not a folder"):
        read_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("ratings.csv", "userId,movieId,rating\n1,2,3\n", r"ratings.csv line 2 has no column 'timestamp'"),
        ("u.data", "1\t2\t3\tsoon\n", r"u.data line 1: timestamp 'soon' is not a number"),
        ("u.data", "1\t2\t3\tinf\n", r"u.data line 1: timestamp 'inf' is not a number"),
        ("u.data", "", r"u.data holds no interactions: it has no rows"),
        (
            "events.csv",
            "user_id,item_id,timestamp,event_type\n1,2,3,\n",
            r"holds no interactions: 1 rows: event_type ''",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_line(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    write(tmp_path, name, text)
    with pytest.raises(DatasetError, match=complaint):
        read_dataset(tmp_path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.csv.gz").write_bytes(b"not gzip at all")
    with pytest.raises(DatasetError, match=r"events\.csv\.gz is not utf-8 text in columns"):
        read_dataset(tmp_path)


def test_an_item_without_an_id_is_refused(tmp_path: Path) -> None:
    newer_grouplens(tmp_path)
    write(tmp_path, "movies.csv", "movieId,title,genres\n,Toy Story,Animation\n")
    with pytest.raises(DatasetError, match=r"movies\.csv line 2 has no item_id"):
        read_dataset(tmp_path)
