"""What the catalogue shows of a table beside its description: its columns, as the data dictionary has them."""

import dagster as dg

from pipelines.warehouse.dictionary import load_dictionary


def column_schema(table: str) -> dict[str, dg.TableSchema]:
    """Metadata of the asset that is this table: name, type, meaning and privacy class of each column."""
    columns = load_dictionary().relation(table).columns
    return {
        "dagster/column_schema": dg.TableSchema(
            [dg.TableColumn(name, of.type, of.text, tags={"privacy": of.privacy.value}) for name, of in columns.items()]
        )
    }
