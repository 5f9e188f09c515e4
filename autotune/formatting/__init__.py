"""Numbers, units and short texts as people read them."""
