"""The public API as an application uses it; type checkers read this file, nothing runs it."""

from pathlib import Path
from typing import assert_type

import pandas as pd
import polars as pl

import recsys

log = recsys.read_ratings("ratings.csv", columns={"user_id": "visitor"})
assert_type(log, recsys.Interactions)
assert_type(log.n_items, int)
assert_type(recsys.read_ratings(pd.DataFrame({"user_id": [1]})), recsys.Interactions)
assert_type(recsys.read_ratings(pl.DataFrame({"user_id": [1]})), recsys.Interactions)
core, _ = recsys.k_core(log, 5, 5)
split = recsys.leave_last_out(core)
assert_type(split, recsys.Split)

counts = recsys.count_cooccurrence(split.train, min_rating=4.0)
embeddings = recsys.fit_embeddings(counts, recsys.EmbeddingConfig(dim=32))
assert_type(embeddings, recsys.ItemEmbeddings)
start = recsys.ppmi_embeddings(split.train, dim=32)
config = recsys.SessionConfig(cell="gru", epochs=4)
model = recsys.fit_session_model(split.train, config, item_embeddings=start)
assert_type(model, recsys.SessionModel)

report = recsys.evaluate(model, split, "validation")
assert_type(report, recsys.Report)
table = recsys.comparison_table({"gru": report})
assert_type(table, pd.DataFrame)

rec = recsys.load_recommender(Path("bundle"))
assert_type(rec, recsys.Recommender)
answer = rec.next_items(["Heat (1995)", 150], k=5, exclude=["Casino (1995)"], diversity=0.3)
assert_type(answer, recsys.Recommendations)
titles: list[str] = answer["title"].tolist()
session = rec.session().add("Heat (1995)")
assert_type(session, recsys.Session)
assert_type(rec.index_of(150), int)

with recsys.AutoReloader("models:/recsys@champion") as reloader:
    assert_type(reloader.recommender, recsys.Recommender)
