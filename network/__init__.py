"""What the network is, as a table, and how it wants its pictures."""
