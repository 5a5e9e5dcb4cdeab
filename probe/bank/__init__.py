"""The bank: adapters with tasks, training, scores and rows, made to be merged and measured."""
