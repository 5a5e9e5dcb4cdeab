"""Measure a bank: what is asked (`plan`), what was answered (`journal`), and the work in between, on several cores."""
