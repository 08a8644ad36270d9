import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.vocabulary import Vocabulary

integers = st.lists(st.integers(-(2**63), 2**63 - 1))
texts = st.lists(st.text(max_size=4))


@given(ids=integers | texts)
def test_ids_are_sorted_and_unchanged(ids):
    vocabulary = Vocabulary.of(ids)
    assert vocabulary.ids.tolist() == sorted(set(ids))
    assert {type(external) for external in vocabulary.ids.tolist()} <= {int, str}


@given(ids=integers | texts)
def test_the_index_of_an_id_is_its_position(ids):
    vocabulary = Vocabulary.of(ids)
    assert [vocabulary.index(external) for external in vocabulary.ids.tolist()] == list(
        range(len(vocabulary))
    )
    assert vocabulary.ids[vocabulary.indices(ids)].tolist() == ids


@pytest.mark.parametrize(
    ("known", "asked", "expected"),
    [
        ([586, 1, 150], [150, 7, 1], [1, -1, 0]),
        ([586, 1, 150], np.array([150, 7, 1]), [1, -1, 0]),
        ([586, 1, 150], [], []),
        (["b", "a"], np.array(["b", "c"], dtype=object), [1, -1]),
        (["1", "007"], ["007", "7", 1], [0, -1, -1]),
        ([], [1], [-1]),
    ],
)
def test_unknown_ids_have_index_minus_one(known, asked, expected):
    indices = Vocabulary.of(known).indices(asked)
    assert indices.tolist() == expected
    assert indices.dtype == np.int32


def test_one_unknown_id_is_an_error():
    with pytest.raises(KeyError, match="7"):
        Vocabulary.of([1, 2]).index(7)


def test_membership_distinguishes_text_from_numbers():
    assert 1 in Vocabulary.of([1, 2])
    assert "1" not in Vocabulary.of([1, 2])


def test_repeated_ids_are_refused():
    with pytest.raises(ValueError, match="2 ids occur more than once"):
        Vocabulary(np.array([1, 1, 2, 2]))


def test_ids_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Vocabulary.of([1, 2]).ids[0] = 3


@pytest.mark.parametrize(
    ("other", "equal"),
    [([2, 1], True), ([1, 3], False), ([1], False), (["1", "2"], False)],
)
def test_vocabularies_are_equal_when_their_ids_are(other, equal):
    vocabulary, other = Vocabulary.of([1, 2]), Vocabulary.of(other)
    assert (vocabulary == other) is equal
    if equal:
        assert hash(vocabulary) == hash(other)


def test_a_vocabulary_differs_from_other_objects():
    assert Vocabulary.of([1, 2]) != [1, 2]
