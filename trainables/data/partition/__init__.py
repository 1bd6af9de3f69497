"""Which image belongs to which split, and the images of the splits as arrays, without torch."""
