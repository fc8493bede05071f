"""What belongs to a runtime: its event loops and its cancellations."""
