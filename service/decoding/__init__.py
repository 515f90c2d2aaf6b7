"""Bodies to arrays, or what exactly is wrong with them."""
