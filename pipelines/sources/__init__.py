"""Where raw logs come from: one module per kind of source, and one declarative mapping for all of them."""
