"""The sweep's folder and the Optuna studies in it."""
