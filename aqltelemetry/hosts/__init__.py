"""What the hosts have in common: requests, their labels, the life of a recording."""
