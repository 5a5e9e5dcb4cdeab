"""Signals of the bank's adapters: whose are wanted, how they are measured beside the serving, where they are kept."""
