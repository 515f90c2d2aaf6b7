"""The sentences of the page: pure functions of what is known, in words that follow intervals."""
