"""What the hop costs: load, measurement and the report, for guardproxy and its peers on one machine."""
