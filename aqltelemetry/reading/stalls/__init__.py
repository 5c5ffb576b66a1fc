"""The stalls of event loops: their details, their places in the code, and what they overlap."""
