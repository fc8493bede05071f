"""What everything speaks of: ids, records, envelopes, errors, time."""
