"""What do adapters do to each other? Files in, records out; knows nothing of Ray, HTTP or SQL."""
