"""Check, repair and doctor: what finds and mends damage."""
