"""What a run says about itself: log, timers, progress, summary."""
