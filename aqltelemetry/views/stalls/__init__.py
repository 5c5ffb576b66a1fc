"""How stalls of event loops are shown: their colours and letters, and a strip over time."""
