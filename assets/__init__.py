"""WHEN and WHERE it runs: Dagster definitions and the command line. Every body is a call into `pipelines`."""
