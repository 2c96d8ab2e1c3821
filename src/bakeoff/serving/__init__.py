"""A trained model at work: predict, explain, export, show."""
