"""Files scored as requests are: predictions, scores and a verdict on drift, in bounded memory."""
