"""What runs leave behind, and what follows from it: files, predictions, metrics, statistics. No torch."""
