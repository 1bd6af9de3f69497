"""Runs sweeps: the driver hands the ledger's units to Ray Tune, writes down what comes back, and audits the front."""
