"""Evaluation: how well predictors forecast adapters that they have not seen, beside baselines, ablations and claims."""
