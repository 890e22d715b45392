"""The product's own functions in the shape that scorers call them."""

import polars as pl

from pipelines.anonymize.text import sanitize_texts
from pipelines.failures.cluster import cluster as clusters_of
from pipelines.failures.distinct import distinct_rows
from pipelines.failures.fingerprint import identify

_SAMPLED, _FEW_REPEAT = 100, 0.9
"""Messages that repeat are told once before they leave Python; whether they do, one of a hundred tells."""


def sanitize(texts: list[str]) -> list[str]:
    """Each text as the pipeline would store it."""
    return sanitize_texts(pl.Series(texts, dtype=pl.String)).to_list()


def cluster(messages: list[str]) -> list[str]:
    """The cluster id of each message, as if all had been said on one day."""
    sample = messages[::_SAMPLED]
    if len(set(sample)) > _FEW_REPEAT * len(sample):
        return _cluster(messages)
    distinct = list(dict.fromkeys(messages))
    cluster_of = dict(zip(distinct, _cluster(distinct), strict=True))
    return [cluster_of[message] for message in messages]


def _cluster(messages: list[str]) -> list[str]:
    identities = identify(pl.Series(messages, dtype=pl.String))
    signatures = identities.unique("signature_id", keep="any").with_columns(day=pl.lit(0))
    members = clusters_of(signatures).members.select("signature_id", "cluster_id")
    distinct, place = distinct_rows(identities.select("signature_id"))
    ids = distinct.join(members, on="signature_id", how="left", maintain_order="left")["cluster_id"].to_list()
    return [ids[one] for one in place.to_list()]
