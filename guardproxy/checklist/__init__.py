"""What has to be true before a canary is promoted, and the command that asks a running proxy."""
