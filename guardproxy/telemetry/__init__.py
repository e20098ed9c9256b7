"""What is told of the calls: numbers for Prometheus, lines for the log, the latest for the live page."""
