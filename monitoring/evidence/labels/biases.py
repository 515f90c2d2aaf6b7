"""Why labels can say nothing of the accuracy, in words: biases that no weighting corrects."""

THUMBS_UP = "wrong answers get no labels: the observed accuracy says nothing"
ONLY_FLAGGED = "only flagged requests are recorded: their accuracy says nothing of the others"
BEYOND_REPAIR = (THUMBS_UP, ONLY_FLAGGED)
