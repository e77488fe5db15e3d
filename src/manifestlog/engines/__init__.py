"""The storage engines, one for each kind of location; they never import each other."""
