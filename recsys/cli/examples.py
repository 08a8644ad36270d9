"""Examples of every command, which its `--help` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

EXAMPLES: Final[Mapping[str, Sequence[str]]] = {
    "data list": ["recsys data list"],
    "data get": ["recsys data get ml-latest-small"],
    "data check": [
        "recsys data check data/shop",
        "recsys data check --config shop.toml",
        "recsys data check plays.csv --columns user_id=listener,item_id=track --repeats allow",
    ],
    "data synth": [
        "recsys data synth sample",
        "recsys data synth --kind shop --users 5000 --items 800 data/shop",
    ],
    "train": ["recsys train --source data/ml-latest-small --session-model.epochs 12"],
    "refresh": ["recsys refresh --source data/ml-latest-small"],
    "sweep": ["recsys sweep --config search.toml --cluster 2"],
    "recommend": ["recsys recommend -k 20 --output-dir data/recommendations"],
    "sync": ["recsys sync"],
    "compare": [
        "recsys compare 3f2a91 models:/recsys@champion",
        "recsys compare 3f2a91 90beb1 77c0de --subset validation --json",
    ],
    "report": ["recsys report models:/recsys@champion --open"],
    "serve": [
        "recsys serve",
        "recsys serve path/to/bundle --port 9000 --workers 2",
    ],
    "next": [
        'recsys next "apollo 13" heat',
        "recsys next 150 6 -k 20 --json",
    ],
    "similar": ['recsys similar "the matrix" --model path/to/bundle'],
    "search": ['recsys search "god father"'],
    "explain": ['recsys explain "apollo 13" heat --item casino'],
    "sequences": ['recsys sequences "apollo 13" heat --length 3'],
    "gc": ["recsys gc --days 60", "recsys gc --days 60 --yes"],
    "doctor": ["recsys doctor", "recsys doctor --no-self-test --json"],
}


def epilog(command: str) -> str:
    """The examples of a command for Typer, which joins lines that no empty line separates."""
    examples = EXAMPLES[command]
    return "\n\n".join(["Example:" if len(examples) == 1 else "Examples:", *examples])
