"""The report of a study or a run, made from its records alone: a page, figures and a table of numbers."""
