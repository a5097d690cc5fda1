"""Questions: studies with something to ask, whose answers are kept as small tables and written into one page.

catalog.py    the questions of configs/questions/, by name
points.py     what is kept of a study: a row for each wanted measure of each evaluation
contrasts.py  arms held against each other, corrected for how many; where one passes another; what would have chosen
figures.py    the figure of an answer
page.py       docs/questions.md, from the kept tables alone
"""
