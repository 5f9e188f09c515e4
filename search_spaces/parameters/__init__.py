"""Types of parameters: ranges, choices, layers, ranks and conditions."""
