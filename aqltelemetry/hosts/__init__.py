"""What the hosts share: requests, their labels, the start and stop of a recording."""
