"""What a saga class says. Nothing in here runs a saga."""
