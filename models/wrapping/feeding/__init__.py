"""Ways to feed raw rows to a foreign model: scale, layout, order of columns, spelling."""
