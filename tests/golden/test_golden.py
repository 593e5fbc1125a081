"""The wire form of schema 1, held still.

`<record>.full.json` has every field set, `<record>.defaults.json` is what is written of the fewest fields that a
record may have, and `<record>.least.json` is those fewest fields as a producer may send them. A file that has to
change means another schema version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from encoders.records import BundleReference, Interaction, Item, ModelUpdate, Recommendation, Record, UserProfile

FOLDER = Path(__file__).parent / "schema1"
RECORDS: dict[str, type[Record]] = {
    "interaction": Interaction,
    "request": Interaction,
    "item": Item,
    "user": UserProfile,
    "recommendation": Recommendation,
    "model-update": ModelUpdate,
    "bundle-reference": BundleReference,
}


def read(name: str) -> bytes:
    """A golden record as it is on the wire; the file ends with a newline, the record does not."""
    return (FOLDER / f"{name}.json").read_bytes().removesuffix(b"\n")


def with_unknown_fields(value: Any) -> Any:
    """The same JSON with a field of a later schema in every record; flat maps of the user's own are left alone."""
    if isinstance(value, list):
        return [with_unknown_fields(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    maps = {"context", "attributes", "metrics", "embeddings"}
    return {"": 1, "of_schema_2": {"a": [None]}} | {
        key: entry if key in maps else with_unknown_fields(entry) for key, entry in value.items()
    }


@pytest.mark.parametrize("form", ["full", "defaults"])
@pytest.mark.parametrize("name", RECORDS)
def test_a_golden_record_is_read_and_written_byte_by_byte(name: str, form: str) -> None:
    golden = read(f"{name}.{form}")
    assert RECORDS[name].model_validate_json(golden).to_json() == golden


@pytest.mark.parametrize("name", RECORDS)
def test_the_fewest_fields_are_written_with_the_defaults(name: str) -> None:
    record = RECORDS[name].model_validate_json(read(f"{name}.least"))
    assert record == RECORDS[name].model_validate_json(read(f"{name}.defaults"))
    assert record.to_json() == read(f"{name}.defaults")


@pytest.mark.parametrize("form", ["full", "defaults", "least"])
@pytest.mark.parametrize("name", RECORDS)
def test_an_unknown_field_is_ignored_wherever_it_stands(name: str, form: str) -> None:
    golden = read(f"{name}.{form}")
    later = json.dumps(with_unknown_fields(json.loads(golden))).encode()
    assert RECORDS[name].model_validate_json(later) == RECORDS[name].model_validate_json(golden)


@pytest.mark.parametrize("name", RECORDS)
def test_no_field_of_the_fewest_may_be_missing(name: str) -> None:
    least = json.loads(read(f"{name}.least"))
    for field in least:
        with pytest.raises(ValueError, match=field):
            RECORDS[name].model_validate_json(json.dumps({k: v for k, v in least.items() if k != field}))


@pytest.mark.parametrize("name", RECORDS)
def test_the_full_form_sets_every_field(name: str) -> None:
    record = RECORDS[name].model_validate_json(read(f"{name}.full"))
    unset = {"item_id"} if name == "request" else set()
    assert record.model_fields_set == set(RECORDS[name].model_fields) - unset


def test_there_is_no_golden_file_that_no_test_reads() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {f"{name}.{form}.json" for name in RECORDS for form in ("full", "defaults", "least")}
