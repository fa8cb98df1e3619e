"""What the API server refuses, `segue validate` refuses too, in the same place; a test with a cluster does the rest."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tests.support.voice_table import Invalid, table, valid_documents, whole_document

from segue.model import VoiceModel, defaulted, missing_digests
from segue.model.explain import explain


@pytest.mark.parametrize("row", table(), ids=lambda row: row.name)
def test_an_invalid_voice_is_refused_in_the_right_place(row: Invalid) -> None:
    if row.in_a_folder:
        assert missing_digests(VoiceModel.parse(row.document).spec)
        return
    with pytest.raises(ValidationError) as caught:
        VoiceModel.model_validate(row.document, by_alias=True, by_name=False)
    fields = [f"{mistake.field}: {mistake.message}" for mistake in explain(caught.value)]
    assert any(row.field in field for field in fields), fields


def test_names_of_rows_differ() -> None:
    names = [row.name for row in table()]
    assert len(names) == len(set(names)) > 200


def test_a_voice_that_says_everything_is_valid() -> None:
    assert defaulted(whole_document())["spec"] == whole_document()["spec"]


def test_valid_voices_are_read_and_written_as_they_are() -> None:
    for document in valid_documents(200, seed=4):
        once = defaulted(document)
        assert defaulted(once) == once
