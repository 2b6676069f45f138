from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medglean.data.reference import KEYS, ImageReference
from medglean.errors import ReadError

paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1) | st.text(
    "%#235a/= ,", min_size=1
)
fragments = st.lists(
    st.tuples(st.sampled_from(sorted(KEYS)), st.integers(0, 2**63 - 1)),
    unique_by=lambda pair: pair[0],
).map(tuple)


@given(path=paths, fragment=fragments)
def test_text_and_back_is_the_same_reference(path, fragment):
    reference = ImageReference(path, fragment)

    assert ImageReference.parse(str(reference)) == reference


def test_parts_of_a_reference():
    reference = ImageReference.parse("Möwe 1/c.svs#level=0,x=1024,y=2048,w=512,h=512")

    assert reference.path == "Möwe 1/c.svs"
    assert reference.fragment == (("level", 0), ("x", 1024), ("y", 2048), ("w", 512), ("h", 512))
    assert reference.option("y") == 2048
    assert reference.option("frame") is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a#1.png", "a%231.png"),
        ("a%231.png", "a%25231.png"),
        ("50%25.png", "50%2525.png"),
        ("50%.png", "50%.png"),
        ("a%20b.png", "a%20b.png"),
    ],
)
def test_only_hash_and_its_escapes_are_escaped(path, text):
    assert str(ImageReference(path)) == text
    assert ImageReference.parse(text) == ImageReference(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the path of a file, found none"),
        ("#frame=1", "needs the path of a file, found none"),
        ("a\0b.png", "needs the path"),
        ("a.dcm#", "expected key=number"),
        ("a.dcm#3", "'3' after the '#': expected key=number"),
        ("a.dcm#frame=1,", "'' after the '#'"),
        ("a.dcm#frame=-1", "'frame=-1' after the '#'"),
        ("a.dcm#frame=1.5", "'frame=1.5' after the '#'"),
        ("a.dcm#frame=٣", "after the '#'"),
        ("a.dcm#frame=99999999999999999999", "after the '#'"),
        ("a.dcm#frame=9999999999999999999", "expected a whole number from 0 on"),
        ("a.dcm#frames=1", "unknown key 'frames' in the fragment; the keys are frame, page"),
        ("a.dcm#frame=1,frame=1", "'frame' stands twice"),
        ("case#2.png", "write it as %23"),
    ],
)
def test_bad_reference_is_told(text, message):
    with pytest.raises(ReadError) as caught:
        ImageReference.parse(text)

    assert message in str(caught.value)


def test_bool_is_not_a_number():
    with pytest.raises(ReadError, match="expected a whole number"):
        ImageReference("a.dcm", (("frame", True),))
