"""The state track: agents on state vectors, and the classic algorithms that have no pixel version."""
