"""Early forecasts: what an adapter still in training would keep, beside which others, and what could be changed.

Main path: folders -> `seen_adapter` (how far a training has come) -> `comparison` (signals of it and of each known
adapter) -> `early_forecast` (a predictor's answer both ways, with its bound) -> `advice` (what the records say of
settings) -> `sentences`. `forecaster` goes all of it at once; a Trainer callback can call it at each early checkpoint.
"""
