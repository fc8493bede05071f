"""What depends on asyncio and trio: event loops, cancellations, generators."""
