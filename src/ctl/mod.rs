//! One file per command of rocketctl.
