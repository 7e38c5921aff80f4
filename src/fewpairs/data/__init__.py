"""What all kinds of experiment share about files: reading pictures, dealing images to parts, names, atomic writing."""
