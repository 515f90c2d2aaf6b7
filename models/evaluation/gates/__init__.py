"""Gates: whether a challenger may replace the champion, and whether labels may be trained on.

`catalogue` lists the gates, `checks` holds what one says; `comparison` measures champion and
challenger; `referee` judges the labels of a window. Nothing is imported here: what serves needs
`catalogue`, and no torch.
"""
