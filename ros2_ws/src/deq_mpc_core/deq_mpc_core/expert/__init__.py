"""The expert that policies imitate: knows the whole scene, plans far ahead, and may take its time."""
