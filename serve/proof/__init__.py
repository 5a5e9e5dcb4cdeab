"""The proof: what plans of adapters that no predictor was fitted on are worth, MergeProbe's beside its rivals'."""
