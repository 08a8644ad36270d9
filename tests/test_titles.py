import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.titles import TitleIndex, _fold, display_title

TITLES = [
    "Matrix, The (1999)",
    "Toy Story (1995)",
    "Toy Story 2 (1999)",
    "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)",
    "Seven (a.k.a. Se7en) (1995)",
    "Spider-Man (2002)",
    "WALL·E (2008)",
    "Fast & Furious (2009)",
    "Fast and the Furious, The (2001)",
    "Blade Runner 2049 (2017)",
    "Hamlet (1948)",
    "Hamlet (1990)",
    "Mask (1985)",
    "Mask, The (1994)",
    "Professional, The (Le professionnel) (1981)",
    "Léon: The Professional (a.k.a. The Professional) (Léon) (1994)",
    "Die Hard (1988)",
    "Misérables, Les (2012)",
    "Avventura, L' (1960)",
    "Fahrenheit 9/11 (2004)",
    "Lost (2004–2010)",
    "!!! (2000)",
    "がき (1990)",
]
INDEX = TitleIndex(TITLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the matrix", [0]),
        ("Matrix", [0]),
        ("MATRIX, THE", [0]),
        ("the matrix 1999", [0]),
        ("the matrix (1999)", [0]),
        ("  matrix  ", [0]),
        ("the matrix 2003", []),
        ("matri", []),
        ("toy story", [1]),
        ("toystory 2", [2]),
        ("amelie", [3]),
        ("Amélie", [3]),
        ("le fabuleux destin d’amelie poulain", [3]),
        ("Amelie (Le fabuleux destin d'Amelie Poulain)", [3]),
        ("Amelie (Poulain)", []),
        ("se7en", [4]),
        ("aka se7en", []),
        ("spiderman", [5]),
        ("Spider Man!", [5]),
        ("wall-e", [6]),
        ("fast and furious", [7]),
        ("the fast & the furious", [8]),
        ("blade runner 2049", [9]),
        ("blade runner", []),
        ("Hamlet", [10, 11]),
        ("hamlet 1990", [11]),
        ("mask", [12]),
        ("the mask", [13]),
        ("The Professional", [14]),
        ("the professional 1994", [15]),
        ("leon", [15]),
        ("Hard", []),
        ("les miserables", [17]),
        ("miserables", [17]),
        ("l'avventura", [18]),
        ("fahrenheit 911", [19]),
        ("lost 2004", [20]),
        ("", []),
        ("!!!", []),
        ("かき", []),
        ("がき", [22]),
        ("The", []),
        ("x" * 2000, []),
    ],
)
def test_titles_as_people_write_them(text, expected):
    assert INDEX.find(text) == expected


words = st.text("aAé&'-·() ,が", min_size=1, max_size=8)
titles = st.builds("{} x{}{}".format, words, words, st.sampled_from(["", " (1999)", ", The (x)"]))


@given(titles=st.lists(titles, min_size=1, max_size=5))
def test_a_title_stands_for_itself_however_it_is_written(titles):
    index = TitleIndex(titles)
    for position, title in enumerate(titles):
        for text in (title, title.upper(), title.replace("&", " and "), title.replace("é", "e")):
            assert position in index.find(text)


def test_a_name_of_very_many_items_is_ambiguous():
    index = TitleIndex([f"Intro ({year})" for year in range(1000, 2000)])
    assert len(index.find("intro")) == 1000
    assert len(index.find("intro 1999")) == 1000
    assert index.find("outro") == []


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Matrix, The (1999)", "The Matrix"),
        ("Misérables, Les (2012)", "Les Misérables"),
        ("Avventura, L' (1960)", "L'Avventura"),
        ("Me, Myself & Irene (2000)", "Me, Myself & Irene"),
        ("Crocodile Hunter, Esq. (2000)", "Crocodile Hunter, Esq."),
    ],
)
def test_articles_are_shown_first(title, shown):
    assert display_title(title) == shown


def test_letters_that_unicode_does_not_decompose_are_folded():
    found = [
        _fold(text) for text in ("Żądło, t. 2", "Smørrebrød", "Þórbergur", "Œuvre", "İstanbul")
    ]
    assert found == ["zadlot2", "smorrebrod", "thorbergur", "oeuvre", "istanbul"]
