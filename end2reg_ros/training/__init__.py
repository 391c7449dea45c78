"""Training of the learned method: data, loops, checks. NumPy makes the data; torch appears only where it learns."""
