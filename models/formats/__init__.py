"""What --model reads besides our own directory: packed files and those of other tools."""
