"""The product's own functions in the shape that scorers call them."""

import polars as pl

from pipelines.anonymize.text import sanitize_texts
from pipelines.failures.cluster import cluster as clusters_of
from pipelines.failures.fingerprint import identify


def sanitize(texts: list[str]) -> list[str]:
    """Each text as the pipeline would store it."""
    return sanitize_texts(pl.Series(texts, dtype=pl.String)).to_list()


def cluster(messages: list[str]) -> list[str]:
    """The cluster id of each message, as if all had been said on one day."""
    distinct = pl.Series(list(dict.fromkeys(messages)), dtype=pl.String)
    signatures = identify(distinct)
    members = clusters_of(signatures.with_columns(day=pl.lit(0))).members
    ids = signatures.join(members, on="signature_id", how="left", maintain_order="left")["cluster_id"].to_list()
    if len(ids) == len(messages):
        return ids
    cluster_of = dict(zip(distinct.to_list(), ids, strict=True))
    return [cluster_of[message] for message in messages]
