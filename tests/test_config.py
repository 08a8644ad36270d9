import json
import re

import pytest
import torch
from pydantic import ValidationError
from threadpoolctl import ThreadpoolController

import recsys.baselines.registry
import recsys.cooccurrence
import recsys.embeddings
import recsys.serving.config
import recsys.sessions  # noqa: F401  defines configurations
from recsys.config import Config, Runtime, available_threads
from recsys.data import DataConfig
from recsys.data.public import public_sources
from recsys.errors import ConfigError

# Arguments without a default.
REQUIRED = {
    "LeaveLastN": {"n": 1},
    "GlobalTimeCut": {"validation_from": "2018-01-01", "test_from": "2018-07-01"},
    "Source": public_sources()["ml-1m"].model_dump(),
}


def leaves(kind):
    """The subclasses without subclasses, only of the library: other tests may define more."""
    below = [leaf for sub in kind.__subclasses__() for leaf in leaves(sub)]
    return below or ([kind] if kind.__module__.startswith("recsys.") else [])


KINDS = leaves(Config)


def to_json(kind):
    return lambda values: kind.model_validate_json(json.dumps(values))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_configurations_have_defaults_and_reject_unknown_keys(kind):
    required = REQUIRED.get(kind.__name__, {})
    config = kind(**required)
    assert kind.model_validate(config.model_dump()) == config
    for create in (lambda values: kind(**values), kind.model_validate, to_json(kind)):
        with pytest.raises(ConfigError, match=r"^no_such_key( = 1)?: no such setting; ") as caught:
            create({"no_such_key": 1, **required})
        assert "\n" not in str(caught.value)
    name = next(iter(kind.model_fields))
    with pytest.raises(ConfigError, match=rf"^{name}( = <object|: )"):
        kind(**{**required, name: object()})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, next(iter(kind.model_fields)), None)


@pytest.mark.parametrize(
    "setting",
    [
        {"seed": -1},
        {"seed": 2**32},
        {"threads": 0},
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"device": "cuda:100"},
        {"precision": "16"},
    ],
)
def test_invalid_runtimes_are_rejected(setting):
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Runtime(**setting)


@pytest.fixture
def with_gpus(monkeypatch):
    """Makes torch find some GPUs of a compute capability."""

    def pretend(n_gpus, capability=(8, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)

    return pretend


@pytest.mark.parametrize(
    ("device", "n_gpus", "expected"),
    [
        ("auto", 1, "cuda"),
        ("auto", 0, "cpu"),
        ("cpu", 1, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_auto_selects_a_gpu_if_there_is_one(with_gpus, device, n_gpus, expected):
    with_gpus(n_gpus)
    assert Runtime(device=device).torch_device() == torch.device(expected)


@pytest.mark.parametrize(
    ("device", "n_gpus", "found"),
    [("cuda", 0, "no GPU"), ("cuda:1", 1, "one GPU"), ("cuda:2", 2, "2 GPUs")],
)
def test_missing_gpu_is_an_error(with_gpus, device, n_gpus, found):
    with_gpus(n_gpus)
    with pytest.raises(ConfigError, match=f"'{device}', but torch finds {found}: use 'auto'"):
        Runtime(device=device).torch_device()


@pytest.mark.parametrize(
    ("precision", "n_gpus", "capabilities", "expected"),
    [
        ("auto", 1, {"avx512_bf16": True}, "32-true"),
        ("auto", 0, {"avx2": True, "avx512_bf16": False}, "32-true"),
        ("auto", 0, {"avx512_bf16": True}, "bf16-mixed"),
        ("auto", 0, {"amx_bf16": True}, "bf16-mixed"),
        ("auto", 0, None, "32-true"),
        ("32-true", 0, {"avx512_bf16": True}, "32-true"),
        ("bf16-mixed", 1, {}, "bf16-mixed"),
        ("bf16-mixed", 0, {}, "bf16-mixed"),
    ],
)
def test_precision_depends_on_the_device_unless_set(
    monkeypatch, with_gpus, precision, n_gpus, capabilities, expected
):
    with_gpus(n_gpus)
    if capabilities is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert Runtime(precision=precision).torch_precision() == expected


def test_a_gpu_without_bf16_computes_in_float32(with_gpus):
    with_gpus(1, capability=(7, 5))
    assert Runtime().torch_precision() == "32-true"
    with pytest.raises(ConfigError, match="capability of cuda is below 8"):
        Runtime(precision="bf16-mixed").torch_precision()


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("threads", "within"), [(2, 2), (None, 3)])
def test_threads_are_limited_only_within_the_block(three_threads, threads, within):
    with Runtime(threads=threads).limit_threads():
        assert torch.get_num_threads() == within
    assert torch.get_num_threads() == 3


def test_threads_are_restored_after_an_error(three_threads):
    with pytest.raises(KeyError), Runtime(threads=1).limit_threads():
        raise KeyError
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": {"method": "leave_last_n", "n": 0}}, "split.n = 0: Input should be greater"),
        ({"split": {"method": "leave_last_n"}}, "split.n: Field required"),
        ({"split": {"method": "leave_last_n", "m": 1}}, "split.m = 1: no such setting"),
        ({"checks": {"duplicates": "keep"}}, "did you mean 'duplicate'?"),
        # Neither a setting of another table nor one of the tables around it.
        ({"filters": {"filter": 1}}, "no such setting; the settings are min_rating, start, end, "),
        ({"filters": {"start": [1]}}, "filters.start = [1]: Input should be a valid integer, or "),
        ({"columns": {"user_id": 1}}, "columns.user_id = 1: Input should be a valid string"),
        ({"zzz": 1}, "zzz = 1: no such setting"),
    ],
)
def test_errors_name_settings_as_users_write_them(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        DataConfig(**settings)


def test_one_limit_holds_for_blas_and_for_this_library(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    controller = ThreadpoolController().select(user_api="blas")
    with Runtime(threads=2).limit_threads():
        assert {pool["num_threads"] for pool in controller.info()} == {2}
        assert available_threads() == 2
        assert available_threads(Runtime(threads=3)) == 3
        with Runtime().limit_threads():
            assert available_threads() == torch.get_num_threads() == 2
        with Runtime(threads=1).limit_threads():
            assert available_threads() == torch.get_num_threads() == 1
        assert available_threads() == torch.get_num_threads() == 2
    assert available_threads() == 5


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("name", ["my.toml", "my.json"])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path, encoding, name):
    text = '{"device": "cpu"}' if name.endswith("json") else "device = 'cpu'\r\nseed = 0\r\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert Runtime.from_file(tmp_path / name) == Runtime(device="cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed = 1".encode("utf-16"), "my.toml: is encoded in UTF-16: save the file in UTF-8"),
        ("a = 1\n# Πώληση".encode("cp1253"), "my.toml: line 2 is not encoded in UTF-8: save the"),
        (None, "my.toml does not exist"),
    ],
    ids=["utf-16", "cp1253", "missing"],
)
def test_a_file_that_cannot_be_decoded_says_what_to_do(tmp_path, content, message):
    if content is not None:
        (tmp_path / "my.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(message)):
        Runtime.from_file(tmp_path / "my.toml")


def test_a_folder_is_no_file_of_settings(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        Runtime.from_file(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "a = {Πώληση = 1}",
        "a = {Verkäufe = 1}",
        "Πώληση = 1",
        "[a.Verkäufe]",
        "x = 1\n\na.Πώληση = 1",
    ],
)
def test_keys_with_other_letters_must_be_quoted(tmp_path, text):
    path = tmp_path / "my.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"TOML: .*; put keys with other .* in quotes$"):
        Runtime.from_file(path)
    path.write_text(re.sub(r"(Πώληση|Verkäufe)", r'"\1"', text), encoding="utf-8")
    with pytest.raises(ConfigError, match="no such setting"):
        Runtime.from_file(path)


@pytest.mark.parametrize("text", ["a = Πώληση", "a = films", "x = 1\na = {b = %d.%m}", "a = [Ω]"])
def test_text_must_be_quoted(tmp_path, text):
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r'TOML: .*; put text in quotes: name = "text"$'):
        Runtime.from_file(tmp_path / "my.toml")


@pytest.mark.parametrize(
    "text", ["a = {b = 1,}", "a =", "a = 1 Πώληση", "a = 'Πώληση", "[a", "a =\nb = 1"]
)
def test_other_mistakes_do_not_ask_for_quotes(tmp_path, text):
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(line \d+, column \d+|end of document)\)$"):
        Runtime.from_file(tmp_path / "my.toml")
