//! Configuration → application → run: one file per command of rocketd.
