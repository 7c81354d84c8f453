"""What only this repository needs, and no user of the two commands: the demo, the examples, checks of the guides."""
