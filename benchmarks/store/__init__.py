"""Speed and size of the stores and the event logs."""
