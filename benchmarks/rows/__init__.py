"""One module a row of the table, each with `measure(lab) -> RowResult`."""
