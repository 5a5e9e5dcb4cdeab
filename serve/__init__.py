"""Make it happen: Ray Serve deployments, HTTP, the controller's loop, metrics and the CLI."""
