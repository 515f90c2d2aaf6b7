"""How good and how robust a version is: every figure with an interval and the rows it rests on.

`suite.evaluate` runs a suite, and gives the records of `models.versions.figures`; `subject` and
`adversarial` are what gates, wrapping and tests ask. Nothing is imported here: what serves needs
`certify` and `gates`, and no torch.
"""
