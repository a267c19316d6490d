"""Everything that only a GPU can tell, in one run of some minutes."""
