"""How good debates are, measured on recordings: neutral records, metrics with written formulas, honest intervals."""
