"""What has to be true before a promotion, the command that asks a running proxy, and what engines are asked."""
