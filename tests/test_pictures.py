"""The pictures of the documents show what the program shows today; `make pictures` takes them."""

from __future__ import annotations

import json
import re

import pictures
import pytest
from conftest import CHECKOUT
from pictures import PICTURES, Picture


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_current_small_and_in_a_document(picture: Picture) -> None:
    made = json.loads(pictures.INPUTS.read_text())
    stale = "what the picture shows has changed: make pictures"
    assert made[picture.name] == pictures.digest(picture), stale
    data = (pictures.FOLDER / picture.name).read_bytes()
    assert len(data) <= pictures.MOST_BYTES
    if picture.name.endswith(".svg"):
        # No font, image or style is loaded from elsewhere.
        assert not re.findall(rb"https?://(?!www\.w3\.org|www\.textualize\.io)[^\s\"<]*", data)
        assert b"/tmp/" not in data
    readme = (CHECKOUT / "README.md").read_text()
    shown = re.findall(r"!\[([^]]+)\]\(docs/pictures/([^)]+)\)", readme)
    assert len(dict(map(reversed, shown))[picture.name]) > 20  # described for who does not see it


def test_no_picture_is_left_over() -> None:
    kept = {path.name for path in pictures.FOLDER.iterdir()} - {"inputs.json"}
    assert kept == {picture.name for picture in PICTURES}


def test_a_digest_does_not_see_comments_and_sees_code() -> None:
    [first, *_] = PICTURES
    assert pictures.digest(first) == pictures.digest(first)
    assert len({pictures.digest(picture) for picture in PICTURES}) == len(PICTURES)
