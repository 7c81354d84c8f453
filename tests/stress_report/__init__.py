"""What the reader of recorded stress tests is made of, in the order in which data flows."""
