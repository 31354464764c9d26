"""One module for each row, with `measure(lab) -> Outcome`."""
