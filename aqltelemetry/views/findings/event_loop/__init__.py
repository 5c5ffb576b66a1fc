"""What held or blocked the event loops of workers."""
