"""Check, repair and doctor: they find and repair damage."""
