"""WHAT happens to the data: plain functions over Polars frames and SQL. Never imports Dagster."""
