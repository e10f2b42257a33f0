"""Files wherever they are: local or behind addresses, and what is in those that hold many."""
