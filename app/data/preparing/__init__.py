"""From raw records to samples: pure functions on columns, the same for whoever does them."""
