"""What text that is not UTF-8 would be in other encodings."""

import pytest

from recsys.data import read_ratings
from recsys.data.charsets import suggest_encodings
from recsys.errors import DataError

TEXTS = {
    "cp1250": "Żółć gęślą jaźń",
    "cp1251": "Код клиента;Книга\nВойна и мир",
    "cp1252": "Käufer;L’Étranger",
    "cp1253": "Κωδικός πελάτη;ISBN;Ημερομηνία",
    "cp1254": "Günlük;Kullanıcı\nŞeker Portakalı",
    "cp1255": "שלום עולם;ספר",
    "cp1256": "كتاب جديد;رقم العميل",
    "cp1257": "Grāmata;lietotājs\nŽvaigždė",
    "cp874": "รหัสลูกค้า;หนังสือ",
    "koi8-r": "Преступление и наказание\nВойна и мир",
    "cp850": "Käufer;Größe",
    "cp932": "ユーザー,本の名前\n吾輩は猫である",
    "gb18030": "用户编号,书名\n红楼梦",
    "cp949": "고객번호,도서명\n채식주의자",
    "big5": "客戶編號,書名\n紅樓夢",
}


def options(content):
    """The encodings that are suggested, and what they read."""
    pairs = (pair.split(" ", 1) for pair in suggest_encodings(content).split(", "))
    return {name: text.strip("'") for name, text in pairs}


@pytest.mark.parametrize("encoding", TEXTS)
def test_the_right_reading_is_among_at_most_four_that_differ(encoding):
    found = options(TEXTS[encoding].encode(encoding))
    assert found[encoding].rstrip("…") in TEXTS[encoding]
    assert len(found) == len({*found.values()}) <= 4


@pytest.mark.parametrize("encoding", ["cp1250", "cp1251", "cp1252", "cp1253", "gb18030", "big5"])
def test_the_right_reading_of_words_is_the_first(encoding):
    assert next(iter(options(TEXTS[encoding].encode(encoding)))) == encoding


def test_a_later_text_is_shown_if_it_tells_encodings_apart():
    # Of these letters, only ő differs between Western and Central Europe.
    found = options("könyv,felhasználó\nőrült\n".encode("cp1250"))
    assert found == {"cp1252": "õrült", "cp1250": "őrült"}


def test_readings_that_are_no_text_are_left_out():
    found = options("Été".encode("cp1252"))
    assert found["cp1252"] == "Été"
    assert not {"cp1251", "cp1253"} & {*found}  # Йtй and Ιtι mix two scripts
    for content in (b"", b"user,item", "Été".encode("utf-16")):
        assert suggest_encodings(content) == ""


def test_a_long_text_is_shortened():
    assert options(("я" * 99).encode("cp1251"))["cp1251"] == "я" * 20 + "…"


def test_the_error_shows_the_readings_of_a_log_and_of_an_item_table(tmp_path):
    log, items = tmp_path / "log.csv", tmp_path / "items.csv"
    readings = r"utf-8 text; set encoding to .*cp1253 'Ζορμπάς'.* or save the file as UTF-8$"
    log.write_text("user_id,item_id\n1,Ζορμπάς\n2,Ζορμπάς\n", encoding="cp1253")
    with pytest.raises(DataError, match=rf"log\.csv, line 2: byte 0xc6 is not {readings}"):
        read_ratings(log)
    log.write_text("user_id,item_id\n1,7\n2,7\n")
    items.write_text("item_id;title\n7;Ζορμπάς\n", encoding="cp1253")
    with pytest.raises(DataError, match=rf"items\.csv, line 2: byte 0xc6 is not {readings}"):
        read_ratings(log)
    titles = read_ratings(log, encoding="cp1253", on_report=lambda _: None).catalogue["title"]
    assert titles.tolist() == ["Ζορμπάς"]
