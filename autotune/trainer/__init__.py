"""Search with the user's own `transformers.Trainer` or trainer of TRL: `autotune.tune_trainer`."""
