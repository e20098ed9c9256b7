"""What has to be true before a canary is promoted, the command that asks a running proxy, and what engines are asked."""
