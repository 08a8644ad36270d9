import pytest

from recsys.data.public import default_source, fetch
from recsys.data.sources import public_sources
from recsys.data.synthetic import SyntheticConfig, write_sample
from recsys.errors import DownloadError

NAME = "ml-latest-small"


@pytest.mark.parametrize("source", public_sources().values(), ids=public_sources())
def test_what_is_known_of_movielens(source):
    assert source.url == f"https://files.grouplens.org/datasets/movielens/{source.name}.zip"
    assert source.home.startswith("https://grouplens.org/datasets/movielens/")
    assert source.bytes < source.max_unpacked_bytes < 20 * source.bytes
    for term in ("commercial", "redistribute", "10.1145/2827872"):
        assert term in source.licence


def test_all_sizes_of_movielens_are_known():
    sizes = ("latest-small", "100k", "1m", "10m", "20m", "25m", "32m")
    assert list(public_sources()) == [f"ml-{size}" for size in sizes]


def test_a_data_set_is_unpacked_without_its_top_folder(server, tmp_path, layout):
    said = []
    sources = server.offer(layout)

    folder = fetch(NAME, tmp_path, notify=said.append, sources=sources)

    assert folder == tmp_path / NAME
    for name, content in layout.items():
        path = tmp_path / name
        assert path.is_dir() if name.endswith("/") else path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert len(said) == 1
    assert "For tests only." in said[0]


def test_what_is_there_is_not_fetched_again(server, tmp_path, layout):
    said = []
    sources = server.offer(layout)
    for _ in range(2):
        fetch(NAME, tmp_path, notify=said.append, sources=sources)
    assert len(server.asked) == 1
    assert len(said) == 1


def test_an_empty_folder_does_not_count(server, tmp_path, layout):
    (tmp_path / NAME).mkdir()
    folder = fetch(NAME, tmp_path, sources=server.offer(layout))
    assert (folder / "ratings.csv").is_file()


def test_the_terms_go_to_stderr_and_no_bar_is_drawn(server, tmp_path, capsys, layout):
    fetch(NAME, tmp_path, sources=server.offer(layout))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "A tiny data set\nhttps://example.org/tiny\nFor tests only.\n"


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(DownloadError, match="'ml-1b'; there are ml-latest-small"):
        fetch("ml-1b", tmp_path)


def test_a_file_in_the_way_is_kept(server, tmp_path, layout):
    (tmp_path / NAME).write_text("precious")
    with pytest.raises(DownloadError, match="is a file, not a folder: move it away"):
        fetch(NAME, tmp_path, sources=server.offer(layout))
    assert (tmp_path / NAME).read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path, layout):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"file/ml-latest-small cannot be written: "):
        fetch(NAME, tmp_path / "file", sources=server.offer(layout))


def closed_port(server, layout):
    # Port 1 needs privileges to listen on, so nobody does.
    return server.offer(layout, url="http://127.0.0.1:1/data.zip")


def test_the_default_is_the_public_data_set(server, tmp_path, layout):
    assert default_source(tmp_path, sources=server.offer(layout)) == tmp_path / NAME


def test_without_a_network_there_are_made_up_ratings(server, tmp_path, layout):
    said = []

    folder = default_source(tmp_path, said.append, sources=closed_port(server, layout))

    assert folder == tmp_path / "synthetic-sample"
    assert (folder / "ratings.csv").is_file()
    assert (folder / "movies.csv").is_file()
    assert len(said) == 1
    assert "\n" not in said[0]
    assert said[0].startswith(f"using made-up ratings in {folder} instead of {NAME}: ")
    assert "refused" in said[0]


def test_made_up_ratings_are_made_once(server, tmp_path, layout):
    own = SyntheticConfig(n_users=5, n_items=20, mean_events=5)
    before = (write_sample(tmp_path / "synthetic-sample", own) / "ratings.csv").read_bytes()
    folder = default_source(tmp_path, sources=closed_port(server, layout))
    assert (folder / "ratings.csv").read_bytes() == before


def test_the_public_data_set_is_taken_when_it_is_there(server, tmp_path, layout):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "ratings.csv").touch()
    assert default_source(tmp_path, sources=closed_port(server, layout)) == tmp_path / NAME


def test_made_up_ratings_never_stand_in_for_wrong_bytes(server, tmp_path, layout):
    sources = server.offer(layout, sha256="0" * 64)
    with pytest.raises(DownloadError, match="SHA-256"):
        default_source(tmp_path, sources=sources)
    assert not list(tmp_path.iterdir())
