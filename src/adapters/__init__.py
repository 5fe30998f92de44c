"""Short loops that carry frames between a link and one kind of transport; none knows another."""
