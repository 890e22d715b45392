"""The product's own functions in the shape that scorers call them."""

import polars as pl

from pipelines.anonymize.text import sanitize_texts
from pipelines.failures.cluster import cluster as clusters_of
from pipelines.failures.distinct import distinct_rows
from pipelines.failures.fingerprint import identify


def sanitize(texts: list[str]) -> list[str]:
    """Each text as the pipeline would store it."""
    return sanitize_texts(pl.Series(texts, dtype=pl.String)).to_list()


def cluster(messages: list[str]) -> list[str]:
    """The cluster id of each message, as if all had been said on one day."""
    distinct = dict.fromkeys(messages)
    signatures, place = distinct_rows(identify(pl.Series(list(distinct), dtype=pl.String)))
    members = clusters_of(signatures.with_columns(day=pl.lit(0))).members
    ids = signatures.join(members, on="signature_id", how="left", maintain_order="left")["cluster_id"].to_list()
    told = [ids[one] for one in place.to_list()]
    if len(told) == len(messages):
        return told
    cluster_of = dict(zip(distinct, told, strict=True))
    return [cluster_of[message] for message in messages]
