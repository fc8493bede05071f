"""What follows from a record, an event and an instant. No I/O, no clock, no chance."""
