"""What happens when one configuration is run."""
