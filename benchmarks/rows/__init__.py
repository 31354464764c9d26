"""One module per row that can be run, each with `measure(lab) -> RowResult`."""
