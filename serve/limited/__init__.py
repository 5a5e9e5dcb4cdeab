"""Work in processes of its own, with limits on memory and time."""
