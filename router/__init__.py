"""What should be served, and where? Pure decisions: no Ray, no HTTP, no clock of its own."""
