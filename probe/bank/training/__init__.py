"""Training one adapter of a bank: its method, its start, its objective, and the Trainer that runs it."""

from probe.bank.training.adapter import BundlePlan, TrainedAdapter, train_adapter
from probe.bank.training.settings import Training
from probe.bank.training.starts import MethodInputs, draw_a_matrices

__all__ = ["BundlePlan", "MethodInputs", "TrainedAdapter", "Training", "draw_a_matrices", "train_adapter"]
